"""Objectives as the solver sees them: every kind is a sum of a few smooth blocks.

    minimise  -linear'w + 1/2 w'Qw - sum_t p_t (a log W_t + b (W_t^(1-rho) - 1)/(1-rho))

so that one kernel serves all of them. MAX_SHARPE is the ratio of linear'w to sqrt(w'Qw);
RISK_BUDGET has its own module. Cash earns `cash_return`: W_t = (1 + c)(1 + x_t'w) with
x = (r - c) / (1 + c); means are those over c.

A problem may be a stack of problems of one form (`batching.stacked`): what differs between them,
and what is made of it, has a leading axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from compute.optimize.limits import Scalar, everywhere, over
from compute.optimize.problem import Array, FactorCovariance, Objective, ObjectiveKind, Problem

RUINED = 1e-9  # wealth in a scenario that counts as none
SCENARIO_KINDS = frozenset(k for k in ObjectiveKind if k.needs == "scenarios" and k.tail is None)


class UnsupportedError(ValueError):
    """The smooth solver cannot take this problem; the message names the part."""


@dataclass(frozen=True)
class Moments:
    """Mean f64[n], covariance f64[n, n] and probabilities f64[T] of a problem, made once."""

    problem: Problem

    def mean(self) -> Array:
        """The mean given, else that of the scenarios, else zero."""
        if self.problem.mean is not None:
            return self.problem.mean
        if self.problem.scenarios is None:
            return np.zeros(self.problem.size)
        return self.scenario_mean()

    def scenario_mean(self) -> Array:
        """p'scenarios, whatever mean the problem states."""
        result: Array = np.vecmat(self.probability(), self.scenarios())
        return result

    def scenarios(self) -> Array:
        """f64[T, n]; ValueError if the problem has none."""
        if self.problem.scenarios is None:
            raise ValueError("scenarios: this objective or limit needs them")
        return self.problem.scenarios

    def probability(self) -> Array:
        """f64[T], uniform if not given."""
        if self.problem.scenario_probability is not None:
            return self.problem.scenario_probability
        periods = self.scenarios().shape[-2]
        return np.full(periods, 1.0 / periods)

    def covariance(self) -> Array:
        """Dense f64[n, n], given or that of the scenarios (unbiased for uniform weights)."""
        given = self.problem.covariance
        if isinstance(given, FactorCovariance):
            return given.dense()
        if given is not None:
            return given
        if self.problem.scenarios is None:
            raise ValueError("covariance: this objective or limit needs one, or scenarios")
        weight, scenarios = self.probability(), self.scenarios()
        lost = np.vecdot(weight, weight)[..., None]
        if not np.all(lost < 1.0):
            raise ValueError("covariance: one scenario has none, and the problem states none")
        centred = scenarios - np.vecmat(weight, scenarios)[..., None, :]
        result: Array = _gram(centred, weight) / (1.0 - lost[..., None])
        return result

    def excess(self) -> Array:
        """The mean that is expected, less what financing takes.

        ValueError where nothing is: no mean, no scenarios and no views.
        """
        given = self.problem.mean, self.problem.scenarios, self.problem.views
        if all(each is None for each in given):
            raise ValueError("mean: this objective needs one, or scenarios")
        result: Array = self.mean() - self.problem.objective_rates
        return result

    def second(self, over: Array | float = 0.0) -> Array:
        """E[rr'] of returns less `over`, f64[n, n]; covariance + mean mean' without scenarios."""
        if self.problem.scenarios is None:
            mean = self.mean() - over
            return self.covariance() + mean[..., :, None] * mean[..., None, :]
        return _gram(self.scenarios() - over, self.probability())


def _gram(scenarios: Array, weight: Array) -> Array:
    """sum_t weight_t x_t x_t'."""
    result: Array = (np.matrix_transpose(scenarios) * weight[..., None, :]) @ scenarios
    return result


