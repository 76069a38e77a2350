"""What a portfolio is worth and which limits it breaks, in plain NumPy.

The independent reading of `Problem`: no solver code is used here, so an error in one is not
repeated in the other. `objective_value` and `violations` hold for any weights, feasible or not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from compute.optimize import measures
from compute.optimize.problem import FactorCovariance, Objective, ObjectiveKind, Problem
from compute.optimize.proof.objectives import TWINS

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Kind = ObjectiveKind


@dataclass(frozen=True)
class ProblemData:
    """The defaults of a `Problem` filled in: mean, covariance, probabilities, holdings, box."""

    problem: Problem

    @cached_property
    def size(self) -> int:
        """Number of assets n."""
        return self.problem.size

    @cached_property
    def scenarios(self) -> Matrix:
        """Simple returns [T, n]; a ValueError where the problem has none and needs them."""
        if self.problem.scenarios is None:
            raise ValueError("scenarios: the objective or a limit needs them, and there are none")
        return np.asarray(self.problem.scenarios, dtype=np.float64)

    @cached_property
    def probability(self) -> Vector:
        """Scenario probabilities [T], uniform if unset."""
        if self.problem.scenario_probability is not None:
            return np.asarray(self.problem.scenario_probability, dtype=np.float64)
        count = len(self.scenarios)
        return np.full(count, 1.0 / count)

    @cached_property
    def mean(self) -> Vector:
        """Expected simple return a period [n]: as given, else p'scenarios, else zero."""
        if self.problem.mean is not None:
            return np.asarray(self.problem.mean, dtype=np.float64)
        if self.problem.scenarios is not None:
            return np.asarray(self.probability @ self.scenarios)
        return np.zeros(self.size)

    @cached_property
    def excess(self) -> Vector:
        """The mean that is expected, less what financing takes [n]."""
        return self.mean - self.problem.objective_rates

    @cached_property
    def holdings(self) -> Vector:
        """Current weights [n], all cash if unset."""
        held = self.problem.holdings
        return np.zeros(self.size) if held is None else np.asarray(held, dtype=np.float64)

    @cached_property
    def excess_moment(self) -> Matrix:
        """E[x x'] [n, n] of x = r + views - financing."""
        rates = self.problem.objective_rates
        mean = self.mean
        if self.problem.scenarios is not None:
            mean = self.probability @ self.scenarios
        crossed = np.outer(mean, rates)
        return np.asarray(self.second_moment - crossed - crossed.T + np.outer(rates, rates))

    @cached_property
    def second_moment(self) -> Matrix:
        """E[r r'] [n, n]: of the scenarios, else covariance + mean mean'."""
        if self.problem.scenarios is not None:
            return np.asarray((self.scenarios * self.probability[:, None]).T @ self.scenarios)
        return self.covariance + np.outer(self.mean, self.mean)

    @cached_property
    def covariance(self) -> Matrix:
        """Covariance [n, n]: as given, from factors, else of the scenarios (ddof 1)."""
        given = self.problem.covariance
        if isinstance(given, FactorCovariance):
            return given.dense()
        if given is not None:
            return np.asarray(given, dtype=np.float64)
        if self.problem.scenarios is None:
            raise ValueError("covariance: the objective or a limit needs one, or scenarios")
        centred = self.scenarios - self.probability @ self.scenarios
        divisor = 1.0 - float(self.probability @ self.probability)
        if not divisor > 0.0:
            raise ValueError("covariance: one scenario has none, and the problem states none")
        return np.asarray((centred * self.probability[:, None]).T @ centred / divisor)

    @cached_property
    def lower(self) -> Vector:
        """Lower bounds [n] of the box and of the trade cap together; -inf where free."""
        limits = self.problem.limits
        box = np.full(self.size, -np.inf) if limits.lower is None else limits.lower
        return (
            box if limits.trade_max is None else np.maximum(box, self.holdings - limits.trade_max)
        )

    @cached_property
    def upper(self) -> Vector:
        """Upper bounds [n] of the box and of the trade cap together; inf where free."""
        limits = self.problem.limits
        box = np.full(self.size, np.inf) if limits.upper is None else limits.upper
        return (
            box if limits.trade_max is None else np.minimum(box, self.holdings + limits.trade_max)
        )

    def volatility(self, weights: Vector) -> float:
        """sqrt(w'Sw)."""
        return math.sqrt(max(float(weights @ self.covariance @ weights), 0.0))

    def wealth(self, weights: Vector) -> Vector:
        """W_t = 1 + cash_return + (r_t + views - financing)'w [T], as the objective expects it."""
        cash = self.problem.cash_return - float(self.problem.objective_rates @ weights)
        return np.asarray(1.0 + cash + self.scenarios @ weights)

    def floor_wealth(self, weights: Vector) -> Vector:
        """The same without views [T], of which the drawdown-risk limit is."""
        cash = self.problem.cash_return - float(self.problem.financing_rates @ weights)
        return np.asarray(1.0 + cash + self.scenarios @ weights)

    def costs(self, weights: Vector) -> float:
        """linear'|w - holdings| + impact'|w - holdings|^(3/2), in fractions of equity."""
        traded, total = np.abs(weights - self.holdings), 0.0
        if self.problem.costs.linear is not None:
            total += float(self.problem.costs.linear @ traded)
        if self.problem.costs.impact is not None:
            total += float(self.problem.costs.impact @ traded**1.5)
        return total


