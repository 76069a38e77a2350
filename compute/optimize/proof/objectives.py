"""Each smooth objective a second time: value, slope and curvature, for the proof.

The twins of `objectives.SMOOTH`, which the solvers compile; neither reads the other. Weights are
[n], slopes are of what is maximised, costs are left out. A kind that is added there needs a twin
here; tests/compute/optimize/test_objective_twins.py compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from compute.optimize.problem import Objective
from compute.optimize.problem import ObjectiveKind as Kind
from compute.optimize.proof.problem_numbers import Matrix, ProblemData, Vector


def volatility_gradient(data: ProblemData, weights: Vector) -> Vector:
    """S w / sqrt(w'Sw) [n]; zero, a subgradient, at a riskless book."""
    risk = data.volatility(weights)
    return data.covariance @ weights / risk if risk > 0.0 else np.zeros(data.size)


def wealth_slopes(data: ProblemData, slopes: Vector) -> Vector:
    """Chain rule from d/dW [T] to weights: R'slopes + (views - financing) sum(slopes)."""
    with np.errstate(invalid="ignore"):  # of utilities beyond doubles, which have none here
        own = data.scenarios.T @ slopes - data.problem.objective_rates * slopes.sum()
    return np.asarray(own)


def _mean_size(data: ProblemData, reach: float) -> float:
    views = data.problem.views
    expected = data.mean if views is None else data.mean + views
    return float(np.abs(expected).max(initial=0.0))


def _flat(
    data: ProblemData, objective: Objective, weights: Vector, least: float
) -> tuple[Matrix, float]:
    return np.zeros((data.size, data.size)), np.inf


@dataclass(frozen=True)
class Twin:
    """A smooth objective, in its natural sense but for `gradient`.

    value: (data, objective, weights), in its own units. gradient: the same and the Sharpe ratio
    held fixed; larger is better. curvature: Q [n, n] and the largest r'Q^-1 r for which the bound
    of `curvature_bound` holds, by scenarios above a share of the largest. size: (data, reach), a
    typical slope of its parts, reach the largest sum |w|. marginal: (data, objective, weights),
    what these slopes are worth in its units.
    """

    value: Callable[[ProblemData, Objective, Vector], float]
    gradient: Callable[[ProblemData, Objective, Vector, float | None], Vector]
    curvature: Callable[[ProblemData, Objective, Vector, float], tuple[Matrix, float]] = _flat
    size: Callable[[ProblemData, float], float] = _mean_size
    marginal: Callable[[ProblemData, Objective, Vector], float] = lambda f, o, w: 1.0


def _gain(data: ProblemData, weights: Vector) -> float:
    return float(data.excess @ weights)


def _variance(data: ProblemData, weights: Vector) -> float:
    return float(weights @ data.covariance @ weights)


def _aversion(objective: Objective) -> float:
    return 1.0 if objective.kind is Kind.LOG_GROWTH else objective.risk_aversion


def _utility(data: ProblemData, objective: Objective, weights: Vector) -> float:
    """-inf where wealth is lost entirely in a scenario."""
    wealth, aversion = data.wealth(weights), _aversion(objective)
    if not np.all(wealth > 0.0):
        return float("-inf")
    if aversion == 1.0:
        return float(data.probability @ np.log(wealth))
    # expm1 keeps the digits that W^(1 - a) - 1 loses for wealth near one; -inf is beyond doubles.
    with np.errstate(over="ignore"):
        power = np.expm1((1.0 - aversion) * np.log(wealth))
    return float(data.probability @ power) / (1.0 - aversion)


def _utility_gradient(
    data: ProblemData, objective: Objective, weights: Vector, ratio: float | None
) -> Vector:
    wealth = data.wealth(weights)
    if not np.all(wealth > 0.0):
        return np.full(data.size, np.nan)
    with np.errstate(over="ignore"):  # then nothing is proven there
        worth = np.exp(-_aversion(objective) * np.log(wealth) - data.log_unit)
    return wealth_slopes(data, data.probability * worth)


def _utility_curvature(
    data: ProblemData, objective: Objective, weights: Vector, least: float
) -> tuple[Matrix, float]:
    rho, wealth = _aversion(objective), data.wealth(weights)
    with np.errstate(over="ignore"):
        worth = np.exp((1.0 - rho) * np.log(wealth) - data.log_unit)
        share = (0.25 if rho >= 1.0 else 0.125 * rho) * data.probability * worth
    share = np.where(share >= least * share.max(initial=0.0), share, 0.0)
    relative = (data.scenarios - data.problem.objective_rates) / wealth[:, None]
    return (relative.T * share) @ relative, float(share[share > 0.0].min(initial=np.inf))


def _marginal_utility(data: ProblemData, objective: Objective, weights: Vector) -> float:
    """E[W^-rho]: what a slope of wealth is worth, so that no factor of a utility counts."""
    wealth = data.wealth(weights)
    if not np.all(wealth > 0.0):
        return 1.0
    with np.errstate(over="ignore"):
        worth = np.exp(-_aversion(objective) * np.log(wealth) - data.log_unit)
    return float(data.probability @ worth)


def log_utility_size(data: ProblemData, objective: Objective, weights: Vector) -> float | None:
    """log |U(w)| of a utility W^(1 - rho) / (1 - rho) that is beyond doubles; None of others."""
    rho = objective.risk_aversion
    if objective.kind is not Kind.CRRA or not rho > 1.0:
        return None
    wealth = data.wealth(weights)
    if not np.all(wealth > 0.0):
        return None
    exponent = (1.0 - rho) * np.log(wealth)
    top = float(exponent.max())
    worth = data.probability @ np.exp(exponent - top)
    return top + float(np.log(worth)) - float(np.log(rho - 1.0))


_UTILITY = Twin(_utility, _utility_gradient, _utility_curvature, marginal=_marginal_utility)

TWINS: Mapping[Kind, Twin] = {
    Kind.LOG_GROWTH: _UTILITY,
    Kind.CRRA: _UTILITY,
    Kind.MEAN_VARIANCE: Twin(
        lambda f, o, w: _gain(f, w) - 0.5 * o.risk_aversion * _variance(f, w),
        lambda f, o, w, _: f.excess - o.risk_aversion * (f.covariance @ w),
        lambda f, o, w, _: (0.5 * o.risk_aversion * f.covariance, np.inf),
    ),
    Kind.QUADRATIC_GROWTH: Twin(
        lambda f, o, w: _gain(f, w) - 0.5 * float(w @ f.excess_moment @ w),
        lambda f, o, w, _: f.excess - f.excess_moment @ w,
        lambda f, o, w, _: (0.5 * f.excess_moment, np.inf),
    ),
    Kind.MIN_VARIANCE: Twin(
        lambda f, o, w: _variance(f, w),
        lambda f, o, w, _: -2.0 * (f.covariance @ w),
        lambda f, o, w, _: (f.covariance, np.inf),
        lambda f, reach: reach * float(np.diagonal(f.covariance).max()),
    ),
    Kind.MAX_RETURN: Twin(lambda f, o, w: _gain(f, w), lambda f, o, w, _: f.excess.copy()),
    # Its value is a ratio that costs enter (`evaluation.objective_value`): here, its numerator.
    Kind.MAX_SHARPE: Twin(
        lambda f, o, w: _gain(f, w),
        lambda f, o, w, ratio: f.excess - (ratio or 0.0) * volatility_gradient(f, w),
    ),
}
"""Of every smooth kind."""
