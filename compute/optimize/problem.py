"""The joint sizing problem and its answer: data only, on the host, in NumPy float64.

    maximise   U(w) - costs(w - holdings)      over weights w in R^n
    subject to every limit of `Limits`

Weights are fractions of equity. Cash is 1 - sum(w) and earns `cash_return` a period, so what a
weight adds is its return less that; the proceeds of a short sale are cash and earn it too. A field
that is None (or a bound that is infinite) says "not limited" or "not present", never zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TailMeasure:
    """The mean of the worst along the scenarios, which solvers and proof take apart by this.

    on_path: of the drawdowns of cumsum(r'w); else of the losses -r_t'w. is_maximum: the worst one
    alone; else the worst (1 - tail) of all.
    """

    name: str
    on_path: bool
    is_maximum: bool


CVAR = TailMeasure("cvar", on_path=False, is_maximum=False)
CDAR = TailMeasure("cdar", on_path=True, is_maximum=False)
MAX_DRAWDOWN = TailMeasure("drawdown", on_path=True, is_maximum=True)


class ObjectiveKind(Enum):
    """What is maximised (or minimised): the value says it in symbols.

    r = scenario returns (T, n) and mu the mean, both less `cash_return` and with the views, p the
    probabilities, S the covariance, W_t = 1 + cash_return + r_t'w the wealth in scenario t. Risks
    (variance, CVaR, drawdowns) and limits on them are of the returns as they are, without interest
    on cash and without views.

    With each: its fields of `Objective`, what it is computed from, and the tail measure that it is.
    A smooth one has its blocks in `objectives.py` and its twin in `proof/objectives.py`.
    """

    reads: tuple[str, ...]
    needs: str
    """"mean", "covariance" or "scenarios"; of COMBINATION what its terms need."""
    tail: TailMeasure | None

    def __new__(
        cls, symbols: str, reads: str = "", needs: str = "mean", tail: TailMeasure | None = None
    ) -> ObjectiveKind:
        """The kind of a formula."""
        kind = object.__new__(cls)
        kind._value_ = symbols
        kind.reads, kind.needs, kind.tail = tuple(reads.split()), needs, tail
        return kind

    LOG_GROWTH = "max sum_t p_t log W_t", "", "scenarios"
    QUADRATIC_GROWTH = "max mu'w - 1/2 w'E[rr']w", "", "covariance"
    MEAN_VARIANCE = "max mu'w - risk_aversion/2 w'Sw", "risk_aversion", "covariance"
    MAX_SHARPE = "max mu'w / sqrt(w'Sw)", "", "covariance"
    MAX_RETURN = "max mu'w"
    CRRA = (
        "max sum_t p_t (W_t^(1 - risk_aversion) - 1) / (1 - risk_aversion)",
        "risk_aversion",
        "scenarios",
    )
    MIN_VARIANCE = "min w'Sw", "", "covariance"
    MIN_CVAR = "min mean of the worst (1 - tail) of the losses -r_t'w", "tail", "scenarios", CVAR
    MIN_CDAR = (
        "min mean of the worst (1 - tail) of the drawdowns of cumsum(r'w)",
        "tail",
        "scenarios",
        CDAR,
    )
    MIN_MAX_DRAWDOWN = (
        "min maximum drawdown of cumsum(r'w), the level 0 before the start included",
        "",
        "scenarios",
        MAX_DRAWDOWN,
    )
    RISK_BUDGET = "w_i (Sw)_i / w'Sw = budgets_i", "budgets shares gross_weight", "covariance"
    COMBINATION = "max sum_k weight_k U_k, minimised kinds entering with a minus sign", "terms", ""
    MAX_DIVERSIFICATION = (
        "max sum_i s_i |w_i| / sqrt(w'Sw), s the deviations",
        "gross_weight",
        "covariance",
    )

    @property
    def maximised(self) -> bool:
        """True if a larger value is better."""
        return self.value.startswith("max")

    @property
    def is_term(self) -> bool:
        """True if it may be part of a combination."""
        return self not in _ALONE


_ALONE = frozenset(
    {
        ObjectiveKind.MAX_SHARPE,
        ObjectiveKind.RISK_BUDGET,
        ObjectiveKind.COMBINATION,
        ObjectiveKind.MAX_DIVERSIFICATION,
    }
)


@dataclass(frozen=True)
class Objective:
    """What is wanted, with the parameters its kind reads; the others are ignored.

    risk_aversion: of MEAN_VARIANCE (gamma >= 0) and CRRA (1 is log growth).
    tail: confidence level of MIN_CVAR and MIN_CDAR, 0 < tail < 1 (0.95: the worst 5 %).
    budgets: f64[n] > 0 of RISK_BUDGET, any positive sum; None is equal risk contribution.
    terms: (weight > 0, objective) pairs of COMBINATION; combinations do not nest.
    shares: budgets of RISK_BUDGET by instrument, of those not named 1 (`joint/risk_budget.py`).
    gross_weight: sum of |w| aimed at by RISK_BUDGET and MAX_DIVERSIFICATION of a stored portfolio.
    MAX_DIVERSIFICATION is stated as MAX_SHARPE before it is solved (`diversification.py`).

    The value of RISK_BUDGET is max_i |n RC_i / sum RC - n budgets_i / sum budgets|. Costs are
    subtracted from what is maximised and added to what is minimised; MAX_SHARPE subtracts
    them from the mean in its numerator.
    """

    kind: ObjectiveKind
    risk_aversion: float = 1.0
    tail: float = 0.95
    budgets: Array | None = None
    terms: tuple[tuple[float, Objective], ...] = ()
    shares: tuple[tuple[str, float], ...] = ()
    gross_weight: float | None = None


@dataclass(frozen=True)
class DrawdownRisk:
    """Risk-constrained Kelly: log sum_t p_t W_t^-exponent <= 0 (Busseti, Ryu, Boyd 2016).

    It implies Prob(wealth ever below `wealth_floor`) < probability when
    exponent = log(probability) / log(wealth_floor). With `quadratic` the constraint is its
    second-order form (exponent + 1)/2 w'E[rr']w <= mu'w, mu = E[r].
    """

    exponent: float
    quadratic: bool = False

    @classmethod
    def from_probability(
        cls, wealth_floor: float, probability: float, *, quadratic: bool = False
    ) -> DrawdownRisk:
        """Limit Prob(min wealth < wealth_floor) < probability; both strictly within (0, 1)."""
        if not (0.0 < wealth_floor < 1.0 and 0.0 < probability < 1.0):
            raise ValueError("wealth_floor and probability must lie strictly between 0 and 1")
        return cls(math.log(probability) / math.log(wealth_floor), quadratic)


@dataclass(frozen=True)
class Rows:
    """Named linear limits row_min <= matrix @ w <= row_max.

    Sectors, groups, net, factor exposures, stress losses, minimum return: all are rows.
    matrix: f64[m, n]; row_min, row_max: f64[m], infinite where there is no bound;
    names: m names, shown to people; price: f64[m] or None, the cost in objective units of one
    unit of violation (a soft limit); infinite, or None for all, is a hard limit.
    """

    matrix: Array
    row_min: Array
    row_max: Array
    names: tuple[str, ...]
    price: Array | None = None


@dataclass(frozen=True)
class Limits:
    """Every limit on the weights; None is not limited.

    lower, upper: f64[n] box, +-inf allowed, equal means fixed.
    budget_min, budget_max: on sum(w); equal means exactly invested.
    rows: named linear limits.
    gross_max: on sum |w|. turnover_max: on sum |w - holdings|.
    trade_max: f64[n], |w - holdings| <= trade_max per name (ADV participation).
    volatility_max: on sqrt(w'Sw).
    var_max: on z w'Sw^(1/2) - mu'w, z the normal quantile at var_tail (normal VaR).
    cvar_max: on the mean of the worst (1 - cvar_tail) of the losses -r_t'w.
    cdar_max: the same of the drawdowns of cumsum(r'w). drawdown_max: on their maximum.
    drawdown_risk: the Busseti-Ryu-Boyd limit.
    """

    lower: Array | None = None
    upper: Array | None = None
    budget_min: float | None = None
    budget_max: float | None = None
    rows: Rows | None = None
    gross_max: float | None = None
    turnover_max: float | None = None
    trade_max: Array | None = None
    volatility_max: float | None = None
    var_max: float | None = None
    var_tail: float = 0.95
    cvar_max: float | None = None
    cvar_tail: float = 0.95
    cdar_max: float | None = None
    cdar_tail: float = 0.95
    drawdown_max: float | None = None
    drawdown_risk: DrawdownRisk | None = None

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return 0 if self.rows is None else len(self.rows.names)

    def with_rows(self, more: Rows) -> Limits:
        """The limits with hard rows after their own."""
        own = self.rows
        if own is not None:
            hard = np.full(len(more.names), np.inf)
            more = Rows(
                np.vstack([own.matrix, more.matrix]),
                np.concatenate([own.row_min, more.row_min]),
                np.concatenate([own.row_max, more.row_max]),
                own.names + more.names,
                None if own.price is None else np.concatenate([own.price, hard]),
            )
        return replace(self, rows=more)


@dataclass(frozen=True)
class Costs:
    """Costs of trading from the holdings, in fractions of equity.

    linear: f64[n], cost_i |w_i - holdings_i| (commission, half spread).
    impact: f64[n], impact_i |w_i - holdings_i|^(3/2) (square-root law of market impact).
    """

    linear: Array | None = None
    impact: Array | None = None


@dataclass(frozen=True)
class FactorCovariance:
    """Covariance = loadings @ factor @ loadings' + diag(specific).

    loadings: f64[n, k]; factor: f64[k, k]; specific: f64[n] variances, >= 0.
    """

    loadings: Array
    factor: Array
    specific: Array

    def dense(self) -> Array:
        """The covariance matrix itself, f64[n, n]."""
        dense: Array = self.loadings @ self.factor @ self.loadings.T
        return dense + np.diag(self.specific)


@dataclass(frozen=True)
class Problem:
    """One joint sizing problem.

    objective: what is wanted. limits: what must hold. costs: of trading from the holdings.
    mean: f64[n] expected simple return a period; None: p'scenarios.
    covariance: f64[n, n], or its factor form; None: the weighted covariance of the scenarios
        with denominator 1 - sum p^2 (T - 1 over T for uniform p).
    scenarios: f64[T, n] simple returns a period, None where neither objective nor limits
        need them. scenario_probability: f64[T] summing to 1, None is uniform.
    holdings: f64[n] current weights, None is all cash.
    cash_return: what cash earns a period.
    financing: f64[n], what is taken from each return instead of `cash_return`; None: that. A line
        that can only be short and whose proceeds earn nothing is financed at -cash_return: it
        makes w (r + cash_return) = |w| (-r - cash_return).
    views: f64[n], what is expected of each return beyond `mean` and scenarios; None: nothing. The
        objective alone counts it: who expects more makes no risk smaller, and limits don't move.
    """

    objective: Objective
    limits: Limits = field(default_factory=Limits)
    costs: Costs = field(default_factory=Costs)
    mean: Array | None = None
    covariance: Array | FactorCovariance | None = None
    scenarios: Array | None = None
    scenario_probability: Array | None = None
    holdings: Array | None = None
    cash_return: float = 0.0
    financing: Array | None = None
    views: Array | None = None

    @property
    def financing_rates(self) -> Array:
        """What is taken from the return of each weight, f64[n]."""
        if self.financing is not None:
            return self.financing
        return np.full(self.size, self.cash_return)

    @property
    def objective_rates(self) -> Array:
        """The same less the views, which is what the objective takes from each return, f64[n]."""
        rates = self.financing_rates
        return rates if self.views is None else rates - self.views

    @property
    def size(self) -> int:
        """Number of assets n."""
        for source in (self.mean, self.holdings, self.limits.lower, self.limits.upper):
            if source is not None:
                return int(source.shape[0])
        if self.scenarios is not None:
            return int(self.scenarios.shape[1])
        if isinstance(self.covariance, FactorCovariance):
            return int(self.covariance.specific.shape[0])
        if self.covariance is not None:
            return int(self.covariance.shape[0])
        raise ValueError("the problem has neither mean, holdings, bounds, scenarios nor covariance")


class Status(Enum):
    """How a solve ended. Only OPTIMAL carries weights that may be used."""

    OPTIMAL = "The KKT conditions hold to tolerance."
    INFEASIBLE = "No weights satisfy all the limits."
    NONPOSITIVE_MEAN = "No feasible weights have a positive mean, so no Sharpe ratio to maximise."
    UNBOUNDED = "The objective improves without end inside the limits: bound the weights."
    VANISHING = (
        "The Sharpe ratio rises as the book shrinks, impact costs faster than risk: ask for one."
    )
    RUIN = "Every feasible portfolio loses everything in some scenario, so growth is undefined."
    NOT_CONVERGED = "The iteration stopped before its tolerances were met."


@dataclass(frozen=True)
class Multipliers:
    """The shadow price of every limit: all >= 0.

    Each is the derivative of the best attainable objective, in the sense in which larger is
    better, with respect to loosening that bound: d U* / d upper_i, d U* / d(-lower_i), ...
    The families mirror `Limits`; 0 where the limit is absent or slack. trade_max takes the
    price of a bound where it is tighter than the box (on either side).

    trade_slope, gross_slope: f64[n] in [-1, 1], elements of the subdifferentials of
    |w - holdings| and |w| with which stationarity holds:

        grad U(w) - (linear + turnover_max) trade_slope - 3/2 impact sqrt|w - holdings| sign
          - gross_max gross_slope + lower - upper +- trade_max + budget_min - budget_max
          + matrix'(row_min - row_max) - sum_j price_j grad g_j(w) = 0

    with g_j: volatility sqrt(w'Sw), normal VaR, CVaR, CDaR, drawdown, log-sum of W^-exponent
    (or exponent ((exponent + 1)/2 w'E[rr']w - mu'w) for its quadratic form).
    """

    lower: Array
    upper: Array
    budget_min: float
    budget_max: float
    row_min: Array
    row_max: Array
    gross_max: float
    turnover_max: float
    trade_max: Array
    volatility_max: float
    var_max: float
    cvar_max: float
    cdar_max: float
    drawdown_max: float
    drawdown_risk: float
    trade_slope: Array
    gross_slope: Array


@dataclass(frozen=True)
class Solution:
    """The answer of a solver, to be certified by code that shares nothing with it.

    weights: f64[n], all NaN unless OPTIMAL. objective: in its natural sense, costs included,
    NaN unless OPTIMAL. residual: largest scaled KKT residual. violation_min: for INFEASIBLE, the
    least total violation of rows and norms that any weights attain, with `multipliers` its
    duals (a Farkas certificate for linear limits). method: which solver answered and by what route.
    """

    status: Status
    weights: Array
    objective: float
    multipliers: Multipliers | None
    iterations: int
    residual: float
    violation_min: float = 0.0
    method: str = ""
