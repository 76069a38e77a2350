"""Hard limits as plain data, and how limits of several scopes become one.

A limit is a bound that holds on the final whole lots. Scopes (firm, group, portfolio, strategy,
request) add up: `tightest` keeps the tightest of each, so that a narrower scope can only tighten.
`None` means that a scope says nothing about it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import Any, TypeVar


class LimitKind(IntEnum):
    """Which rule set a size. The numbers are those of the contract."""

    NONE = 0
    WEIGHT_MAX = 1
    NOTIONAL_MAX = 2
    QUANTITY_MAX = 3
    RESTRICTED = 4
    SHORT_NOT_ALLOWED = 5
    FLIP_NOT_ALLOWED = 6
    REDUCING_ONLY = 7
    ADV_TRADE_MAX = 8
    ADV_POSITION_MAX = 9
    GROUP_GROSS_MAX = 10
    GROUP_NET_MAX = 11
    GROUP_NET_MIN = 12
    NET_MAX = 13
    NET_MIN = 14
    GROSS_NOTIONAL_MAX = 15
    LEVERAGE_MAX = 16
    TURNOVER_MAX = 17
    CASH = 18
    SHARED_GROSS_NOTIONAL_MAX = 19
    SHARED_INSTRUMENT_NOTIONAL_MAX = 20
    TRADE_NOTIONAL_MIN = 21
    TRADE_NOTIONAL_MAX = 22
    LOT_SIZE = 23
    VOLATILITY_TARGET = 24
    STOP_RISK = 25
    RISK_BUDGET = 26
    VOLATILITY_MAX = 27
    VAR_MAX = 28
    CVAR_MAX = 29
    CDAR_MAX = 30
    DRAWDOWN_RISK = 31
    LINEAR = 32


@dataclass(frozen=True)
class InstrumentLimit:
    """Bounds on one instrument; weight is a fraction of equity, notional base currency."""

    weight_max: float | None = None
    notional_max: float | None = None
    quantity_max: float | None = None


@dataclass(frozen=True)
class GroupLimit:
    """Bounds on a set of instruments, given by id or by the sector of the market snapshot."""

    name: str
    instrument_ids: frozenset[str] = frozenset()
    sector: str = ""
    gross_weight_max: float | None = None
    net_weight_min: float | None = None
    net_weight_max: float | None = None


@dataclass(frozen=True)
class LinearLimit:
    """lower <= sum_i coefficient_i weight_i <= upper, for the joint method."""

    name: str
    coefficients: Mapping[str, float] = field(default_factory=dict)
    lower: float | None = None
    upper: float | None = None
    soft_price: float | None = None


@dataclass(frozen=True)
class JointLimits:
    """Bounds on the whole book that only the joint method honours; per period of the scenarios."""

    volatility_max: float | None = None
    var_max: float | None = None
    var_level: float | None = None
    cvar_max: float | None = None
    cvar_level: float | None = None
    cdar_max: float | None = None
    cdar_level: float | None = None
    wealth_floor: float | None = None
    wealth_floor_probability: float | None = None
    linear: tuple[LinearLimit, ...] = ()


@dataclass(frozen=True)
class Limits:
    """All limits of one scope, or the tightest of several. Fields as in the contract."""

    weight_max: float | None = None
    notional_max: float | None = None
    instruments: Mapping[str, InstrumentLimit] = field(default_factory=dict)
    groups: tuple[GroupLimit, ...] = ()
    gross_notional_max: float | None = None
    leverage_max: float | None = None
    net_weight_min: float | None = None
    net_weight_max: float | None = None
    turnover_max: float | None = None
    cash_buffer: float | None = None
    fee_rate: float | None = None
    short_margin_rate: float | None = None
    adv_trade_max: float | None = None
    adv_position_max: float | None = None
    trade_notional_min: float | None = None
    trade_notional_max: float | None = None
    restricted: frozenset[str] = frozenset()
    allow_short: bool | None = None
    allow_flip: bool | None = None
    joint: JointLimits = field(default_factory=JointLimits)


@dataclass(frozen=True)
class SharedLimits:
    """Bounds on the sum over the portfolios of a group, base currency."""

    gross_notional_max: float | None = None
    instrument_notional_max: float | None = None


# For these a larger number is the tighter one; for every other number the smaller is.
_TIGHTER_UP = {
    "net_weight_min",
    "cash_buffer",
    "fee_rate",
    "short_margin_rate",
    "trade_notional_min",
    "var_level",
    "cvar_level",
    "cdar_level",
    "wealth_floor",
}


def tightest(scopes: Iterable[Limits]) -> Limits:
    """The limits that hold when every one of `scopes` holds."""
    merged = Limits()
    for limits in scopes:
        merged = _both(merged, limits)
    return merged


def _both(left: Limits, right: Limits) -> Limits:
    names = sorted(set(left.instruments) | set(right.instruments))
    nothing = InstrumentLimit()
    return replace(
        _tighter(left, right),
        instruments={
            name: _tighter(
                left.instruments.get(name, nothing), right.instruments.get(name, nothing)
            )
            for name in names
        },
        groups=left.groups + tuple(group for group in right.groups if group not in left.groups),
        restricted=left.restricted | right.restricted,
        joint=replace(
            _tighter(left.joint, right.joint),
            linear=left.joint.linear
            + tuple(row for row in right.joint.linear if row not in left.joint.linear),
        ),
    )


_Record = TypeVar("_Record", Limits, InstrumentLimit, JointLimits)


def _tighter(left: _Record, right: _Record) -> _Record:
    """`left` with each number and permission replaced by the tighter of both."""
    changes: dict[str, Any] = {}
    for item in fields(left):
        ours, theirs = getattr(left, item.name), getattr(right, item.name)
        if theirs is None or not isinstance(theirs, bool | float | int):
            continue
        if ours is None:
            changes[item.name] = theirs
        elif isinstance(theirs, bool):
            changes[item.name] = ours and theirs
        else:
            changes[item.name] = (max if item.name in _TIGHTER_UP else min)(ours, theirs)
    return replace(left, **changes)
