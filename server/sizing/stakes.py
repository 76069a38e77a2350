"""EvaluateStakes: from the message to `compute.kelly.stakes` and back."""

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
from positionsizing.v1 import edge_service_pb2 as pb

from compute.analytics.evidence import periods_needed, sequential_test
from compute.kelly.growth_guarantee import Guarantee, guaranteed_growth, guaranteed_stake
from compute.kelly.stakes import MULTIPLES_MAX, Asset, Bet, Floor, Stakes, stakes_of
from compute.shapes import KernelRegistry
from server.calls.errors import FieldViolation
from server.convert.columns import floats
from server.convert.ranges import number_violations

MULTIPLES = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
LEVELS = (0.9, 0.7, 0.5)
ROWS_MAX, LEVELS_MAX = MULTIPLES_MAX, 16


def violations(request: pb.EvaluateStakesRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request, by field path."""
    yield from number_violations(request)
    if request.WhichOneof("edge") is None:
        yield FieldViolation("bet", "MISSING", "give either bet or asset")
    if request.HasField("spread") and request.WhichOneof("edge") == "bet":
        yield FieldViolation("spread", "NOT_APPLICABLE", "is of an asset that is traded for ever")
    for name, most in (("kelly_fractions", ROWS_MAX), ("levels", LEVELS_MAX)):
        if len(getattr(request, name)) > most:
            text = f"has {len(getattr(request, name))} entries; at most {most} are accepted"
            yield FieldViolation(name, "TOO_MANY", text)
    pair = ("wealth_floor", "floor_probability")
    for name, other in (pair, pair[::-1]):
        if request.HasField(other) and not request.HasField(name):  # type: ignore[arg-type]
            yield FieldViolation(name, "MISSING", f"goes with {other}")


def evaluate_stakes(
    request: pb.EvaluateStakesRequest, kernels: KernelRegistry
) -> pb.EvaluateStakesResponse:
    """The answer to a checked request; runs in a compute thread. Raises `NotReadyError`."""
    multiples = floats(request.kelly_fractions or MULTIPLES)
    levels = floats(request.levels or LEVELS)
    floor = None
    if request.HasField("wealth_floor"):
        floor = Floor(request.wealth_floor, request.floor_probability)
    level = request.interval_probability if request.HasField("interval_probability") else 0.95
    is_bet = request.WhichOneof("edge") == "bet"
    edge = _bet(request.bet) if is_bet else _asset(request.asset)
    spread = request.spread if request.HasField("spread") else None
    found = stakes_of(edge, multiples, levels, kernels, floor, level, spread)
    response = pb.EvaluateStakesResponse(
        kelly=found.kelly, zero_growth_stake=found.zero_growth, levels=levels
    )
    if found.interval is not None:
        response.kelly_low, response.kelly_high = found.interval
    for name, value in (
        ("kelly_error", found.standard_error),
        ("break_even_probability", found.break_even_probability),
        ("growth_lost", found.growth_lost),
        ("floor_kelly_fraction", found.floor_multiple),
    ):
        if value is not None:
            setattr(response, name, value)
    _rows(response, found)
    if isinstance(edge, Bet) and found.break_even_probability is not None:
        _sequential(response, edge, found.break_even_probability, request)
    if request.HasField("guarantee"):
        _guarantee(response, edge, request.guarantee)
    return response


def _sequential(
    response: pb.EvaluateStakesResponse,
    bet: Bet,
    break_even: float,
    request: pb.EvaluateStakesRequest,
) -> None:
    """Fills how it would be found out that the edge is gone."""
    errors = {
        name: getattr(request, field)
        for name, field in (
            ("false_alarm", "false_alarm_probability"),
            ("missed", "missed_probability"),
        )
        if request.HasField(field)  # type: ignore[arg-type]
    }
    test = sequential_test(np.array([bet.win_probability]), np.array([break_even]), **errors)
    if test is not None:
        response.sequential_test.CopyFrom(pb.SequentialTest(**asdict(test)))


def _guarantee(
    response: pb.EvaluateStakesResponse, edge: Bet | Asset, asked: pb.GrowthGuarantee
) -> None:
    """Fills what growth is kept, of each stake and at best."""
    guarantee = Guarantee(asked.periods, asked.probability)
    if isinstance(edge, Bet):
        p, q, rate = edge.win_probability, 1.0 - edge.win_probability, 0.0
        excess = p * edge.payoff - q * edge.loss_fraction
        deviation = float(np.sqrt(p * q)) * (edge.payoff + edge.loss_fraction)
        side = 1.0  # nothing is staked on the other one
    else:
        rate, deviation = edge.risk_free_rate, edge.volatility
        excess = edge.expected_return - rate
        side = -1.0 if excess < 0.0 else 1.0
    best = guaranteed_stake(side * excess, deviation, rate, guarantee)
    response.guaranteed_stake = side * float(best)
    for row in response.rows:
        mean = rate + row.stake * excess
        growth = float(guaranteed_growth(mean, abs(row.stake) * deviation, guarantee))
        if not np.isnan(growth):
            row.guaranteed_growth = growth


def _bet(message: pb.BetEdge) -> Bet:
    return Bet(
        message.win_probability,
        message.payoff,
        message.loss_fraction if message.HasField("loss_fraction") else 1.0,
        message.outcome_count if message.HasField("outcome_count") else None,
    )


def _asset(message: pb.AssetEdge) -> Asset:
    return Asset(
        message.expected_return,
        message.volatility,
        message.risk_free_rate,
        message.observed_periods if message.HasField("observed_periods") else None,
    )


def _rows(response: pb.EvaluateStakesResponse, found: Stakes) -> None:
    ruin = np.isneginf(found.growth)
    swing = np.where(ruin, np.inf, found.growth_volatility)
    known = periods_needed(found.growth, swing)
    for i, multiple in enumerate(found.multiple):
        row = response.rows.add(
            kelly_fraction=multiple,
            stake=found.stake[i],
            growth=found.growth[i],
            growth_volatility=swing[i],
            doubling_periods=found.doubling_periods[i],
            doubles_before_halving=found.doubles_before_halving[i],
            ever_below=found.ever_below[i],
        )
        for name, column in (
            ("no_trade_low", found.no_trade_low),
            ("no_trade_high", found.no_trade_high),
            ("traded_safe_rate", found.safe_rate),
        ):
            if not np.isnan(column[i]):
                setattr(row, name, column[i])
        if not ruin[i]:
            row.evidence_periods = known[i]
