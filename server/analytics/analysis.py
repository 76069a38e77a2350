"""Recorded decisions held against what came: from messages to `compute.analytics` and back."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

import numpy as np
from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import (
    edge_service_pb2,
    simulation_service_pb2,
    sizing_pb2,
    types_pb2,
)

from compute.analytics.effectiveness import (
    Outcome,
    against,
    best_constant_multiple,
    chosen_growth,
    growth_by_stage,
)
from compute.analytics.evidence import SequentialResult, growth_evidence, sequential_result
from compute.analytics.forecasts import bet_forecast, growth_forecast
from compute.analytics.period_return import returns
from compute.analytics.return_forecasts import Scores
from compute.market import Floats, Integers, Market
from compute.optimize.time_limit import checkpoint
from compute.simulate.growth_ledger import ledger_of
from server.analytics.attribution import Held, attribute, attribute_factors
from server.analytics.return_forecasts import Forecast, message_of
from server.convert.columns import floats, integers
from server.convert.recorded import stage_weights
from server.convert.simulation_answer import interval, stage_growth
from server.market.price_adjustment import Marks


@dataclass(frozen=True)
class Decided:
    """A recorded decision: what was asked, on which snapshot, and what was answered."""

    decision_id: UUID
    snapshot_id: str
    signals: sizing_pb2.SignalBatch
    answer: sizing_pb2.SizingDecision
    scenario_matrix_id: str = ""
    strategy_id: str = ""


@dataclass(frozen=True)
class Line:
    """Sized lines of a decision with what came of them."""

    outcome: Outcome
    rows: Integers
    """Places of the lines in the request."""
    decided: Decided
    unpriced: tuple[str, ...] = ()
    """Instruments of sized lines that have no later price."""


@dataclass(frozen=True)
class Valued:
    """Decisions with a later price, in the order they were made, and how many were left out.

    left_out: decisions, by reason. unpriced: lines of the others, by instrument.
    """

    lines: list[Line]
    periods: list[Held]
    left_out: Counter[str]
    unpriced: Counter[str]

    def forecasts(self) -> list[Forecast]:
        """What their lines were said to return, and what they did."""
        return [
            Forecast(
                line.decided.signals,
                line.decided.answer.edges,
                line.decided.scenario_matrix_id,
                line.rows,
                line.outcome.side * line.outcome.simple_return,
            )
            for line in self.lines
        ]


def valued(decided: Sequence[Decided], marks: Marks, end: str) -> Valued:
    """Each decision at the snapshot of the next one, the last at `end`.

    Raises `Refusal` where a price is missing.
    """
    found = Valued([], [], Counter(), Counter())
    for place, item in enumerate(decided):
        checkpoint()
        later = decided[place + 1].snapshot_id if place + 1 < len(decided) else end
        if later == item.snapshot_id:
            reason = "SUPERSEDED" if place + 1 < len(decided) else "NO_LATER_PRICE"
            found.left_out[reason] += 1
            continue
        before, after = marks.markets[item.snapshot_id], marks.later(item.snapshot_id, later)
        line = _valued(item, before, after)
        if line is None:
            found.left_out["NO_LATER_PRICE"] += 1
        else:
            found.lines.append(line)
            found.unpriced.update(line.unpriced)
            ids = [item.answer.sizes.instrument_ids[row] for row in line.rows]
            found.periods.append((ids, line.outcome.stages[-1], before, after))
    return found


def analyze(
    found: Valued,
    scores: Sequence[Scores],
    benchmark: pb.BenchmarkWeights | None = None,
    factors: pb.FactorExposures | None = None,
) -> pb.AnalyzeDecisionsResponse:
    """Everything about valued decisions but their shortfall.

    scores: of their forecast returns. benchmark: what they are attributed against; factors: what
    their return and risk are divided among.
    """
    response = pb.AnalyzeDecisionsResponse(
        decisions=len(found.lines),
        lines=sum(len(line.rows) for line in found.lines),
        left_out=[
            simulation_service_pb2.NamedCount(name=name, count=count)
            for name, count in sorted(found.left_out.items())
        ],
        return_forecast=message_of(scores),
        unpriced_lines=[
            simulation_service_pb2.NamedCount(name=name, count=count)
            for name, count in sorted(found.unpriced.items(), key=lambda item: (-item[1], item[0]))
        ],
    )
    if found.lines:
        _effectiveness(response, [line.outcome for line in found.lines])
        _forecasts(response, found.lines)
    if benchmark is not None:
        against_it = attribute(found.periods, benchmark)
        if against_it is not None:
            response.attribution.CopyFrom(against_it)
    if factors is not None:
        by_factor = attribute_factors(found.periods, factors)
        if by_factor is not None:
            response.factor_attribution.CopyFrom(by_factor)
    return response


def _valued(item: Decided, before: Market, after: Market) -> Line | None:
    """The lines that were sized and have a price on both snapshots; None where there is none."""
    ids = item.answer.sizes.instrument_ids[:]
    first, last = before.places(ids), after.places(ids)
    sized = integers(item.answer.sizes.line_status) != types_pb2.LINE_STATUS_REFUSED
    is_priced = (first >= 0) & (last >= 0)
    rows = np.flatnonzero(sized & is_priced)
    if not len(rows):
        return None
    unpriced = tuple(ids[row] for row in np.flatnonzero(sized & ~is_priced))
    moved = returns(before, after, first[rows], last[rows])
    side = np.where(integers(item.signals.side)[rows] == types_pb2.SIDE_SHORT, -1.0, 1.0)
    outcome = Outcome(stage_weights(item.answer)[:, rows], side, moved)
    return Line(outcome, rows, item, unpriced)


def _effectiveness(response: pb.AnalyzeDecisionsResponse, outcomes: list[Outcome]) -> None:
    ledger = ledger_of(growth_by_stage(outcomes))
    if np.isfinite(ledger.start):
        response.stage_growth.CopyFrom(stage_growth(ledger))
    for item in against(outcomes):
        response.counterfactuals.append(
            pb.CounterfactualGrowth(
                name=item.name, growth=item.growth, difference=interval(item.difference)
            )
        )
    response.best_multiple, response.best_growth = best_constant_multiple(outcomes)
    evidence = growth_evidence(chosen_growth(outcomes))
    if evidence is not None:
        needed = evidence.periods_needed
        response.evidence.CopyFrom(
            pb.GrowthEvidence(
                growth=evidence.growth,
                deviation=evidence.deviation,
                t_statistic=evidence.t_statistic,
                decisions_needed=needed if np.isfinite(needed) else None,
            )
        )


def _forecasts(response: pb.AnalyzeDecisionsResponse, found: list[Line]) -> None:
    expected, realised, claimed, break_even, won = [], [], [], [], []
    decision = list[Integers]()
    for number, line in enumerate(found):
        weight, moved = line.outcome.stages[-1], line.outcome.simple_return
        held = (weight != 0.0) & (1.0 + weight * moved > 0.0)
        expected.append(floats(line.decided.answer.sizes.expected_growth)[line.rows][held])
        realised.append(np.log1p((weight * moved)[held]))
        signals = line.decided.signals
        if len(signals.win_probability):
            p, b = (
                floats(column)[line.rows] for column in (signals.win_probability, signals.payoff)
            )
            given = floats(signals.loss_fraction)
            a = given[line.rows] if len(given) else np.ones(len(line.rows))
            is_bet = (p > 0.0) & (b > 0.0)
            claimed.append(p[is_bet])
            break_even.append((a / (a + b))[is_bet])
            won.append((line.outcome.side * moved > 0.0)[is_bet].astype(float))
            decision.append(np.full(len(won[-1]), number))
    growth = growth_forecast(joined(expected), joined(realised))
    if growth is not None:
        response.growth_forecast.CopyFrom(
            pb.GrowthForecast(
                expected=growth.expected,
                realised=growth.realised,
                difference=interval(growth.difference),
                slope=growth.slope,
                slope_error=growth.slope_error,
            )
        )
    p, even, x = joined(claimed), joined(break_even), joined(won)
    bets = bet_forecast(p, even, x, np.concatenate(decision)) if decision else None
    if bets is not None:
        stopped = sequential_result(p, even, x)
        response.bet_forecast.CopyFrom(
            pb.BetForecast(
                bets=bets.bets,
                brier=bets.brier,
                brier_base=bets.brier_base,
                log_loss=bets.log_loss,
                e_value_gone=bets.e_value_gone,
                e_value_edge=bets.e_value_edge,
                bins=[pb.ReliabilityBin(claimed=c, won=w, count=n) for c, w, n in bets.bins],
                sequential=None if stopped is None else _sequential(stopped),
            )
        )


def _sequential(found: SequentialResult) -> pb.SequentialResult:
    verdict = pb.SEQUENTIAL_VERDICT_GOES_ON
    if found.is_gone is not None:
        gone, holds = pb.SEQUENTIAL_VERDICT_GONE, pb.SEQUENTIAL_VERDICT_HOLDS
        verdict = gone if found.is_gone else holds
    return pb.SequentialResult(
        test=edge_service_pb2.SequentialTest(**asdict(found.test)),
        log_ratio=found.log_ratio,
        verdict=verdict,
        bets=found.bets,
    )


def joined(parts: list[Floats]) -> Floats:
    """All parts one after another; empty where there is none."""
    return np.concatenate(parts) if parts else np.zeros(0)