def objective_value(problem: Problem, weights: Vector) -> float:
    """The objective in its natural sense, costs and the price of soft limits included.

    weights [n] as fractions of equity. -inf (of something maximised) where wealth is lost
    entirely in a scenario; NaN for the Sharpe ratio of a riskless book.
    """
    data, objective = ProblemData(problem), problem.objective
    burden = data.costs(weights) + soft_price(problem, weights)
    if objective.kind is Kind.MAX_SHARPE:
        excess = data.excess @ weights - burden
        risk = data.volatility(weights)
        return float(excess / risk) if risk > 0.0 else float("nan")
    value = kind_value(data, objective, weights)
    return value - burden if objective.kind.maximised else value + burden


def kind_value(data: ProblemData, objective: Objective, weights: Vector) -> float:
    """The value of one objective without costs, in its natural sense."""
    kind = objective.kind
    if kind is Kind.COMBINATION:
        return sum(
            weight * (1.0 if term.kind.maximised else -1.0) * kind_value(data, term, weights)
            for weight, term in objective.terms
        )
    if kind.tail is not None:
        return tail_measure(data, kind, objective.tail, weights)[0]
    if kind is Kind.RISK_BUDGET:
        return _budget_error(data, objective, weights)
    return TWINS[kind].value(data, objective, weights)


def tail_measure(
    data: ProblemData, kind: Kind, level: float, weights: Vector
) -> tuple[float, Vector]:
    """CVaR, CDaR or maximum drawdown of a book and its supporting q[T], value = -q'(R w)."""
    assert kind.tail is not None, "of tail measures only"
    returns = np.asarray(data.scenarios @ weights)
    return measures.tail_support(kind.tail, returns, data.probability, level)


def _budget_error(data: ProblemData, objective: Objective, weights: Vector) -> float:
    contribution = weights * (data.covariance @ weights)
    budgets = np.ones(data.size) if objective.budgets is None else objective.budgets
    total = float(contribution.sum())
    if not total > 0.0:
        return float("nan")
    share = contribution / total - budgets / budgets.sum()
    return data.size * float(np.abs(share).max())


def soft_price(problem: Problem, weights: Vector) -> float:
    """Sum over soft rows of price times violation, in objective units; 0 without any."""
    rows = problem.limits.rows
    if rows is None or rows.price is None:
        return 0.0
    value = rows.matrix @ weights
    excess = np.maximum(np.maximum(value - rows.row_max, rows.row_min - value), 0.0)
    soft = np.isfinite(rows.price)
    return float(rows.price[soft] @ excess[soft])


