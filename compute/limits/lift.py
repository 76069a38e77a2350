"""Limits with one of them lifted: what a size would be without it.

Limits on single instruments are lifted for one instrument, all others as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from compute.limits.policy import Holder, InstrumentLimit, JointLimits, LimitKind, Limits
from compute.market import SharedUse
from compute.parameters import EffectiveParameters


@dataclass(frozen=True)
class Rules:
    """Everything that may hold a size."""

    limits: Limits
    parameters: EffectiveParameters
    reducing: bool
    shared: SharedUse | None


def lifted(
    rules: Rules, kind: LimitKind, name: str, instrument: str, others: Sequence[str]
) -> Rules | None:
    """The rules without a limit; None where nothing lifts it (lots, orders, no equity, reserved).

    name: of the group, the linear limit or the tail. others: instruments that keep a limit on
    instruments.
    """
    limits = rules.limits
    lift: dict[str, Any] = dict.fromkeys(kind.fields, kind.lifted)
    match kind.holder:
        case Holder.INSTRUMENT:
            return replace(rules, limits=_for_one(limits, kind.fields[0], instrument, others))
        case Holder.LIMITS:
            return replace(rules, limits=replace(limits, **lift))
        case Holder.JOINT if name:
            joint = limits.joint
            tails = tuple(tail for tail in joint.tails if tail.name != name)
            rows = tuple(row for row in joint.linear if (row.kind, row.name) != (kind, name))
            return _with_joint(rules, replace(joint, linear=rows, tails=tails))
        case Holder.JOINT:
            return _with_joint(rules, replace(limits.joint, **lift))
        case Holder.GROUP:
            groups = (replace(g, **lift) if g.name == name else g for g in limits.groups)
            return replace(rules, limits=replace(limits, groups=tuple(groups)))
        case Holder.PARAMETERS:
            return replace(rules, parameters=replace(rules.parameters, **lift))
        case Holder.SHARED if rules.shared is not None:
            shared = replace(rules.shared, limits=replace(rules.shared.limits, **lift))
            return replace(rules, shared=shared)
    return _without_field(rules, kind, name, instrument)


def _without_field(rules: Rules, kind: LimitKind, name: str, instrument: str) -> Rules | None:
    """Limits that no one field states."""
    limits = rules.limits
    if kind is LimitKind.RESTRICTED:
        return replace(rules, limits=replace(limits, restricted=limits.restricted - {instrument}))
    if kind is LimitKind.LINEAR:
        rows = tuple(row for row in limits.joint.linear if row.name != name)
        return _with_joint(rules, replace(limits.joint, linear=rows))
    return replace(rules, reducing=False) if kind is LimitKind.REDUCING_ONLY else None


def _with_joint(rules: Rules, joint: JointLimits) -> Rules:
    return replace(rules, limits=replace(rules.limits, joint=joint))


def _for_one(limits: Limits, bound: str, instrument: str, others: Sequence[str]) -> Limits:
    """Limits whose bound on instruments holds for `others` as before, and not for `instrument`."""
    general = getattr(limits, bound, None)
    own = dict(limits.instruments)
    for other in others:
        told = own.get(other, InstrumentLimit())
        given = [value for value in (general, getattr(told, bound)) if value is not None]
        kept: dict[str, Any] = {bound: min(given, default=None)}
        own[other] = replace(told, **kept)
    nothing: dict[str, Any] = {bound: None}
    own[instrument] = replace(own.get(instrument, InstrumentLimit()), **nothing)
    changed: dict[str, Any] = {"instruments": own}
    if hasattr(limits, bound):
        changed[bound] = None
    return replace(limits, **changed)
