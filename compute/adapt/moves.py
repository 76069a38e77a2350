"""Which multipliers of a portfolio's rules have moved since they were told last.

A drawdown's follows every price, so it is told again only where it is off by more than
`DRAWDOWN_BAND` from what was told, or has come to 0 or away from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compute.adapt.adjustment import Adjustment, AdjustmentSource

DRAWDOWN_BAND = 0.05
"""A part of the Kelly fraction without rules."""

Key = tuple[AdjustmentSource, str, str]
"""Source and name of a rule, and the instrument that it is for; empty: all lines."""


@dataclass(frozen=True)
class Move:
    """A multiplier before and now; `explanation` is for people."""

    key: Key
    before: float
    after: float
    explanation: str


def multipliers(adjustments: Sequence[Adjustment], ids: Sequence[str]) -> dict[Key, float]:
    """The multiplier of each rule below 1, by line where it is for some; ids: those of `lines`."""
    out: dict[Key, float] = {}
    for item in adjustments:
        lines = zip(ids, item.lines, strict=True) if item.lines else (("", item.multiplier),)
        for name, value in lines:
            if value < 1.0:
                key = item.source, item.name, name
                out[key] = min(value, out.get(key, 1.0))
    return out


def moves(
    told: Mapping[Key, float], adjustments: Sequence[Adjustment], ids: Sequence[str]
) -> list[Move]:
    """What differs from what was told, by key; a rule that is in neither has 1."""
    found = multipliers(adjustments, ids)
    why = {(item.source, item.name): item.explanation for item in reversed(adjustments)}
    out = []
    for key in sorted({*told, *found}):
        before, after = told.get(key, 1.0), found.get(key, 1.0)
        if _is_moved(key[0], before, after):
            out.append(Move(key, before, after, why.get(key[:2], "is no longer in force")))
    return out


def after_moves(told: Mapping[Key, float], moved: Sequence[Move]) -> dict[Key, float]:
    """What has been told then; multipliers of 1 are left out."""
    out = {**told, **{item.key: item.after for item in moved}}
    return {key: value for key, value in out.items() if value < 1.0}


def smallest(told: Mapping[Key, float]) -> float:
    """Of those on the Kelly fraction of all lines; 1 where there are none."""
    return min((value for (_, _, name), value in told.items() if not name), default=1.0)


def _is_moved(source: AdjustmentSource, before: float, after: float) -> bool:
    if source is not AdjustmentSource.DRAWDOWN_FLOOR or 1.0 in (before, after):
        return before != after
    return abs(after - before) > DRAWDOWN_BAND or (before == 0.0) != (after == 0.0)
