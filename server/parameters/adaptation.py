"""What time does to the parameters of one decision: looked up once, then part of its record.

A replay reads the multipliers from the record and comes nowhere near here.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from compute.adapt.adjustment import (
    Adjustment,
    aged,
    conditional,
    edge_multiplier,
    floored,
    fraction_multiplier,
    scheduled,
)
from compute.adapt.condition import ConditionRule, Observation, is_whole
from compute.adapt.line_rules import conditional_lines, scheduled_lines
from compute.parameters import EffectiveParameters
from server.calls.errors import invalid
from server.parameters.conditions import OBSERVATIONS_MAX, key_of
from server.portfolios.portfolio_state import PortfolioState
from server.sizing import decision_inputs
from server.sizing.request import SizingRequest


def adapted(
    context: decision_inputs.DecisionInputs,
    request: SizingRequest,
    now: datetime,
    equity: float,
    state: PortfolioState,
) -> decision_inputs.DecisionInputs:
    """The context with what the rules of its parameters come to at `now`. Raises `Refusal`."""
    found = of_state(state, now, equity)
    found += of_lines(state, request.instrument_ids, now)
    found += _aged(context.parameters, request.signals_time, now)
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
    if equity is not None:
        highest = max(equity, state.high_water_mark or 0.0)
        found += floored(parameters, equity, highest)
    for rule in parameters.condition_rules:
        if not rule.instrument_ids:
            seen = _seen(state, rule)
            whole = is_whole(seen, rule, OBSERVATIONS_MAX)
            found.append(conditional(rule, seen, now, is_whole=whole))
    return found


def of_lines(state: PortfolioState, ids: Sequence[str], now: datetime) -> list[Adjustment]:
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
    parameters: EffectiveParameters, signals_time: datetime | None, now: datetime
) -> list[Adjustment]:
    half_life_s = parameters.edge_half_life_s
    if half_life_s is None:
        return []
    if signals_time is None:
        text = "must be given: the parameters in force have an edge_half_life"
        raise invalid("signals.as_of_time", "MISSING", text)
    age_s = (now - signals_time).total_seconds()
    return [aged(age_s, half_life_s)]


def new_mark(parameters: EffectiveParameters, equity: float, highest: float | None) -> float | None:
    """The equity to raise the high-water mark to, None where it stays."""
    is_kept = highest is not None or parameters.drawdown_floor is not None
    return equity if is_kept and equity > (highest or 0.0) else None
