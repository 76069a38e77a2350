"""What time does to the parameters of one decision: looked up once, then part of its record.

A replay reads the multipliers from the record and comes nowhere near here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from positionsizing.v1 import sizing_pb2, sizing_service_pb2

from compute.adapt.adjustment import (
    Adjustment,
    aged,
    conditional,
    edge_multiplier,
    floored,
    fraction_multiplier,
    scheduled,
)
from compute.adapt.condition import ConditionRule, Observation
from compute.adapt.line_rules import conditional_lines, scheduled_lines
from compute.parameters import EffectiveParameters
from server import decision_inputs
from server.conditions import OBSERVATIONS_MAX, key_of
from server.errors import invalid
from server.portfolio_state import PortfolioState


def adapted(
    context: decision_inputs.DecisionInputs,
    request: sizing_service_pb2.SizePositionsRequest,
    now: datetime,
    equity: float,
    state: PortfolioState,
) -> decision_inputs.DecisionInputs:
    """The context with what the rules of its parameters come to at `now`. Raises `Refusal`."""
    found = of_state(state, now, equity)
    found += _of_lines(state, request.signals.instrument_ids, now)
    found += _aged(context.parameters, request.signals, now)
    if not found:
        return context
    parameters = replace(
        context.parameters,
        fraction_multiplier=fraction_multiplier(found),
        edge_multiplier=edge_multiplier(found),
    )
    return replace(context, parameters=parameters, adjustments=tuple(found))


def of_state(state: PortfolioState, now: datetime, equity: float | None) -> list[Adjustment]:
    """What clock, conditions and drawdown come to, whatever the signals; equity None: not known."""
    parameters = state.parameters
    found = scheduled(parameters.schedule, now, state.sessions)
    if parameters.drawdown_floor is not None and equity is not None:
        highest = max(equity, state.high_water_mark or 0.0)
        found.append(floored(equity, highest, parameters.drawdown_floor))
    for rule in parameters.condition_rules:
        if not rule.instrument_ids:
            seen = _seen(state, rule)
            found.append(conditional(rule, seen, now, is_whole=len(seen) < OBSERVATIONS_MAX))
    return found


def _of_lines(state: PortfolioState, ids: Sequence[str], now: datetime) -> list[Adjustment]:
    """What clock and conditions come to for some of the instruments."""
    found = scheduled_lines(state.parameters.schedule, ids, now, state.sessions)
    for rule in state.parameters.condition_rules:
        seen = partial(_seen, state, rule)
        own = conditional_lines(rule, ids, now, seen, OBSERVATIONS_MAX)
        found += [] if own is None else [own]
    return found


def _seen(
    state: PortfolioState, rule: ConditionRule, instrument_id: str = ""
) -> Sequence[Observation]:
    key = key_of(rule, state.portfolio.portfolio_id, state.strategy_id, instrument_id)
    return () if key is None else state.conditions.get(key, ())


def _aged(
    parameters: EffectiveParameters, signals: sizing_pb2.SignalBatch, now: datetime
) -> list[Adjustment]:
    half_life_s = parameters.edge_half_life_s
    if half_life_s is None:
        return []
    if not signals.HasField("as_of_time"):
        text = "must be given: the parameters in force have an edge_half_life"
        raise invalid("signals.as_of_time", "MISSING", text)
    age_s = (now - signals.as_of_time.ToDatetime(tzinfo=UTC)).total_seconds()
    return [aged(age_s, half_life_s)]


def tell(head: sizing_pb2.SizingDecision, context: decision_inputs.DecisionInputs) -> None:
    """Writes the adjustments of a decision into its answer."""
    head.adjustments.extend(messages(context.adjustments))


def messages(found: Sequence[Adjustment]) -> Iterator[sizing_pb2.Adjustment]:
    """Adjustments as messages; of those on the Kelly fraction the smallest binds."""
    smallest = fraction_multiplier(found)
    for item in found:
        yield sizing_pb2.Adjustment(
            source=sizing_pb2.AdjustmentSource.ValueType(item.source),
            name=item.name,
            multiplier=item.multiplier,
            is_binding=item.is_on_edge or item.multiplier == smallest,
            explanation=item.explanation,
            line_multipliers=item.lines,
        )


def new_mark(parameters: EffectiveParameters, equity: float, highest: float | None) -> float | None:
    """The equity to raise the high-water mark to, None where it stays."""
    is_kept = highest is not None or parameters.drawdown_floor is not None
    return equity if is_kept and equity > (highest or 0.0) else None
