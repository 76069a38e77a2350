"""What time does to the parameters of one decision: looked up once, then part of its record.

A replay reads the multipliers from the record and comes nowhere near here.
"""

from dataclasses import replace
from datetime import UTC, datetime

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
from compute.parameters import EffectiveParameters
from server import record
from server.conditions import OBSERVATIONS_MAX
from server.errors import invalid
from server.state import PortfolioState


def adapted(
    context: record.Context,
    request: sizing_service_pb2.SizePositionsRequest,
    now: datetime,
    equity: float,
    state: PortfolioState,
) -> record.Context:
    """The context with what the rules of its parameters come to at `now`. Raises `Refusal`."""
    found = scheduled(context.parameters.schedule, now)
    floor = context.parameters.drawdown_floor
    if floor is not None:
        found.append(floored(equity, max(equity, state.high_water_mark or 0.0), floor))
    for rule in context.parameters.condition_rules:
        seen = state.conditions.get(rule.condition_id, ())
        found.append(conditional(rule, seen, now, is_whole=len(seen) < OBSERVATIONS_MAX))
    found += _aged(context.parameters, request.signals, now)
    if not found:
        return context
    parameters = replace(
        context.parameters,
        fraction_multiplier=fraction_multiplier(found),
        edge_multiplier=edge_multiplier(found),
    )
    return replace(context, parameters=parameters, adjustments=tuple(found))


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


def tell(head: sizing_pb2.SizingDecision, context: record.Context) -> None:
    """Writes the adjustments of a decision into its answer."""
    for item in context.adjustments:
        head.adjustments.add(
            source=sizing_pb2.AdjustmentSource.ValueType(item.source),
            name=item.name,
            multiplier=item.multiplier,
            is_binding=item.is_on_edge or item.multiplier == context.parameters.fraction_multiplier,
            explanation=item.explanation,
        )


def new_mark(parameters: EffectiveParameters, equity: float, highest: float | None) -> float | None:
    """The equity to raise the high-water mark to, None where it stays."""
    is_kept = highest is not None or parameters.drawdown_floor is not None
    return equity if is_kept and equity > (highest or 0.0) else None
