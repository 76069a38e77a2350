"""Hard limits as plain data, and how limits of several scopes become one.

A limit is a bound that holds on the final whole lots. Scopes (firm, group, portfolio, strategy,
request) add up: `tightest` keeps the tightest of each (`TIGHTER`), so that a narrower scope can
only tighten. `None` means that a scope says nothing about it. What no scope of the book itself
(firm, group, portfolio) says has a safe default (`SAFE`), which a strategy or a request can't
loosen: `in_force`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum, IntEnum
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
    NO_EQUITY = 33
    ORDER_MAX = 34
    ORDER_MIN = 35
    TRADE_WEIGHT_MIN = 36
    STOP_REQUIRED = 37
    POSITIONS_MAX = 38
    EXIT_DAYS_MAX = 39


class SaleProceeds(IntEnum):
    """When purchases may use what sales bring. The numbers are those of the contract."""

    WHEN_FILLED = 1
    AT_ONCE = 2


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
    sale_proceeds: SaleProceeds | None = None
    adv_trade_max: float | None = None
    adv_position_max: float | None = None
    trade_notional_min: float | None = None
    trade_notional_max: float | None = None
    trade_weight_min: float | None = None
    stop_required: bool | None = None
    positions_max: int | None = None
    exit_days_max: float | None = None
    participation_rate: float | None = None
    restricted: frozenset[str] = frozenset()
    allow_short: bool | None = None
    allow_flip: bool | None = None
    joint: JointLimits = field(default_factory=JointLimits)
    currency: str | None = None
    """Of every amount of money; None: the portfolio's base currency."""
    foreign: "tuple[Limits, ...]" = ()
    """Of scopes whose money is in other currencies, until there are rates (`currency.in_base`)."""


@dataclass(frozen=True)
class SharedLimits:
    """Bounds on the sum over the portfolios of a group, in `currency`; None: the base currency."""

    gross_notional_max: float | None = None
    instrument_notional_max: float | None = None
    currency: str | None = None


class Tighter(Enum):
    """Which of two values of a field is the tighter one."""

    SMALLER = "the smaller number"
    LARGER = "the larger number"
    FORBIDDEN = "no, where either says no"
    REQUIRED = "yes, where either says yes"
    ADDED = "both: what either names is bound"


TIGHTER: dict[str, Tighter] = {
    "weight_max": Tighter.SMALLER,
    "notional_max": Tighter.SMALLER,
    "quantity_max": Tighter.SMALLER,
    "instruments": Tighter.ADDED,
    "groups": Tighter.ADDED,
    "gross_notional_max": Tighter.SMALLER,
    "leverage_max": Tighter.SMALLER,
    "net_weight_min": Tighter.LARGER,
    "net_weight_max": Tighter.SMALLER,
    "turnover_max": Tighter.SMALLER,
    "cash_buffer": Tighter.LARGER,
    "fee_rate": Tighter.LARGER,
    "short_margin_rate": Tighter.LARGER,
    "adv_trade_max": Tighter.SMALLER,
    "adv_position_max": Tighter.SMALLER,
    "trade_notional_min": Tighter.LARGER,
    "trade_weight_min": Tighter.LARGER,
    "stop_required": Tighter.REQUIRED,
    "positions_max": Tighter.SMALLER,
    "exit_days_max": Tighter.SMALLER,
    "participation_rate": Tighter.SMALLER,
    "trade_notional_max": Tighter.SMALLER,
    "restricted": Tighter.ADDED,
    "sale_proceeds": Tighter.SMALLER,
    "currency": Tighter.ADDED,
    "foreign": Tighter.ADDED,
    "allow_short": Tighter.FORBIDDEN,
    "allow_flip": Tighter.FORBIDDEN,
    "joint": Tighter.ADDED,
    "volatility_max": Tighter.SMALLER,
    "var_max": Tighter.SMALLER,
    "var_level": Tighter.LARGER,
    "cvar_max": Tighter.SMALLER,
    "cvar_level": Tighter.LARGER,
    "cdar_max": Tighter.SMALLER,
    "cdar_level": Tighter.LARGER,
    "wealth_floor": Tighter.LARGER,
    "wealth_floor_probability": Tighter.SMALLER,
    "linear": Tighter.ADDED,
}
"""Every field of `Limits`, `InstrumentLimit` and `JointLimits`. Groups and linear rows of two
scopes both apply, each as it is."""

PARTICIPATION = 0.05
"""Share of the daily volume that positions can be closed at, where nothing else is said."""

SAFE = Limits(
    allow_short=False,
    allow_flip=False,
    short_margin_rate=1.0,
    cash_buffer=0.0,
    fee_rate=0.0,
    sale_proceeds=SaleProceeds.WHEN_FILLED,
    participation_rate=PARTICIPATION,
)
"""What holds where no scope of the book says anything."""

LEVEL = 0.95
"""Confidence level of a tail limit that names none."""

_TAILS = (("var_max", "var_level"), ("cvar_max", "cvar_level"), ("cdar_max", "cdar_level"))


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
        merged = _both(merged, replace(limits, joint=_levelled(limits.joint)))
    return merged


def _levelled(joint: JointLimits) -> JointLimits:
    """With the level of each tail limit said, so that another scope's lower one can't loosen it."""
    levels: dict[str, Any] = {
        level: LEVEL
        for bound, level in _TAILS
        if getattr(joint, bound) is not None and getattr(joint, level) is None
    }
    return replace(joint, **levels) if levels else joint


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
        foreign=left.foreign + right.foreign,
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
        rule = TIGHTER[item.name]
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
