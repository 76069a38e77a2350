"""How signals become stakes: the sizing parameters, merged from general to special scopes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum, IntEnum
from math import log
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

from compute.adapt.condition import ConditionRule
from compute.adapt.schedule import DAY_S, NO_SCHEDULE, Schedule
from compute.correlation.penalty import CorrelationPenalty
from compute.methods import Method
from compute.optimize.problem import Objective
from compute.value_range import INNER, NEAR_0, NEAR_1, PERCENT, RATE, SMALL, Range, ranged

DURATION_MAX_S = 30 * DAY_S
"""The longest time span of a parameter that doesn't say otherwise."""


class Shrinkage(IntEnum):
    """How uncertainty of the edge shrinks the stake. The numbers are those of the contract."""

    NONE = 1
    BAKER_MCHALE = 2
    BAKER_MCHALE_NUMERIC = 3


class LotChoice(IntEnum):
    """How JOINT comes to whole lots (`joint/lots.py`). The numbers are those of the contract."""

    ROUNDED = 1
    SEARCHED = 2


class EdgeGoneAction(IntEnum):
    """What happens when outcomes say that an edge is gone. The numbers are the contract's."""

    ALERT = 1
    REDUCE_PORTFOLIO = 2
    REDUCE_STRATEGY = 3


class NoTradeRegion(IntEnum):
    """Between which weights a position is kept. The numbers are those of the contract."""

    NONE = 1
    HOLDING_TIME = 2
    LONG_RUN = 3


class RobustSet(IntEnum):
    """What of an edge may be off (`robust.py`). The numbers are those of the contract."""

    BOX = 1
    TOTAL_VARIATION = 2
    KL = 3
    WASSERSTEIN = 4
    ELLIPSOID = 5
    UNCORRELATED = 6


@dataclass(frozen=True)
class Robust:
    """A set and its radius, >= 0; of UNCORRELATED `periods` >= 1 and `probability` in (0, 1)."""

    kind: RobustSet
    radius: float
    periods: float = 0.0
    probability: float = 0.0

    @property
    def is_certain(self) -> bool:
        """Whether the set has the given edge alone."""
        return self.radius == 0.0 and self.kind is not RobustSet.UNCORRELATED


@dataclass(frozen=True)
class DrawdownTolerance:
    """P(wealth ever falls to `wealth_floor` of its start) <= `probability`."""

    wealth_floor: float
    probability: float


@dataclass(frozen=True)
class AlgorithmChoice:
    """A custom sizing algorithm by its name in the settings, with numbers for it by name."""

    name: str
    parameters: tuple[tuple[str, float], ...] = ()


def duration(default: float | None, *, most_s: float = DURATION_MAX_S) -> Any:
    """A parameter in seconds, from 1 s to `most_s`; in the contract without the `_s`."""
    return field(default=default, metadata={"most_s": most_s})


