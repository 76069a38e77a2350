"""Schedules and conditions of single instruments: multipliers of lines, not of the Kelly fraction.

    edge_i = edge_i min(1, min_r m_ri / m)      m the multiplier of the Kelly fraction of all lines

The smallest multiplier of a line counts, those of all lines among them: what the Kelly fraction has
lost already is not taken off again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from compute.adapt.adjustment import (
    Adjustment,
    AdjustmentSource,
    conditional,
    fraction_multiplier,
    span_text,
)
from compute.adapt.condition import ConditionRule, ConditionScope, Observation, is_whole
from compute.adapt.schedule import NO_SESSIONS, Schedule, Sessions
from compute.market import Floats

Seen = Callable[[str], Sequence[Observation]]
"""Observations of a rule's condition, in the order of time, of an instrument or empty: of all."""


def scheduled_lines(
    schedule: Schedule,
    ids: Sequence[str],
    time: datetime,
    sessions: Mapping[str, Sessions] = NO_SESSIONS,
) -> list[Adjustment]:
    """One for each row in force that is for some instruments, of which the batch has any."""
    out = []
    for row in schedule.in_force(time, sessions):
        own = set(row.instrument_ids)
        lines = tuple(row.multiplier if name in own else 1.0 for name in ids)
        if own.intersection(ids):
            text = f"{span_text(row, sessions)}, of {_named(row.instrument_ids)}"
            source = AdjustmentSource.SCHEDULE
            out.append(Adjustment(source, row.name, min(lines), text, lines))
    return out


def conditional_lines(
    rule: ConditionRule, ids: Sequence[str], now: datetime, seen: Seen, observations_max: int
) -> Adjustment | None:
    """What a rule for some instruments comes to; None where the batch has none of them."""
    own = set(rule.instrument_ids).intersection(ids)
    if not own:
        return None
    found: dict[str, Adjustment] = {}
    for name in sorted(own):
        about = name if rule.scope is ConditionScope.INSTRUMENT else ""
        if about or not found:
            observed = seen(about)
            whole = is_whole(observed, rule, observations_max)
            found[name] = conditional(rule, observed, now, is_whole=whole)
        else:
            found[name] = next(iter(found.values()))
    lines = tuple(found[name].multiplier if name in own else 1.0 for name in ids)
    least = min(found.values(), key=lambda item: item.multiplier)
    tightest = next(name for name, item in found.items() if item is least)
    text = f"{tightest}: {least.explanation}"
    return replace(least, explanation=text, lines=lines)


def rule_multipliers(adjustments: Sequence[Adjustment]) -> Floats | None:
    """By what rules for some instruments multiply the edge of each line, (n,); None: none does."""
    rules = [
        item.lines
        for item in adjustments
        if item.lines and item.source is not AdjustmentSource.SIZE_MODEL
    ]
    if not rules:
        return None
    smallest, taken = np.min(rules, axis=0), fraction_multiplier(adjustments)
    out: Floats = np.minimum(1.0, smallest / taken) if taken > 0.0 else np.ones_like(smallest)
    return out


def _named(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
