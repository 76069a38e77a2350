"""Hard limits as plain data. A limit is a bound that holds on the final whole lots.

Scopes (firm, group, portfolio, strategy, request) add up by `tightest.py`. `None` means that a
scope says nothing about it. What no scope of the book itself (firm, group, portfolio) says has a
safe default, which a strategy or a request can't loosen.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field
from enum import Enum, IntEnum
from typing import Any

from compute.correlation.linkage import Linkage
from compute.risk.tail_method import TailKind, TailMethod
from compute.value_range import (
    INNER,
    LARGE,
    LEVELS,
    MONEY,
    NUMBER,
    PERCENT,
    POSITIVE,
    RATE,
    RISK,
    SHARE,
    SIGNED_WEIGHT,
    WEIGHT,
    Range,
    ranged,
)

CREDIT = -1e4
"""A cash buffer below 0 is money that isn't there; so many times equity lifts the limit of cash."""


class Holder(Enum):
    """Whose fields state a limit."""

    INSTRUMENT = "`InstrumentLimit`, and `Limits` for all instruments"
    GROUP = "`GroupLimit`"
    LIMITS = "`Limits`"
    JOINT = "`JointLimits`"
    SHARED = "`SharedLimits`"
    PARAMETERS = "the sizing parameters"


class LimitKind(IntEnum):
    """Which rule set a size. The numbers are those of the contract, which has their names.

    With each: whose fields state it, which, and what lifts it. Without: no one field states it.
    """

    holder: Holder | None
    fields: tuple[str, ...]
    lifted: Any

    def __new__(
        cls, number: int, holder: Holder | None = None, names: str = "", lifted: Any = None
    ) -> "LimitKind":
        """The kind of a number of the contract."""
        kind = int.__new__(cls, number)
        kind._value_ = number
        kind.holder, kind.fields, kind.lifted = holder, tuple(names.split()), lifted
        return kind

    NONE = 0
    WEIGHT_MAX = 1, Holder.INSTRUMENT, "weight_max"
    NOTIONAL_MAX = 2, Holder.INSTRUMENT, "notional_max"
    QUANTITY_MAX = 3, Holder.INSTRUMENT, "quantity_max"
    RESTRICTED = 4
    SHORT_NOT_ALLOWED = 5, Holder.LIMITS, "allow_short", True
    FLIP_NOT_ALLOWED = 6, Holder.LIMITS, "allow_flip", True
    REDUCING_ONLY = 7
    ADV_TRADE_MAX = 8, Holder.LIMITS, "adv_trade_max"
    ADV_POSITION_MAX = 9, Holder.LIMITS, "adv_position_max"
    GROUP_GROSS_MAX = 10, Holder.GROUP, "gross_weight_max"
    GROUP_NET_MAX = 11, Holder.GROUP, "net_weight_max"
    GROUP_NET_MIN = 12, Holder.GROUP, "net_weight_min"
    NET_MAX = 13, Holder.LIMITS, "net_weight_max"
    NET_MIN = 14, Holder.LIMITS, "net_weight_min"
    GROSS_NOTIONAL_MAX = 15, Holder.LIMITS, "gross_notional_max"
    LEVERAGE_MAX = 16, Holder.LIMITS, "leverage_max"
    TURNOVER_MAX = 17, Holder.LIMITS, "turnover_max"
    CASH = 18, Holder.LIMITS, "cash_buffer", CREDIT
    SHARED_GROSS_NOTIONAL_MAX = 19, Holder.SHARED, "gross_notional_max"
    SHARED_INSTRUMENT_NOTIONAL_MAX = 20, Holder.SHARED, "instrument_notional_max"
    TRADE_NOTIONAL_MIN = 21, Holder.LIMITS, "trade_notional_min"
    TRADE_NOTIONAL_MAX = 22, Holder.LIMITS, "trade_notional_max"
    LOT_SIZE = 23
    VOLATILITY_TARGET = 24, Holder.PARAMETERS, "volatility_target"
    STOP_RISK = 25, Holder.PARAMETERS, "stop_risk_max"
    RISK_BUDGET = 26, Holder.PARAMETERS, "risk_budget"
    VOLATILITY_MAX = 27, Holder.JOINT, "volatility_max"
    VAR_MAX = 28, Holder.JOINT, "var_max"
    CVAR_MAX = 29, Holder.JOINT, "cvar_max"
    CDAR_MAX = 30, Holder.JOINT, "cdar_max"
    DRAWDOWN_RISK = 31, Holder.JOINT, "wealth_floor wealth_floor_probability"
    LINEAR = 32
    NO_EQUITY = 33
    ORDER_MAX = 34
    ORDER_MIN = 35
    TRADE_WEIGHT_MIN = 36, Holder.LIMITS, "trade_weight_min"
    STOP_REQUIRED = 37, Holder.LIMITS, "stop_required", False
    POSITIONS_MAX = 38, Holder.LIMITS, "positions_max"
    EXIT_DAYS_MAX = 39, Holder.LIMITS, "exit_days_max"
    RESERVED = 40
    STRESS_LOSS_MAX = 41, Holder.JOINT, "stress"