@dataclass(frozen=True)
class EffectiveParameters:
    """Sizing parameters with every default filled in; None only where there is no bound.

    Each field is declared here once: name, type, default, and of numbers the range. Its form in the
    contract, in records and in the documentation follows (`PARAMETERS`). Rates and returns are per
    period of the signals, `volatility_target` and `risk_budget` annualised.

    joint_objective: of the joint method; None is growth at the Kelly fraction (`joint/sizing.py`).
    """

    method: Method = Method.CLOSED_FORM
    kelly_fraction: float = ranged(0.5, Range(NEAR_0, 1.0, "of Kelly", hint=PERCENT))
    drawdown_tolerance: DrawdownTolerance | None = None
    confidence_shrinkage: Shrinkage = Shrinkage.BAKER_MCHALE
    risk_free_rate: float = ranged(0.0, Range(-0.5, 0.5, "a return per period", hint=PERCENT))
    cost_rate: float = ranged(0.0, RATE)
    impact_coefficient: float = ranged(0.0, Range(0.0, 10.0, "about 0.7"))
    no_trade_region: NoTradeRegion | None = None
    trade_rate: float = ranged(1.0, Range(NEAR_0, 1.0, "a part of the way", hint=PERCENT))
    plan_periods: int = ranged(0, Range(1, 250, "periods, or 0 for no plan", or_zero=True))
    robust: Robust | None = None
    volatility_target: float | None = ranged(
        None, Range(NEAR_0, 5.0, "a year's standard deviation", hint=PERCENT)
    )
    stop_risk_max: float | None = ranged(
        None, Range(SMALL, 1.0, "a fraction of equity", hint=PERCENT)
    )
    risk_budget: float | None = ranged(None, Range(SMALL, 1e3, "a fraction of equity"))
    interval_probability: float = ranged(0.95, INNER)
    prior_wins: float = ranged(1.0, Range(1e-6, 1e6, "pseudo wins"))
    prior_losses: float = ranged(1.0, Range(1e-6, 1e6, "pseudo losses"))
    reservation_ttl_s: float = duration(900.0)
    market_age_max_s: float | None = duration(None)
    portfolio_age_max_s: float | None = duration(None)
    joint_objective: Objective | None = None
    lot_choice: LotChoice = LotChoice.ROUNDED
    matrix_age_max_s: float | None = duration(None)
    periods_per_year: float = ranged(1.0, Range(1.0, 1e6, "periods"))
    fill_deviation_max: float = ranged(0.5, Range(1e-6, 10.0, "a fraction of the price"))
    covariance_universe: str | None = None
    correlation_penalty: CorrelationPenalty | None = None
    schedule: Schedule = NO_SCHEDULE
    edge_half_life_s: float | None = duration(None, most_s=3650 * DAY_S)
    edge_model_id: str | None = None
    size_model_id: str | None = None
    drawdown_floor: float | None = ranged(
        None, Range(NEAR_0, NEAR_1, "of the highest equity", hint=PERCENT)
    )
    drawdown_multiplier: float = ranged(1.0, Range(1.0, 100.0, "times the cushion"))
    equity_floor: float | None = ranged(None, Range(1e-6, 1e18, "of money"))
    condition_rules: tuple[ConditionRule, ...] = ()
    algorithm: AlgorithmChoice | None = None
    volatility_model: str | None = None
    price_jump_max: float = ranged(0.5, Range(1e-6, 1e6, "a fraction of the price"))
    equity_jump_max: float = ranged(0.5, Range(1e-6, 1e6, "a fraction of equity"))
    edge_gone_action: EdgeGoneAction = EdgeGoneAction.ALERT
    fraction_multiplier: float = 1.0
    """What the rules on the Kelly fraction come to in one decision (`adapt/adjustment.py`)."""
    edge_multiplier: float = 1.0
    """The same of the edges' age."""

    @property
    def penalty(self) -> CorrelationPenalty:
        """The correlation penalty in force: on by default where a covariance is at hand."""
        if self.correlation_penalty is not None:
            return self.correlation_penalty
        return CorrelationPenalty.QUADRATIC if self.covariance_universe else CorrelationPenalty.NONE

    @property
    def fraction(self) -> float:
        """The fraction of Kelly staked, after what the rules took off."""
        return self.fraction_multiplier * self.fraction_chosen

    @property
    def has_floor(self) -> bool:
        """Whether equity is held against a floor."""
        return self.drawdown_floor is not None or self.equity_floor is not None

    @property
    def fraction_chosen(self) -> float:
        """The smaller of the two ways to choose the fraction.

        With fraction c, P(wealth ever falls to x of its start) = x^(2/c - 1), so the tolerance
        beta gives c = 2 / (1 + ln beta / ln x) (Thorp 2006, section 7.3).
        """
        if self.drawdown_tolerance is None:
            return self.kelly_fraction
        ratio = log(self.drawdown_tolerance.probability) / log(self.drawdown_tolerance.wealth_floor)
        return min(self.kelly_fraction, 2.0 / (1.0 + ratio))


OF_ONE_DECISION = ("fraction_multiplier", "edge_multiplier")
"""Fields that no scope sets: each decision finds them."""


class Form(Enum):
    """What a parameter is in the contract."""

    NUMBER = "a number in a range"
    DURATION = "a time span"
    CHOICE = "a value of an enumeration"
    IDENTIFIER = "the name of something stored"
    MESSAGE = "a message of its own"


@dataclass(frozen=True)
class Parameter:
    """One parameter as it is declared; what reads or writes parameters goes by this."""

    name: str
    """The field of `EffectiveParameters`."""
    form: Form
    type: Any
    """Of the field, without None."""
    default: Any
    """None: no bound."""
    range: Range | None = None
    most_s: float = DURATION_MAX_S

    @property
    def contract_name(self) -> str:
        """The field of the message `SizingParameters`."""
        return self.name.removesuffix("_s") if self.form is Form.DURATION else self.name


def without_none(hint: Any) -> Any:
    """T of a type hint `T | None`; other hints as they are."""
    if isinstance(hint, UnionType):
        return next(part for part in get_args(hint) if part is not NoneType)
    return hint


def _declared() -> Iterable[Parameter]:
    hints = get_type_hints(EffectiveParameters)
    for item in fields(EffectiveParameters):
        if item.name in OF_ONE_DECISION:
            continue
        kind = without_none(hints[item.name])
        allowed, most_s = item.metadata.get("range"), item.metadata.get("most_s")
        if allowed is not None:
            yield Parameter(item.name, Form.NUMBER, kind, item.default, allowed)
        elif most_s is not None:
            yield Parameter(item.name, Form.DURATION, kind, item.default, most_s=most_s)
        elif kind is str:
            yield Parameter(item.name, Form.IDENTIFIER, kind, item.default)
        else:
            is_choice = isinstance(kind, type) and issubclass(kind, IntEnum)
            form = Form.CHOICE if is_choice else Form.MESSAGE
            yield Parameter(item.name, form, kind, item.default)


PARAMETERS = tuple(_declared())
"""Every parameter that a scope may set, in the order of `EffectiveParameters`."""

Given = Mapping[str, Any]
"""What one scope says, by field of `EffectiveParameters`; the rest is left to the general scope."""


def merged(scopes: Iterable[Given]) -> EffectiveParameters:
    """Defaults, overlaid by each scope in turn, the most general first."""
    effective = EffectiveParameters()
    for scope in scopes:
        effective = overlaid(effective, scope)
    return effective


def overlaid(base: EffectiveParameters, scope: Given) -> EffectiveParameters:
    """`base` with what `scope` says."""
    return replace(base, **scope)