def violations(problem: Problem, weights: Vector) -> dict[str, float]:
    """By how much each hard limit is exceeded, by name; negative is headroom.

    Box limits are reported as their worst asset. Natural units: fractions of equity for weights,
    the measure's own unit for risk limits (log units for the drawdown-risk limit).
    """
    data, limits = ProblemData(problem), problem.limits
    total = float(weights.sum())
    found: dict[str, float | None] = {
        "lower": None if limits.lower is None else float(np.max(limits.lower - weights)),
        "upper": None if limits.upper is None else float(np.max(weights - limits.upper)),
        "budget_min": None if limits.budget_min is None else limits.budget_min - total,
        "budget_max": None if limits.budget_max is None else total - limits.budget_max,
        "gross_max": _over(float(np.abs(weights).sum()), limits.gross_max),
        "turnover_max": _over(float(np.abs(weights - data.holdings).sum()), limits.turnover_max),
        "trade_max": None
        if limits.trade_max is None
        else float(np.max(np.abs(weights - data.holdings) - limits.trade_max)),
    }
    found.update(_row_violations(problem, weights))
    found.update(risk_excess(data, weights))
    return {name: value for name, value in found.items() if value is not None and value > -np.inf}


def largest_violation(problem: Problem, weights: Vector) -> float:
    """The worst of `violations`, never below zero; inf if any weight is not finite."""
    if not np.all(np.isfinite(weights)):
        return float("inf")
    return max([0.0, *violations(problem, weights).values()])


def _over(value: float, bound: float | None) -> float | None:
    return None if bound is None else value - bound


def _row_violations(problem: Problem, weights: Vector) -> dict[str, float]:
    rows = problem.limits.rows
    if rows is None:
        return {}
    value = rows.matrix @ weights
    hard = np.ones(len(value), bool) if rows.price is None else ~np.isfinite(rows.price)
    sides = ((" min", rows.row_min - value), (" max", value - rows.row_max))
    return {
        name + side: float(excess[index])
        for side, excess in sides
        for index, name in enumerate(rows.names)
        if hard[index]
    }


def risk_excess(data: ProblemData, weights: Vector) -> dict[str, float]:
    """Value less bound of every nonlinear limit that is set, by name."""
    limits, excess = data.problem.limits, {}
    if limits.volatility_max is not None:
        excess["volatility_max"] = data.volatility(weights) - limits.volatility_max
    if limits.var_max is not None:
        quantile = NormalDist().inv_cdf(limits.var_tail)
        value = quantile * data.volatility(weights) - float(data.mean @ weights)
        excess["var_max"] = value - limits.var_max
    for name, kind, bound, level in tail_limits(data.problem):
        excess[name] = tail_measure(data, kind, level, weights)[0] - bound
    risk = limits.drawdown_risk
    if risk is not None and risk.quadratic:
        mean = data.probability @ data.scenarios
        square = float(weights @ data.second_moment @ weights)
        inner = 0.5 * (risk.exponent + 1.0) * square - float(mean @ weights)
        excess["drawdown_risk"] = risk.exponent * inner
    elif risk is not None:
        growth = data.floor_wealth(weights)
        value, _ = measures.log_mean_power(growth, data.probability, risk.exponent)
        excess["drawdown_risk"] = value
    return excess


def tail_limits(problem: Problem) -> list[tuple[str, Kind, float, float]]:
    """The scenario-tail limits that are set: (name, measure, bound, level)."""
    limits = problem.limits
    candidates = (
        ("cvar_max", Kind.MIN_CVAR, limits.cvar_max, limits.cvar_tail),
        ("cdar_max", Kind.MIN_CDAR, limits.cdar_max, limits.cdar_tail),
        ("drawdown_max", Kind.MIN_MAX_DRAWDOWN, limits.drawdown_max, 1.0),
    )
    return [
        (name, kind, bound, tail) for name, kind, bound, tail in candidates if bound is not None
    ]
