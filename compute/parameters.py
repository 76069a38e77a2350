"""How signals become stakes: the sizing parameters, merged from general to special scopes."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from math import log

from compute.adapt.condition import ConditionRule
from compute.adapt.schedule import NO_SCHEDULE, Schedule
from compute.correlation.penalty import CorrelationPenalty
from compute.optimize.problem import Objective


class Method(IntEnum):
    """Engine. The numbers are those of the contract."""

    CLOSED_FORM = 1
    JOINT = 2
    CUSTOM = 3


class Shrinkage(IntEnum):
    """How uncertainty of the edge shrinks the stake. The numbers are those of the contract."""

    NONE = 1
    BAKER_MCHALE = 2
    BAKER_MCHALE_NUMERIC = 3


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


@dataclass(frozen=True)
class Robust:
    """A set and its radius, >= 0."""

    kind: RobustSet
    radius: float


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


@dataclass(frozen=True)
class Parameters:
    """Sizing parameters of one scope; None leaves a field to the more general scope.

    joint_objective: of the joint method; None is growth at the Kelly fraction (`joint_sizing.py`).
    Rates and returns are per period of the signals, `volatility_target` and `risk_budget`
    annualised, durations in seconds. `DEFAULTS` holds the built-in values.
    """

    method: Method | None = None
    kelly_fraction: float | None = None
    drawdown_tolerance: DrawdownTolerance | None = None
    confidence_shrinkage: Shrinkage | None = None
    risk_free_rate: float | None = None
    cost_rate: float | None = None
    impact_coefficient: float | None = None
    no_trade_region: NoTradeRegion | None = None
    trade_rate: float | None = None
    robust: Robust | None = None
    volatility_target: float | None = None
    stop_risk_max: float | None = None
    risk_budget: float | None = None
    interval_probability: float | None = None
    prior_wins: float | None = None
    prior_losses: float | None = None
    reservation_ttl_s: float | None = None
    market_age_max_s: float | None = None
    portfolio_age_max_s: float | None = None
    joint_objective: Objective | None = None
    matrix_age_max_s: float | None = None
    periods_per_year: float | None = None
    fill_deviation_max: float | None = None
    covariance_universe: str | None = None
    correlation_penalty: CorrelationPenalty | None = None
    schedule: Schedule | None = None
    edge_half_life_s: float | None = None
    edge_model_id: str | None = None
    size_model_id: str | None = None
    drawdown_floor: float | None = None
    condition_rules: tuple[ConditionRule, ...] | None = None
    algorithm: AlgorithmChoice | None = None
    volatility_model: str | None = None
    price_jump_max: float | None = None
    equity_jump_max: float | None = None


@dataclass(frozen=True)
class EffectiveParameters:
    """Parameters with every default filled in; None only where there is no bound."""

    method: Method = Method.CLOSED_FORM
    kelly_fraction: float = 0.5
    drawdown_tolerance: DrawdownTolerance | None = None
    confidence_shrinkage: Shrinkage = Shrinkage.BAKER_MCHALE
    risk_free_rate: float = 0.0
    cost_rate: float = 0.0
    impact_coefficient: float = 0.0
    no_trade_region: NoTradeRegion | None = None
    trade_rate: float = 1.0
    robust: Robust | None = None
    volatility_target: float | None = None
    stop_risk_max: float | None = None
    risk_budget: float | None = None
    interval_probability: float = 0.95
    prior_wins: float = 1.0
    prior_losses: float = 1.0
    reservation_ttl_s: float = 900.0
    market_age_max_s: float | None = None
    portfolio_age_max_s: float | None = None
    joint_objective: Objective | None = None
    matrix_age_max_s: float | None = None
    periods_per_year: float = 1.0
    fill_deviation_max: float = 0.5
    covariance_universe: str | None = None
    correlation_penalty: CorrelationPenalty | None = None
    schedule: Schedule = NO_SCHEDULE
    edge_half_life_s: float | None = None
    edge_model_id: str | None = None
    size_model_id: str | None = None
    drawdown_floor: float | None = None
    condition_rules: tuple[ConditionRule, ...] = ()
    algorithm: AlgorithmChoice | None = None
    volatility_model: str | None = None
    price_jump_max: float = 0.5
    equity_jump_max: float = 0.5
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
    def fraction_chosen(self) -> float:
        """The smaller of the two ways to choose the fraction.

        With fraction c, P(wealth ever falls to x of its start) = x^(2/c - 1), so the tolerance
        beta gives c = 2 / (1 + ln beta / ln x) (Thorp 2006, section 7.3).
        """
        if self.drawdown_tolerance is None:
            return self.kelly_fraction
        ratio = log(self.drawdown_tolerance.probability) / log(self.drawdown_tolerance.wealth_floor)
        return min(self.kelly_fraction, 2.0 / (1.0 + ratio))


def merged(scopes: Iterable[Parameters]) -> EffectiveParameters:
    """Defaults, overlaid by each scope in turn, the most general first."""
    effective = EffectiveParameters()
    for scope in scopes:
        effective = overlaid(effective, scope)
    return effective


def overlaid(base: EffectiveParameters, scope: Parameters) -> EffectiveParameters:
    """`base` with what `scope` says."""
    given = {item.name: getattr(scope, item.name) for item in fields(scope)}
    return replace(base, **{name: value for name, value in given.items() if value is not None})
