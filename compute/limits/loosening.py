"""Whether new limits of a scope allow anything that its old ones did not.

Sound and not complete: where nothing is named, every book that the new limits allow was allowed by
the old ones, whatever other scopes say. What can't be compared counts as loosened: amounts in
another currency, a linear row of other coefficients.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from compute.limits.policy import (
    ClusterLimit,
    GroupLimit,
    InstrumentLimit,
    Limits,
    LinearLimit,
    SharedLimits,
    StressLimit,
    TailLimit,
    Tighter,
    rule_of,
)
from compute.limits.tightest import LEVELLED, SAFE, levelled

_PART_OF = {"day_loss_resumes": "day_loss_max", **{level: bound for bound, level in LEVELLED}}
"""Fields that say how another bound counts: without that one they mean nothing."""
_SAFE = {item.name: getattr(SAFE, item.name) for item in fields(SAFE)}


def loosened(old: Limits, new: Limits) -> tuple[str, ...]:
    """Paths of the fields by which `new` may allow more than `old`; () where it only tightens."""
    return tuple(dict.fromkeys(_loosened(old, new)))


def loosened_shared(old: SharedLimits | None, new: SharedLimits | None) -> tuple[str, ...]:
    """The same of the limits that a group's portfolios share; None: there are none."""
    if old is None:
        return ()
    bounds = [item.name for item in fields(SharedLimits) if item.name != "currency"]
    given = [name for name in bounds if getattr(old, name) is not None]
    if new is None or (given and old.currency != new.currency):
        return tuple(given)
    return tuple(
        name
        for name in given
        if not _as_tight(Tighter.SMALLER, getattr(old, name), getattr(new, name))
    )


def _loosened(old: Limits, new: Limits) -> Iterator[str]:
    if old.currency != new.currency and _has_money(old):
        yield "currency"
    yield from _in_record(old, new, "", _SAFE)
    yield from _in_record(levelled(old.joint), levelled(new.joint), "joint.", {})
    for name in sorted(set(old.instruments) | set(new.instruments)):
        yield from _in_record(_on(old, name), _on(new, name), f"instruments[{name}].", {})
    for group in old.groups:
        if not any(_covers_group(mine, group) for mine in new.groups):
            yield f"groups[{group.name}]"
    for cluster in old.clusters:
        if not any(_covers_cluster(mine, cluster) for mine in new.clusters):
            yield f"clusters[{cluster.name}]"
    for row in old.joint.linear:
        if not any(_covers_row(mine, row) for mine in new.joint.linear):
            yield f"joint.linear[{row.name}]"
    for tail in old.joint.tails:
        if not any(_covers_tail(mine, tail) for mine in new.joint.tails):
            yield f"joint.tails[{tail.name}]"
    for stress in old.joint.stress:
        if not any(_covers_stress(mine, stress) for mine in new.joint.stress):
            yield f"joint.stress[{stress.scenario_id}]"
    if not old.restricted <= new.restricted:
        yield "restricted_instrument_ids"


def _in_record(old: Any, new: Any, path: str, safe: Mapping[str, Any]) -> Iterator[str]:
    """Fields of a record with one value each."""
    for item in fields(old):
        rule, bound = rule_of(item), _PART_OF.get(item.name)
        if rule is Tighter.ADDED or (bound is not None and getattr(old, bound) is None):
            continue
        before, after = getattr(old, item.name), getattr(new, item.name)
        if before is None and after is not None:
            before = safe.get(item.name)
        if not _as_tight(rule, before, after):
            yield path + item.name


def _as_tight(rule: Tighter, before: Any, after: Any) -> bool:
    """Whether `after` allows no more than `before`; None allows everything."""
    if before is None or before is {Tighter.FORBIDDEN: True, Tighter.REQUIRED: False}.get(rule):
        return True
    if after is None:
        return False
    if rule in (Tighter.LARGER, Tighter.REQUIRED):
        return bool(after >= before)
    return bool(after <= before)


def _on(limits: Limits, name: str) -> InstrumentLimit:
    """What holds for one instrument: its own bounds and those for all."""
    own = limits.instruments.get(name, InstrumentLimit())
    return replace(
        own,
        weight_max=_smaller(own.weight_max, limits.weight_max),
        notional_max=_smaller(own.notional_max, limits.notional_max),
    )


def _smaller(left: float | None, right: float | None) -> float | None:
    given = [value for value in (left, right) if value is not None]
    return min(given, default=None)


def _covers_group(mine: GroupLimit, old: GroupLimit) -> bool:
    same = (mine.instrument_ids, mine.sector) == (old.instrument_ids, old.sector)
    return same and _covers_sums(mine, old)


def _covers_cluster(mine: ClusterLimit, old: ClusterLimit) -> bool:
    """Clusters that are found another way are others."""
    found = [
        (limit.linkage, limit.distance_max, limit.cluster_count, limit.opposites_are_alike)
        for limit in (mine, old)
    ]
    return found[0] == found[1] and _covers_sums(mine, old)


def _covers_sums(mine: GroupLimit | ClusterLimit, old: GroupLimit | ClusterLimit) -> bool:
    return (
        _as_tight(Tighter.SMALLER, old.gross_weight_max, mine.gross_weight_max)
        and _as_tight(Tighter.SMALLER, old.net_weight_max, mine.net_weight_max)
        and _as_tight(Tighter.LARGER, old.net_weight_min, mine.net_weight_min)
    )


def _covers_row(mine: LinearLimit, old: LinearLimit) -> bool:
    """A row without a price is hard; a dearer one is tighter."""
    return (
        dict(mine.coefficients) == dict(old.coefficients)
        and _as_tight(Tighter.LARGER, old.lower, mine.lower)
        and _as_tight(Tighter.SMALLER, old.upper, mine.upper)
        and (
            mine.soft_price is None
            or (old.soft_price is not None and mine.soft_price >= old.soft_price)
        )
    )


def _covers_tail(mine: TailLimit, old: TailLimit) -> bool:
    return (
        (mine.kind, mine.method) == (old.kind, old.method)
        and mine.bound <= old.bound
        and mine.level >= old.level
    )


def _covers_stress(mine: StressLimit, old: StressLimit) -> bool:
    return mine.scenario_id == old.scenario_id and mine.loss_max <= old.loss_max


def _has_money(limits: Limits) -> bool:
    names = [item.name for item in fields(Limits) if "notional" in item.name]
    return any(getattr(limits, name) is not None for name in names) or any(
        own.notional_max is not None for own in limits.instruments.values()
    )