class SaleProceeds(IntEnum):
    """When purchases may use what sales bring. The numbers are those of the contract."""

    WHEN_FILLED = 1
    AT_ONCE = 2


class Tighter(Enum):
    """Which of two values of a field is the tighter one."""

    SMALLER = "the smaller number"
    LARGER = "the larger number"
    FORBIDDEN = "no, where either says no"
    REQUIRED = "yes, where either says yes"
    ADDED = "both: what either names is bound"


def declared(tighter: Tighter, allowed: Range | None = None, *, safe: Any = None) -> Any:
    """A field of limits: which of two values binds, its range, and what holds where none is said.

    allowed: of numbers. safe: None where nothing said means not limited.
    """
    return field(default=None, metadata={"tighter": tighter, "range": allowed, "safe": safe})


def rule_of(item: "Field[Any]") -> Tighter:
    """Which of two values of a field binds; groups, rows and lists of two scopes both apply."""
    rule: Tighter = item.metadata.get("tighter", Tighter.ADDED)
    return rule


PARTICIPATION = 0.05
"""Share of the daily volume that positions can be closed at, where nothing else is said."""

_SMALLER, _LARGER = Tighter.SMALLER, Tighter.LARGER


@dataclass(frozen=True)
class InstrumentLimit:
    """Bounds on one instrument; weight is a fraction of equity, notional base currency."""

    weight_max: float | None = declared(_SMALLER, WEIGHT)
    notional_max: float | None = declared(_SMALLER, MONEY)
    quantity_max: float | None = declared(_SMALLER, Range(0.0, 1e18, "units"))


@dataclass(frozen=True)
class GroupLimit:
    """Bounds on a set of instruments, given by id or by the sector of the market snapshot."""

    name: str
    instrument_ids: frozenset[str] = frozenset()
    sector: str = ""
    gross_weight_max: float | None = ranged(None, WEIGHT)
    net_weight_min: float | None = ranged(None, Range(-LARGE, 0.0, "a fraction of equity"))
    net_weight_max: float | None = ranged(None, WEIGHT)


@dataclass(frozen=True)
class ClusterLimit:
    """Bounds on each cluster of alike instruments of a book (`cluster_limits.py`).

    distance_max or cluster_count: where the tree is cut. opposites_are_alike: by |correlation|.
    """

    name: str
    linkage: Linkage
    distance_max: float | None = ranged(None, Range(0.0, 100.0, "a distance"))
    cluster_count: int | None = ranged(None, Range(1, 62, "clusters"))
    opposites_are_alike: bool = False
    gross_weight_max: float | None = ranged(None, WEIGHT)
    net_weight_min: float | None = ranged(None, Range(-LARGE, 0.0, "a fraction of equity"))
    net_weight_max: float | None = ranged(None, WEIGHT)


@dataclass(frozen=True)
class LinearLimit:
    """lower <= sum_i coefficient_i weight_i <= upper; scenario_id: of a stress limit's row."""

    name: str
    coefficients: Mapping[str, float] = field(default_factory=dict, metadata={"range": NUMBER})
    lower: float | None = ranged(None, NUMBER)
    upper: float | None = ranged(None, NUMBER)
    soft_price: float | None = ranged(None, POSITIVE)
    scenario_id: str = ""

    @property
    def kind(self) -> LimitKind:
        """What bindings call it."""
        return LimitKind.STRESS_LOSS_MAX if self.scenario_id else LimitKind.LINEAR


@dataclass(frozen=True)
class StressLimit:
    """A bound on the loss in a stored stress scenario, which becomes a row (`stress_limits.py`)."""

    scenario_id: str
    loss_max: float = ranged(0.0, RISK)


@dataclass(frozen=True)
class TailLimit:
    """A bound on value at risk or expected shortfall by a named method, fraction of equity."""

    kind: TailKind
    method: TailMethod
    bound: float = ranged(0.0, RISK)
    level: float = ranged(0.95, LEVELS)

    @property
    def name(self) -> str:
        """As bindings and errors name it: "historical 99 % VaR"."""
        short = "VaR" if self.kind is TailKind.VALUE_AT_RISK else "ES"
        method = self.method.name.lower().replace("_", " ")
        return f"{method} {100.0 * self.level:.6g} % {short}"


