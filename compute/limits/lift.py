"""Limits with one of them lifted: what a size would be without it.

Limits on single instruments are lifted for one instrument, all others as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from compute.limits.policy import GroupLimit, InstrumentLimit, JointLimits, LimitKind, Limits
from compute.market import SharedUse
from compute.parameters import EffectiveParameters

CREDIT = -1e4
"""A cash buffer below 0 is money that isn't there; so many times equity lifts the limit of cash."""


@dataclass(frozen=True)
class Rules:
    """Everything that may hold a size."""

    limits: Limits
    parameters: EffectiveParameters
    reducing: bool
    shared: SharedUse | None


_OF_ONE = {
    LimitKind.WEIGHT_MAX: "weight_max",
    LimitKind.NOTIONAL_MAX: "notional_max",
    LimitKind.QUANTITY_MAX: "quantity_max",
}
_WHOLE: dict[LimitKind, dict[str, Any]] = {
    LimitKind.SHORT_NOT_ALLOWED: {"allow_short": True},
    LimitKind.FLIP_NOT_ALLOWED: {"allow_flip": True},
    LimitKind.ADV_TRADE_MAX: {"adv_trade_max": None},
    LimitKind.ADV_POSITION_MAX: {"adv_position_max": None},
    LimitKind.EXIT_DAYS_MAX: {"exit_days_max": None},
    LimitKind.NET_MAX: {"net_weight_max": None},
    LimitKind.NET_MIN: {"net_weight_min": None},
    LimitKind.GROSS_NOTIONAL_MAX: {"gross_notional_max": None},
    LimitKind.LEVERAGE_MAX: {"leverage_max": None},
    LimitKind.TURNOVER_MAX: {"turnover_max": None},
    LimitKind.CASH: {"cash_buffer": CREDIT},
    LimitKind.TRADE_NOTIONAL_MIN: {"trade_notional_min": None},
    LimitKind.TRADE_NOTIONAL_MAX: {"trade_notional_max": None},
    LimitKind.TRADE_WEIGHT_MIN: {"trade_weight_min": None},
    LimitKind.STOP_REQUIRED: {"stop_required": False},
    LimitKind.POSITIONS_MAX: {"positions_max": None},
}
_JOINT: dict[LimitKind, dict[str, Any]] = {
    LimitKind.VOLATILITY_MAX: {"volatility_max": None},
    LimitKind.VAR_MAX: {"var_max": None},
    LimitKind.CVAR_MAX: {"cvar_max": None},
    LimitKind.CDAR_MAX: {"cdar_max": None},
    LimitKind.DRAWDOWN_RISK: {"wealth_floor": None, "wealth_floor_probability": None},
}
_PARAMETERS = {
    LimitKind.VOLATILITY_TARGET: "volatility_target",
    LimitKind.STOP_RISK: "stop_risk_max",
    LimitKind.RISK_BUDGET: "risk_budget",
}
_GROUPS = {
    LimitKind.GROUP_GROSS_MAX: "gross_weight_max",
    LimitKind.GROUP_NET_MAX: "net_weight_max",
    LimitKind.GROUP_NET_MIN: "net_weight_min",
}
_SHARED = {
    LimitKind.SHARED_GROSS_NOTIONAL_MAX: "gross_notional_max",
    LimitKind.SHARED_INSTRUMENT_NOTIONAL_MAX: "instrument_notional_max",
}


def lifted(
    rules: Rules, kind: LimitKind, name: str, instrument: str, others: Sequence[str]
) -> Rules | None:
    """The rules without a limit; None where nothing lifts it (lots, orders, no equity).

    name: of the group or linear limit. others: instruments that keep a limit on instruments.
    """
    limits = rules.limits
    if kind in _OF_ONE:
        return replace(rules, limits=_for_one(limits, _OF_ONE[kind], instrument, others))
    if kind is LimitKind.RESTRICTED:
        return replace(rules, limits=replace(limits, restricted=limits.restricted - {instrument}))
    if kind in _WHOLE:
        return replace(rules, limits=replace(limits, **_WHOLE[kind]))
    if kind in _JOINT:
        return _with_joint(rules, replace(limits.joint, **_JOINT[kind]))
    if kind is LimitKind.LINEAR:
        rows = tuple(row for row in limits.joint.linear if row.name != name)
        return _with_joint(rules, replace(limits.joint, linear=rows))
    if kind in _GROUPS:
        groups = tuple(_without(group, _GROUPS[kind], name) for group in limits.groups)
        return replace(rules, limits=replace(limits, groups=groups))
    if kind in _PARAMETERS:
        changed: dict[str, Any] = {_PARAMETERS[kind]: None}
        return replace(rules, parameters=replace(rules.parameters, **changed))
    if kind in _SHARED and rules.shared is not None:
        bounds: dict[str, Any] = {_SHARED[kind]: None}
        shared = replace(rules.shared, limits=replace(rules.shared.limits, **bounds))
        return replace(rules, shared=shared)
    return replace(rules, reducing=False) if kind is LimitKind.REDUCING_ONLY else None


def _with_joint(rules: Rules, joint: JointLimits) -> Rules:
    return replace(rules, limits=replace(rules.limits, joint=joint))


def _without(group: GroupLimit, bound: str, name: str) -> GroupLimit:
    changed: dict[str, Any] = {bound: None}
    return replace(group, **changed) if group.name == name else group


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
