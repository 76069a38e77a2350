"""Liquidity and execution between the contract and the domain."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from positionsizing.v1 import liquidity_service_pb2 as pb

from compute.market import Market
from compute.optimize.time_limit import checkpoint
from compute.risk.execution import (
    ImpactError,
    Schedule,
    TradingCost,
    linear_impact,
    power_law,
    priced,
    scheduled,
    scheduled_together,
)
from compute.risk.illiquidity import Liquidity
from compute.simulate.history import PriceHistory
from compute.waterfall.trading_costs import DAYS_PER_YEAR
from server.calls.errors import FieldViolation, invalid, invalid_fields, precondition
from server.convert.columns import Floats, Integers, floats, set_floats
from server.convert.market import SCALABLE_KINDS, instrument_violations
from server.convert.matrix import MatrixData, covariance_of, kind_violations
from server.convert.ranges import number_violations

DAYS_DEFAULT, PERIODS_DEFAULT = 1.0, 10
TEMPORARY, PERMANENT = 0.01, 0.1
INSTRUMENTS_MAX = 1000


def measure_violations(request: pb.MeasureLiquidityRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request for measures, but for what `price_history` finds."""
    yield from number_violations(request)
    if not request.HasField("prices"):
        yield FieldViolation("prices", "MISSING", "must be given")
    elif not len(request.prices.volume):
        yield FieldViolation("prices.volume", "MISSING", "says how much was traded")


def measured(history: PriceHistory, found: Liquidity) -> pb.MeasureLiquidityResponse:
    """The measures as a message."""
    response = pb.MeasureLiquidityResponse(
        instrument_ids=history.instrument_ids,
        session_count=found.sessions.tolist(),
        left_out_count=found.left_out.tolist(),
        rank=found.rank.tolist(),
    )
    set_floats(response, "illiquidity", found.illiquidity)
    set_floats(response, "value_traded", found.value_traded)
    return response


