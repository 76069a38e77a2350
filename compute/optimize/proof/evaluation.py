"""What a portfolio is worth and which limits it breaks, in plain NumPy.

The independent reading of `Problem`: no solver code is used here, so an error in one is not
repeated in the other. `objective_value` and `violations` hold for any weights, feasible or not.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from compute.optimize import measures
from compute.optimize.problem import Objective, ObjectiveKind, Problem
from compute.optimize.proof.objectives import TWINS
from compute.optimize.proof.problem_numbers import ProblemData, Vector

Kind = ObjectiveKind


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