@dataclass(frozen=True)
class Blocks:
    """Coefficients of the smooth blocks; None or 0 where a block is absent.

    linear: f64[n]; quad: f64[n, n]; growth: a; crra: (b, rho); ratio: maximise the Sharpe
    ratio; barrier: f64[n], b of -b'log w; constant: what the objective adds anyway.
    """

    linear: Array
    quad: Array | None = None
    growth: float = 0.0
    crra: tuple[float, float] | None = None
    ratio: bool = False
    barrier: Array | None = None
    constant: float = 0.0


def blocks(objective: Objective, moments: Moments) -> Blocks:
    """Compile an objective; UnsupportedError for the tail kinds and nested combinations."""
    if objective.kind is ObjectiveKind.COMBINATION:
        return _combined(objective, moments)
    return _single(objective, moments)


def _single(objective: Objective, moments: Moments) -> Blocks:
    if objective.kind not in SMOOTH:
        raise UnsupportedError(f"{objective.kind.name} is not a smooth objective")
    return SMOOTH[objective.kind](objective, moments)


def _zero(moments: Moments) -> Array:
    return np.zeros(moments.problem.size)


def _log_growth(objective: Objective, moments: Moments) -> Blocks:
    constant = float(np.log1p(moments.problem.cash_return))
    return Blocks(_zero(moments), growth=1.0, constant=constant)


def _mean_variance(objective: Objective, moments: Moments) -> Blocks:
    aversion = over(objective.risk_aversion, 2)
    if not everywhere(np.greater_equal(aversion, 0.0)):
        raise ValueError("risk_aversion must be >= 0")
    return Blocks(moments.excess(), aversion * moments.covariance())


def _quadratic_growth(objective: Objective, moments: Moments) -> Blocks:
    return Blocks(moments.excess(), moments.second(moments.problem.objective_rates))


def _crra(objective: Objective, moments: Moments) -> Blocks:
    """((1+c)^(1-rho) V^(1-rho) - 1)/(1-rho) = (1+c)^(1-rho) (V^(1-rho) - 1)/(1-rho) + constant."""
    rho = objective.risk_aversion
    if not rho >= 0.0:
        raise ValueError("risk_aversion must be >= 0")
    if abs(rho - 1.0) < 1e-9:
        return _log_growth(objective, moments)
    with np.errstate(over="ignore"):  # beyond doubles it is solved in logarithms
        factor = float(np.power(1.0 + moments.problem.cash_return, 1.0 - rho))
    return Blocks(_zero(moments), crra=(factor, rho), constant=(factor - 1.0) / (1.0 - rho))


SMOOTH: Mapping[ObjectiveKind, Callable[[Objective, Moments], Blocks]] = {
    ObjectiveKind.LOG_GROWTH: _log_growth,
    ObjectiveKind.QUADRATIC_GROWTH: _quadratic_growth,
    ObjectiveKind.MEAN_VARIANCE: _mean_variance,
    ObjectiveKind.MAX_SHARPE: lambda _, m: Blocks(m.excess(), m.covariance(), ratio=True),
    ObjectiveKind.MAX_RETURN: lambda _, m: Blocks(m.excess()),
    ObjectiveKind.CRRA: _crra,
    ObjectiveKind.MIN_VARIANCE: lambda _, m: Blocks(_zero(m), 2.0 * m.covariance()),
}
"""The blocks of each smooth objective; `proof/objectives.py` states each a second time."""


def _combined(objective: Objective, moments: Moments) -> Blocks:
    linear, quad, growth, constant = np.zeros(moments.problem.size), None, 0.0, 0.0
    crra: tuple[float, float] | None = None
    for weight, term in objective.terms:
        if not weight > 0.0:
            raise ValueError("the weights of a combination must be positive")
        part = blocks(term, moments) if term.kind is not ObjectiveKind.COMBINATION else None
        if part is None or part.ratio:
            raise UnsupportedError(f"{term.kind.name} cannot be part of a combination")
        linear = linear + weight * part.linear
        if part.quad is not None:
            quad = weight * part.quad + (0.0 if quad is None else quad)
        growth += weight * part.growth
        constant += weight * part.constant
        if part.crra is not None:
            if crra is not None and crra[1] != part.crra[1]:
                raise UnsupportedError("a combination may hold one CRRA risk aversion only")
            crra = (weight * part.crra[0] + (crra[0] if crra else 0.0), part.crra[1])
    return Blocks(linear, quad, growth, crra, constant=constant)