def plan_violations(request: pb.PlanExecutionRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request for schedules by itself."""
    yield from number_violations(request)
    names, quantities = request.instrument_ids, request.quantities
    if not 1 <= len(names) <= INSTRUMENTS_MAX:
        text = f"has {len(names)} entries; 1 to {INSTRUMENTS_MAX} are accepted"
        yield FieldViolation("instrument_ids", "OUT_OF_RANGE", text)
    yield from instrument_violations(names, "instrument_ids")
    if len(quantities) != len(names):
        text = f"has {len(quantities)} entries for {len(names)} instruments"
        yield FieldViolation("quantities", "LENGTH_MISMATCH", text)
    given = len(request.shares_outstanding)
    if given not in (0, len(names)):
        text = f"has {given} entries for {len(names)} instruments"
        yield FieldViolation("shares_outstanding", "LENGTH_MISMATCH", text)
    for place in np.flatnonzero(floats(quantities) == 0.0)[:10]:
        text = "is 0; leave out what is not traded"
        yield FieldViolation(f"quantities[{place}]", "OUT_OF_RANGE", text)


def periods_of(request: pb.PlanExecutionRequest) -> int:
    """How many periods, by default 10."""
    return request.period_count if request.HasField("period_count") else PERIODS_DEFAULT


@dataclass(frozen=True)
class Traded:
    """Columns of what is traded, (n,), all > 0: price and spread in money, deviation of a day."""

    price: Floats
    spread: Floats
    daily_volume: Floats
    deviation: Floats
    covariance: Floats | None = None
    """Of prices over a day, money^2, (n, n), where the orders are scheduled together."""

    def cost(self, line: int, temporary: float, permanent: float) -> TradingCost:
        """What moves the price of a line."""
        return linear_impact(
            float(self.spread[line]),
            float(self.daily_volume[line]),
            float(self.price[line] * self.deviation[line]),
            temporary,
            permanent,
        )


def covariance_between(
    request: pb.PlanExecutionRequest, stored: MatrixData, prices: Market
) -> Floats:
    """The covariance of a day's returns of what is traded, (n, n). Raises `Refusal`."""
    if wrong := list(kind_violations(stored.kind, SCALABLE_KINDS, "covariance_matrix_id")):
        raise invalid_fields(wrong)
    matrix = covariance_of(stored, prices, DAYS_PER_YEAR)
    place = {name: i for i, name in enumerate(matrix.instrument_ids)}
    for i, name in enumerate(request.instrument_ids):
        if name not in place:
            text = f"{name!r} is not in the covariance {request.covariance_matrix_id!r}"
            raise invalid(f"instrument_ids[{i}]", "UNKNOWN_INSTRUMENT", text)
    columns = [place[name] for name in request.instrument_ids]
    found = matrix.values[np.ix_(columns, columns)]
    for i in np.flatnonzero(~(np.diag(found) > 0.0))[:1]:
        text = f"{request.instrument_ids[i]!r} has no variance in the covariance"
        raise precondition("NO_VARIANCE", text)
    return found


def traded(
    request: pb.PlanExecutionRequest, prices: Market, covariance: Floats | None = None
) -> Traded:
    """What is traded, in the market. Raises `Refusal` for what it lacks, by name.

    covariance: of a day's returns, whose variances take the place of the market's volatilities.
    """
    names = list(request.instrument_ids)
    place = prices.places(names)
    for i in np.flatnonzero(place < 0)[:1]:
        text = f"{names[i]!r} is not in the market snapshot"
        raise invalid(f"instrument_ids[{i}]", "UNKNOWN_INSTRUMENT", text)
    price = np.abs(prices.price[place])
    volume = _column(prices.average_daily_volume, place, names, "MISSING_AVERAGE_DAILY_VOLUME")
    _column(prices.spread, place, names, "MISSING_SPREAD")
    spread = price * 2.0 * prices.half_spread[place]
    if covariance is not None:
        signed = prices.price[place]
        deviation = np.sqrt(np.diag(covariance))
        return Traded(price, spread, volume, deviation, covariance * np.outer(signed, signed))
    volatility = _column(prices.volatility, place, names, "MISSING_VOLATILITY")
    return Traded(price, spread, volume, volatility / np.sqrt(DAYS_PER_YEAR))


def _column(column: Floats | None, place: Integers, names: list[str], reason: str) -> Floats:
    """A column of the market at `place`; a number that is missing or 0 is refused by name."""
    values = np.zeros(len(names)) if column is None else np.nan_to_num(column[place])
    for i in np.flatnonzero(~(values > 0.0))[:1]:
        words = reason.removeprefix("MISSING_").lower()
        text = f"{names[i]!r} has no {words} above 0 in the market snapshot"
        raise precondition(reason, text, instrument_id=names[i])
    return values


def planned(
    request: pb.PlanExecutionRequest, market: Traded, aversion: float, impact: float
) -> pb.PlanExecutionResponse:
    """The schedules. impact: the coefficient that sizing charges by.

    Raises `Refusal` where periods are too long for the impacts.
    """
    days = request.days if request.HasField("days") else DAYS_DEFAULT
    temporary = request.temporary_share if request.HasField("temporary_share") else TEMPORARY
    permanent = request.permanent_share if request.HasField("permanent_share") else PERMANENT
    periods, even = periods_of(request), np.linspace(1.0, 0.0, periods_of(request) + 1)
    response = pb.PlanExecutionResponse(risk_aversion=aversion)
    set_floats(response, "times", np.linspace(0.0, days, periods + 1))
    quantities = floats(request.quantities)
    costs = [market.cost(line, temporary, permanent) for line in range(len(quantities))]
    try:
        alone = [
            scheduled(units, days, periods, cost, aversion)
            for units, cost in zip(quantities.tolist(), costs, strict=True)
        ]
    except ImpactError as error:
        text = f"{error}; more periods, or a larger permanent_share"
        raise invalid("period_count", "OUT_OF_RANGE", text) from error
    straights = [priced(q * even, days, c) for q, c in zip(quantities, costs, strict=True)]
    made = alone
    if market.covariance is not None:
        basket = (quantities, days, periods, costs, market.covariance, aversion)
        left = scheduled_together(*basket)
        made = [priced(left[:, i], days, cost) for i, cost in enumerate(costs)]
        _basket(response.basket, (made, straights, alone), market.covariance, days)
    for line, (best, straight) in enumerate(zip(made, straights, strict=True)):
        checkpoint()
        units = float(quantities[line])
        out = response.schedules.add(
            instrument_id=request.instrument_ids[line],
            urgency=best.urgency,
            expected_cost=best.cost,
            cost_deviation=best.cost_deviation,
            straight_cost=straight.cost,
            straight_deviation=straight.cost_deviation,
        )
        if impact > 0.0:
            share = abs(units) / float(market.daily_volume[line])
            out.square_root_cost = impact * float(market.deviation[line]) * np.sqrt(share)
        set_floats(out, "left", best.left)
        set_floats(out, "trades", best.trades)
        if len(request.shares_outstanding):
            volume, deviation = float(market.daily_volume[line]), float(market.deviation[line])
            out.power_law_permanent, out.power_law_cost = power_law(
                abs(units), days, volume, deviation, request.shares_outstanding[line]
            )
    return response


def _basket(
    message: pb.BasketCost,
    schedules: tuple[list[Schedule], list[Schedule], list[Schedule]],
    covariance: Floats,
    days: float,
) -> None:
    """Fills what the orders cost together: as planned, straight, and each planned alone."""
    for name, parts in zip(("expected", "straight", "apart"), schedules, strict=True):
        left = np.stack([part.left for part in parts], axis=1)[1:]
        variance = days / len(left) * float(((left @ covariance) * left).sum())
        setattr(message, f"{name}_cost", sum(part.cost for part in parts))
        deviation = "cost_deviation" if name == "expected" else f"{name}_deviation"
        setattr(message, deviation, float(np.sqrt(max(variance, 0.0))))
