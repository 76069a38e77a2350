"""Limits of several scopes together: each bound is the tightest that any of them sets.

A narrower scope can only tighten (`Tighter`). What no scope of the book says has a safe default.
"""

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, TypeVar

from compute.limits.policy import (
    InstrumentLimit,
    JointLimits,
    Limits,
    Tighter,
    rule_of,
)

SAFE = Limits(
    **{item.name: item.metadata["safe"] for item in fields(Limits) if "safe" in item.metadata}
)
"""What holds where no scope of the book says anything."""

LEVEL = 0.95
"""Confidence level of a tail limit that names none."""

LEVELLED = (("var_max", "var_level"), ("cvar_max", "cvar_level"), ("cdar_max", "cdar_level"))
"""Bounds with the field that says their level."""

_Item = TypeVar("_Item")
_Record = TypeVar("_Record", Limits, InstrumentLimit, JointLimits)


def in_force(book: Iterable[Limits], narrower: Iterable[Limits] = ()) -> Limits:
    """The limits of the scopes of a book, defaults filled in, tightened by narrower ones.

    book: firm, group, portfolio. narrower: strategy, request; these grant no permission and lower
    no rate that the book's scopes leave unset.
    """
    general = tightest(book)
    unset = [item.name for item in fields(Limits) if getattr(general, item.name) is None]
    filled = replace(general, **{name: getattr(SAFE, name) for name in unset})
    return tightest([filled, *narrower])


def tightest(scopes: Iterable[Limits]) -> Limits:
    """The limits that hold when every one of `scopes` holds."""
    merged = Limits()
    for limits in scopes:
        merged = _both(merged, replace(limits, joint=levelled(limits.joint)))
    return merged


def levelled(joint: JointLimits) -> JointLimits:
    """With the level of each tail limit said, so that another scope's lower one can't loosen it."""
    levels: dict[str, Any] = {
        level: LEVEL
        for bound, level in LEVELLED
        if getattr(joint, bound) is not None and getattr(joint, level) is None
    }
    return replace(joint, **levels) if levels else joint


def _both(left: Limits, right: Limits) -> Limits:
    names = sorted(set(left.instruments) | set(right.instruments))
    own, other, nothing = left.instruments, right.instruments, InstrumentLimit()
    return replace(
        _tighter(left, right),
        instruments={n: _tighter(own.get(n, nothing), other.get(n, nothing)) for n in names},
        groups=_joined(left.groups, right.groups),
        clusters=_joined(left.clusters, right.clusters),
        restricted=left.restricted | right.restricted,
        foreign=left.foreign + right.foreign,
        joint=replace(
            _tighter(left.joint, right.joint),
            linear=_joined(left.joint.linear, right.joint.linear),
            tails=_joined(left.joint.tails, right.joint.tails),
            stress=_joined(left.joint.stress, right.joint.stress),
        ),
    )


def _joined(left: tuple[_Item, ...], right: tuple[_Item, ...]) -> tuple[_Item, ...]:
    """Those of both, each once."""
    return left + tuple(item for item in right if item not in left)


def _tighter(left: _Record, right: _Record) -> _Record:
    """`left` with each number and permission replaced by the tighter of both."""
    changes: dict[str, Any] = {}
    for item in fields(left):
        ours, theirs = getattr(left, item.name), getattr(right, item.name)
        rule = rule_of(item)
        if theirs is None or rule is Tighter.ADDED:
            continue
        if ours is None:
            changes[item.name] = theirs
        elif rule is Tighter.FORBIDDEN:
            changes[item.name] = ours and theirs
        elif rule is Tighter.REQUIRED:
            changes[item.name] = ours or theirs
        else:
            changes[item.name] = (max if rule is Tighter.LARGER else min)(ours, theirs)
    return replace(left, **changes)
