"""Sizing problems drawn at random, pleasant and hostile, feasible or not by construction.

Limits are set around a known portfolio, the anchor: each holds there with some room, often none,
so the problem is feasible whatever was drawn. A problem meant to be infeasible gets one more limit
that no portfolio within the others meets, by a margin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.synthetic import fat_tailed
from compute.optimize.problem import (
    Array,
    Costs,
    DrawdownRisk,
    FactorCovariance,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
)
from compute.optimize.proof.evaluation import risk_excess
from compute.optimize.proof.problem_numbers import ProblemData

Kind = ObjectiveKind
Rng = np.random.Generator

SIZES = ((2, 8), (9, 24), (25, 60))
HOSTILE = (
    "duplicated assets",
    "rank-deficient covariance",
    "fewer scenarios than assets",
    "all means negative",
    "returns of 1e-6",
    "weights of 1e-6",
    "weights of 1e4",
    "near-empty limits",
    "fixed names",
    "uneven probabilities",
)
CURVED = (
    Kind.LOG_GROWTH,
    Kind.QUADRATIC_GROWTH,
    Kind.MEAN_VARIANCE,
    Kind.MAX_SHARPE,
    Kind.CRRA,
    Kind.MIN_VARIANCE,
    Kind.COMBINATION,
)
LINEAR = (Kind.MAX_RETURN, Kind.MIN_CVAR, Kind.MIN_CDAR, Kind.MIN_MAX_DRAWDOWN)
# Limits in the combinations that are drawn: few enough that compiled kernels are used again.
CHOICES = (
    (),
    ("rows",),
    ("soft rows", "linear cost"),
    ("turnover", "rows"),
    ("linear cost", "turnover"),
    ("impact", "linear cost"),
    ("impact",),
    ("impact", "turnover"),
    ("short", "gross", "rows"),
    ("short", "gross", "turnover", "linear cost"),
    ("trade", "rows"),
    ("volatility",),
    ("short", "volatility", "rows"),
    ("var",),
    ("drawdown risk",),
    ("drawdown risk", "rows", "turnover"),
    ("quadratic drawdown risk",),
    ("cvar",),
    ("cdar", "rows"),
    ("drawdown",),
    ("cvar", "impact"),
    ("cdar", "volatility"),
    ("tail in the objective",),
    ("tail in the objective", "linear cost", "turnover"),
    ("tail in the objective", "cvar", "impact"),
)
CONFLICTS = ("budget", "box", "rows", "turnover", "gross", "volatility", "cvar")


@dataclass(frozen=True)
class Drawn:
    """A problem, what is hostile about it, and whether any portfolio keeps its limits.

    feasible: None where the limits conflict by so little that either answer is right. explained:
    whether `conflicts` can check why there is none.
    """

    seed: int
    problem: Problem
    features: tuple[str, ...]
    feasible: bool | None
    explained: bool = False


def draw(seed: int) -> Drawn:
    """The problem of a seed: one in eight infeasible, half of them hostile in one way or two."""
    rng = np.random.default_rng(seed)
    low, high = SIZES[rng.integers(len(SIZES))]
    size = int(rng.integers(low, high + 1))
    count = int(rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2]))
    hostile = {str(name) for name in rng.choice(HOSTILE, count, replace=False)}
    if {"weights of 1e-6", "weights of 1e4"} <= hostile:
        hostile.discard("weights of 1e4")
    chosen = CHOICES[rng.integers(len(CHOICES))]
    conflict = str(rng.choice(CONFLICTS)) if rng.random() < 0.125 else None
    unit = 1e-6 if "weights of 1e-6" in hostile else 1e4 if "weights of 1e4" in hostile else 1.0
    market = _market(rng, size, hostile, unit)
    objective = _objective(rng, bool({"impact", "volatility"} & set(chosen)))
    if "tail in the objective" in chosen:
        objective = _with_tail(rng)
    anchor = _anchor(rng, size, short="short" in chosen)
    limits, holdings = _limits(rng, market, anchor, chosen, hostile)
    costs = Costs(
        rng.uniform(0.0, 1e-3, size) if "linear cost" in chosen else None,
        rng.uniform(0.0, 2e-3, size) if "impact" in chosen else None,
    )
    problem = replace(market, objective=objective, limits=limits, costs=costs, holdings=holdings)
    if conflict is not None:
        problem = replace(problem, limits=_broken(problem, conflict))
    features = (*sorted(hostile), *chosen, *(() if conflict is None else (f"no {conflict}",)))
    return Drawn(seed, counted_in(problem, unit), features, conflict is None)


def _market(rng: Rng, size: int, hostile: set[str], unit: float) -> Problem:
    """Scenarios, and moments of their own where the covariance is to be deficient."""
    periods = int(rng.choice([40, 120, 250]))
    if "fewer scenarios than assets" in hostile:
        periods = max(size // 2, 2)
    returns = fat_tailed(rng, periods, size)
    if "duplicated assets" in hostile:
        returns[:, rng.integers(0, size, max(size // 3, 1))] = returns[:, :1]
    if "all means negative" in hostile:
        returns -= returns.mean(0) + rng.uniform(1e-4, 2e-3, size)
    if "returns of 1e-6" in hostile:
        returns *= 1e-4
    odds = None
    if "uneven probabilities" in hostile:
        odds = rng.dirichlet(np.full(periods, 0.3))
    covariance: Array | FactorCovariance | None = None
    if "rank-deficient covariance" in hostile:
        loading = returns[: max(min(size, periods) // 3, 1)]
        covariance = np.asarray(loading.T @ loading / len(loading))
    elif rng.random() < 0.1:
        loading = returns[:3].T
        covariance = FactorCovariance(loading, np.eye(loading.shape[1]), returns.var(0))
    cash = float(rng.choice([0.0, 1e-4])) if unit == 1.0 else 0.0
    mean = returns.mean(0) * rng.uniform(0.5, 2.0, size) if rng.random() < 0.2 else None
    return Problem(
        Objective(Kind.MAX_RETURN),
        mean=mean,
        covariance=covariance,
        scenarios=returns,
        scenario_probability=odds,
        cash_return=cash,
    )


def _objective(rng: Rng, curved: bool) -> Objective:
    kinds = CURVED if curved or rng.random() < 0.7 else LINEAR
    kind = kinds[rng.integers(len(kinds))]
    aversion, tail = float(rng.choice([0.5, 2.0, 5.0, 20.0])), float(rng.choice([0.8, 0.95]))
    if kind is Kind.COMBINATION:
        first = Objective(Kind.LOG_GROWTH)
        second = Objective(Kind.MEAN_VARIANCE, risk_aversion=aversion)
        return Objective(kind, terms=((1.0, first), (float(rng.uniform(0.1, 2.0)), second)))
    return Objective(kind, risk_aversion=aversion, tail=tail)


def _with_tail(rng: Rng) -> Objective:
    """Something curved less a tail measure."""
    smooth = (Kind.LOG_GROWTH, Kind.MEAN_VARIANCE, Kind.MIN_VARIANCE)
    tails = (Kind.MIN_CVAR, Kind.MIN_CDAR, Kind.MIN_MAX_DRAWDOWN)
    first = Objective(smooth[rng.integers(3)], risk_aversion=float(rng.choice([0.5, 5.0])))
    second = Objective(tails[rng.integers(3)], tail=float(rng.choice([0.8, 0.95])))
    return Objective(
        Kind.COMBINATION, terms=((1.0, first), (float(rng.uniform(0.01, 0.5)), second))
    )


def _anchor(rng: Rng, size: int, *, short: bool) -> Array:
    """Weights that every limit will allow: sparse or spread, with some cash."""
    weights = rng.dirichlet(np.full(size, rng.choice([0.3, 3.0]))) * rng.uniform(0.5, 1.0)
    if short:
        weights = weights * rng.choice([-1.0, 1.0], size, p=[0.3, 0.7])
    return np.asarray(weights)


def _limits(
    rng: Rng, market: Problem, anchor: Array, chosen: tuple[str, ...], hostile: set[str]
) -> tuple[Limits, Array]:
    """Limits around the anchor, and holdings."""
    size = len(anchor)
    room = 1e-7 if "near-empty limits" in hostile else float(rng.choice([0.0, 0.1, 1.0]))
    lower, upper = _box(rng, anchor, room, "short" in chosen)
    if "fixed names" in hostile:
        fixed = rng.integers(0, size, max(size // 4, 1))
        lower[fixed] = upper[fixed] = anchor[fixed]
    total = float(anchor.sum())
    holdings = anchor + rng.normal(0.0, 0.3 / size, size) * rng.integers(0, 2, size)
    fields: dict[str, Any] = {"lower": lower, "upper": upper, "budget_max": total + room}
    if rng.random() < 0.5:
        fields["budget_min"] = total - room * rng.integers(0, 2)
    if "rows" in chosen or "soft rows" in chosen:
        fields["rows"] = _rows(rng, anchor, room, "soft rows" in chosen)
    if "gross" in chosen:
        fields["gross_max"] = float(np.abs(anchor).sum()) * (1.0 + room)
    if "turnover" in chosen:
        fields["turnover_max"] = float(np.abs(anchor - holdings).sum()) + 0.5 * room
    if "trade" in chosen:
        fields["trade_max"] = np.abs(anchor - holdings) + room * rng.uniform(0.0, 0.3, size)
    at_anchor = replace(market, limits=Limits(**(fields | _risk_limits(chosen))))
    excess = risk_excess(ProblemData(at_anchor), anchor)
    stretch = 1.0 + float(rng.choice([0.0, 0.05, 0.5])) + (room if room < 1e-3 else 0.0)
    for name in ("volatility_max", "cvar_max", "cdar_max", "drawdown_max", "var_max"):
        if name in excess:
            value = excess[name] + getattr(at_anchor.limits, name)
            fields[name] = value + (stretch - 1.0) * abs(value)
    if any(name.endswith("drawdown risk") for name in chosen):
        fields["drawdown_risk"] = _drawdown_risk(market, anchor, "drawdown risk" not in chosen)
    return Limits(**fields), holdings


def _drawdown_risk(market: Problem, anchor: Array, quadratic: bool) -> DrawdownRisk | None:
    """The strictest of a few exponents that the anchor bears; None where it loses on average."""
    for exponent in (28.4, 6.5, 1.5, 0.3):
        risk = DrawdownRisk(exponent, quadratic=quadratic)
        limited = replace(market, limits=Limits(drawdown_risk=risk))
        if risk_excess(ProblemData(limited), anchor)["drawdown_risk"] < 0.0:
            return risk
    return None


def _box(rng: Rng, anchor: Array, room: float, short: bool) -> tuple[Array, Array]:
    size = len(anchor)
    upper = np.maximum(anchor, 0.0) + room * rng.uniform(0.2, 1.0, size)
    lower = np.zeros(size)
    if room < 1e-3:
        lower = np.where(anchor > 0.0, anchor * rng.integers(0, 2, size), 0.0)
        upper = np.where(rng.random(size) < 0.5, upper, np.maximum(anchor, 0.0) + 0.3)
    if short:
        lower = np.minimum(anchor, 0.0) - room * rng.uniform(0.1, 0.5, size)
    return lower, upper


def _rows(rng: Rng, anchor: Array, room: float, soft: bool) -> Rows:
    """Three sectors, a factor exposure and a repeated row, so that prices are not unique."""
    size = len(anchor)
    sector = rng.integers(0, 3, size)
    matrix = np.vstack([sector[None, :] == np.arange(3)[:, None], rng.normal(size=(1, size))])
    matrix = np.vstack([matrix.astype(np.float64), matrix[:1]])
    value = matrix @ anchor
    low, high = value - 0.3 * room, value + 0.2 * room
    low[rng.random(5) < 0.5], high[rng.random(5) < 0.2] = -np.inf, np.inf
    price = np.full(5, np.inf)
    if soft:
        # Out of the anchor's reach, on the side that is limited or above it.
        price[:3] = rng.choice([1e-5, 1e-3, 1.0], 3)
        high[:3] = np.maximum(high[:3] - 0.05, np.where(np.isinf(low[:3]), -np.inf, low[:3]))
    names = ("sector 0", "sector 1", "sector 2", "factor", "sector 0 again")
    return Rows(matrix, low, high, names, price if soft else None)


def _risk_limits(chosen: tuple[str, ...]) -> dict[str, Any]:
    """The risk measures whose limits were chosen, each with a bound of 0."""
    measures = ("volatility", "var", "cvar", "cdar", "drawdown")
    return {f"{name}_max": 0.0 for name in measures if name in chosen}


def _broken(problem: Problem, conflict: str) -> Limits:
    """The limits with one more that cannot be kept: its margin is a hundredth or more."""
    limits, size = problem.limits, problem.size
    assert limits.lower is not None
    assert limits.upper is not None
    most, least = float(limits.upper.sum()), float(limits.lower.sum())
    least_gross = np.maximum(np.maximum(limits.lower, -limits.upper), 0.0)
    if conflict == "box":
        upper = limits.upper.copy()
        upper[0] = limits.lower[0] - 0.05
        return replace(limits, upper=upper)
    if conflict == "rows":
        matrix = np.ones((2, size))
        low, high = np.array([most + 0.01, -np.inf]), np.array([np.inf, most + 1.0])
        return replace(limits, rows=Rows(matrix, low, high, ("too much", "slack")))
    forced = replace(limits, budget_min=most, budget_max=None)
    if conflict == "turnover" and problem.holdings is not None:
        away = float(np.maximum(limits.lower - problem.holdings, 0.0).sum())
        away += float(np.maximum(problem.holdings - limits.upper, 0.0).sum())
        if away > 0.02:
            return replace(limits, turnover_max=0.5 * away)
    if conflict == "gross" and least_gross.sum() > 0.02:
        return replace(limits, gross_max=0.5 * float(least_gross.sum()))
    if conflict in ("volatility", "cvar") and most > least + 0.05:
        # Everything at its upper bound, and half the risk of that.
        facts = ProblemData(
            replace(problem, limits=replace(limits, volatility_max=0.0, cvar_max=0.0))
        )
        risk = risk_excess(facts, limits.upper)
        name = f"{conflict}_max"
        if risk[name] > 1e-3:
            return replace(forced, **{name: 0.5 * risk[name]})
    return replace(limits, budget_min=most + 0.05, budget_max=most + 1.0)


def counted_in(problem: Problem, unit: float) -> Problem:
    """The same problem with weights `unit` times as large, and returns as much smaller."""
    if unit == 1.0:
        return problem
    limits, costs, given = problem.limits, problem.costs, problem.covariance
    rows = limits.rows
    if rows is not None:
        price = None if rows.price is None else rows.price / unit
        rows = replace(rows, row_min=rows.row_min * unit, row_max=rows.row_max * unit, price=price)

    def times(value: Any) -> Any:
        return None if value is None else value * unit

    names = ("lower", "upper", "budget_min", "budget_max", "gross_max", "turnover_max", "trade_max")
    bounds: dict[str, Any] = {name: times(getattr(limits, name)) for name in names}
    if isinstance(given, FactorCovariance):
        given = replace(given, loadings=given.loadings / unit, specific=given.specific / unit**2)
    elif given is not None:
        given = given / unit**2
    return replace(
        problem,
        limits=replace(limits, rows=rows, **bounds),
        costs=Costs(
            None if costs.linear is None else costs.linear / unit,
            None if costs.impact is None else costs.impact / unit**1.5,
        ),
        mean=None if problem.mean is None else problem.mean / unit,
        covariance=given,
        scenarios=None if problem.scenarios is None else problem.scenarios / unit,
        holdings=times(problem.holdings),
    )