@dataclass(frozen=True)
class JointLimits:
    """Bounds on the whole book, per period of the scenarios."""

    volatility_max: float | None = declared(_SMALLER, RISK)
    var_max: float | None = declared(_SMALLER, RISK)
    var_level: float | None = declared(_LARGER, LEVELS)
    cvar_max: float | None = declared(_SMALLER, RISK)
    cvar_level: float | None = declared(_LARGER, LEVELS)
    cdar_max: float | None = declared(_SMALLER, RISK)
    cdar_level: float | None = declared(_LARGER, LEVELS)
    wealth_floor: float | None = declared(_LARGER, INNER)
    wealth_floor_probability: float | None = declared(_SMALLER, INNER)
    linear: tuple[LinearLimit, ...] = ()
    tails: tuple[TailLimit, ...] = ()
    stress: tuple[StressLimit, ...] = ()


@dataclass(frozen=True)
class Limits:
    """All limits of one scope, or the tightest of several. Fields as in the contract.

    Each is declared here once (`declared`): conversion, ranges, merging of scopes and safe defaults
    follow.
    """

    weight_max: float | None = declared(_SMALLER, WEIGHT)
    notional_max: float | None = declared(_SMALLER, MONEY)
    instruments: Mapping[str, InstrumentLimit] = field(default_factory=dict)
    groups: tuple[GroupLimit, ...] = ()
    clusters: tuple[ClusterLimit, ...] = ()
    gross_notional_max: float | None = declared(_SMALLER, MONEY)
    leverage_max: float | None = declared(_SMALLER, Range(0.0, LARGE, "times equity"))
    net_weight_min: float | None = declared(_LARGER, SIGNED_WEIGHT)
    net_weight_max: float | None = declared(_SMALLER, SIGNED_WEIGHT)
    turnover_max: float | None = declared(_SMALLER, WEIGHT)
    cash_buffer: float | None = declared(
        _LARGER, Range(0.0, 1.0, "a fraction of equity", hint=PERCENT), safe=0.0
    )
    fee_rate: float | None = declared(_LARGER, RATE, safe=0.0)
    short_margin_rate: float | None = declared(
        _LARGER, Range(0.0, 10.0, "of the short notional", hint=PERCENT), safe=1.0
    )
    sale_proceeds: SaleProceeds | None = field(
        default=None, metadata={"tighter": _SMALLER, "safe": SaleProceeds.WHEN_FILLED}
    )
    adv_trade_max: float | None = declared(_SMALLER, SHARE)
    adv_position_max: float | None = declared(_SMALLER, SHARE)
    trade_notional_min: float | None = declared(_LARGER, MONEY)
    trade_notional_max: float | None = declared(_SMALLER, MONEY)
    trade_weight_min: float | None = declared(_LARGER, WEIGHT)
    stop_required: bool | None = declared(Tighter.REQUIRED)
    positions_max: int | None = declared(_SMALLER, Range(0, 1_000_000, "positions"))
    exit_days_max: float | None = declared(_SMALLER, Range(0.0, 1e6, "days"))
    participation_rate: float | None = declared(
        _SMALLER, Range(1e-6, 1.0, "a share of daily volume", hint=PERCENT), safe=PARTICIPATION
    )
    day_loss_max: float | None = declared(
        _SMALLER, Range(1e-6, 1.0, "a fraction of equity", hint=PERCENT)
    )
    day_loss_resumes: bool | None = declared(Tighter.FORBIDDEN, safe=False)
    restricted: frozenset[str] = frozenset()
    allow_short: bool | None = declared(Tighter.FORBIDDEN, safe=False)
    allow_flip: bool | None = declared(Tighter.FORBIDDEN, safe=False)
    joint: JointLimits = field(default_factory=JointLimits)
    currency: str | None = None
    """Of every amount of money; None: the portfolio's base currency."""
    foreign: "tuple[Limits, ...]" = ()
    """Of scopes whose money is in other currencies, until there are rates (`currency.in_base`)."""


@dataclass(frozen=True)
class SharedLimits:
    """Bounds on the sum over the portfolios of a group, in `currency`; None: the base currency."""

    gross_notional_max: float | None = ranged(None, MONEY)
    instrument_notional_max: float | None = ranged(None, MONEY)
    currency: str | None = None