def evaluate(problem: Problem, compiled: Blocks, weights: Array) -> Scalar:
    """The objective at `weights` in its natural sense, costs included.

    NaN of a ratio without risk and of a book that loses everything.
    """
    if problem.objective.kind is ObjectiveKind.RISK_BUDGET:
        return budget_error(problem.objective, Moments(problem).covariance(), weights)
    value = compiled.constant + np.vecdot(compiled.linear, weights) - costs(problem, weights)
    if compiled.quad is not None:
        variance = np.vecdot(weights, np.matvec(compiled.quad, weights))
        if compiled.ratio:
            return value / np.sqrt(np.where(variance > 0.0, variance, np.nan))
        value = value - 0.5 * variance
    if compiled.growth or compiled.crra:
        value = value + _growth(problem, compiled, weights)
    return value if problem.objective.kind.maximised else -value


def _growth(problem: Problem, compiled: Blocks, weights: Array) -> Scalar:
    """What the scenarios add to the objective."""
    moments, cash = Moments(problem), problem.cash_return
    idle = np.vecdot(problem.objective_rates, weights)[..., None]
    held = (np.matvec(moments.scenarios(), weights) - idle) / (1.0 + cash)
    rise = np.log1p(np.where(held > RUINED - 1.0, held, np.nan))
    utility = compiled.growth * rise
    if compiled.crra:
        factor, rho = compiled.crra
        # A loss that weighs more than a double holds is -infinity; NaN where cash weighs nothing.
        with np.errstate(over="ignore", invalid="ignore"):
            utility = utility + factor * np.expm1((1.0 - rho) * rise) / (1.0 - rho)
    return np.vecdot(moments.probability(), utility)


def shares(objective: Objective, n: int) -> Array:
    """Risk budgets f64[n] summing to 1; ValueError unless all are positive."""
    budgets = objective.budgets
    if budgets is None:
        return np.full(n, 1.0 / n)
    if budgets.shape[-1:] != (n,) or not np.all(budgets > 0.0):
        raise ValueError("budgets must be positive, one for every asset")
    return budgets / budgets.sum(axis=-1, keepdims=True)


def budget_error(objective: Objective, covariance: Array, weights: Array) -> Scalar:
    """max_i |n RC_i / sum RC - n budgets_i| with RC_i = w_i (Sw)_i; NaN of a book without risk."""
    n = weights.shape[-1]
    contribution = weights * np.matvec(covariance, weights)
    total = contribution.sum(axis=-1, keepdims=True)
    share = contribution / np.where(total > 0.0, total, np.nan) - shares(objective, n)
    error: Array = n * np.abs(share).max(axis=-1)
    return error


def costs(problem: Problem, weights: Array) -> Scalar:
    """linear |trade| + impact |trade|^(3/2), summed, and the price of soft limits that give way."""
    total = soft_price(problem, weights)
    if problem.costs.linear is None and problem.costs.impact is None:
        return total
    trade = np.abs(weights - (0.0 if problem.holdings is None else problem.holdings))
    if problem.costs.linear is not None:
        total = total + np.vecdot(problem.costs.linear, trade)
    if problem.costs.impact is not None:
        total = total + np.vecdot(problem.costs.impact, trade**1.5)
    return total


def soft_price(problem: Problem, weights: Array) -> Scalar:
    """Price times violation of the soft rows."""
    rows = problem.limits.rows
    if rows is None or rows.price is None:
        return 0.0
    value, price = np.matvec(rows.matrix, weights), np.where(np.isfinite(rows.price), rows.price, 0)
    excess = np.maximum(value - rows.row_max, 0.0) + np.maximum(rows.row_min - value, 0.0)
    return np.vecdot(price, excess)
