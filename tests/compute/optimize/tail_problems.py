"""Tail problems drawn at random, and the whole linear program HiGHS solves for comparison."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from compute.optimize.problem import Array, Costs, Limits, Objective, ObjectiveKind, Problem, Rows

Kind = ObjectiveKind
NAMES = {Kind.MIN_CVAR: "cvar", Kind.MIN_CDAR: "cdar", Kind.MIN_MAX_DRAWDOWN: "drawdown"}


class FullProgram:
    """Every scenario and every running peak as columns and rows; min cost'x, rows within bounds."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.cost: list[float] = []
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.rows: list[tuple[list[int], list[float], float, float]] = []
        size, limits = problem.size, problem.limits
        self.held = np.zeros(size) if problem.holdings is None else problem.holdings
        lower = np.full(size, -np.inf) if limits.lower is None else limits.lower
        upper = np.full(size, np.inf) if limits.upper is None else limits.upper
        if limits.trade_max is not None:
            lower = np.maximum(lower, self.held - limits.trade_max)
            upper = np.minimum(upper, self.held + limits.trade_max)
        for low, high in zip(lower, upper, strict=True):
            self.column(low, high, 0.0)
        self.weights = list(range(size))
        self.limits()
        self.measures()

    def column(self, low: float, high: float, cost: float) -> int:
        self.lower.append(float(low))
        self.upper.append(float(high))
        self.cost.append(float(cost))
        return len(self.cost) - 1

    def row(self, at: list[int], value: list[float], low: float, high: float) -> None:
        self.rows.append((at, [float(v) for v in value], float(low), float(high)))

    def absolute(self, centre: Array, costs: Array, bound: float | None) -> None:
        columns = [self.column(0.0, np.inf, cost) for cost in costs]
        for i, column in enumerate(columns):
            self.row([i, column], [1, -1], -np.inf, centre[i])
            self.row([i, column], [-1, -1], -np.inf, -centre[i])
        if bound is not None:
            self.row(columns, [1.0] * len(columns), -np.inf, bound)

    def limits(self) -> None:
        limits, size, costs = self.problem.limits, self.problem.size, self.problem.costs
        low = -np.inf if limits.budget_min is None else limits.budget_min
        high = np.inf if limits.budget_max is None else limits.budget_max
        self.row(self.weights, [1.0] * size, low, high)
        if limits.rows is not None:
            for i, row in enumerate(limits.rows.matrix):
                price = np.inf if limits.rows.price is None else limits.rows.price[i]
                at, value = list(self.weights), list(row)
                if np.isfinite(price):
                    at += [self.column(0, np.inf, price), self.column(0, np.inf, price)]
                    value += [1.0, -1.0]
                self.row(at, value, limits.rows.row_min[i], limits.rows.row_max[i])
        if limits.turnover_max is not None or costs.linear is not None:
            linear = np.zeros(size) if costs.linear is None else costs.linear
            self.absolute(self.held, linear, limits.turnover_max)
        if limits.gross_max is not None:
            self.absolute(np.zeros(size), np.zeros(size), limits.gross_max)

    def measures(self) -> None:
        problem, limits = self.problem, self.problem.limits
        objective = problem.objective
        parts = objective.terms or ((1.0, objective),)
        for weight, part in parts:
            if part.kind is Kind.MAX_RETURN:
                gain = self.probability() @ problem.scenarios
                for i in self.weights:
                    self.cost[i] -= weight * float(gain[i])
            else:
                at, value = self.measure(NAMES[part.kind], part.tail)
                for i, v in zip(at, value, strict=True):
                    self.cost[i] += weight * v
        for name, tail, cap in (
            ("cvar", limits.cvar_tail, limits.cvar_max),
            ("cdar", limits.cdar_tail, limits.cdar_max),
            ("drawdown", 1.0, limits.drawdown_max),
        ):
            if cap is not None:
                at, value = self.measure(name, tail)
                self.row(at, value, -np.inf, cap)

    def probability(self) -> Array:
        count = len(self.problem.scenarios)
        given = self.problem.scenario_probability
        return np.full(count, 1.0 / count) if given is None else given

    def measure(self, name: str, tail: float) -> tuple[list[int], list[float]]:
        returns = self.problem.scenarios
        losses = [(list(self.weights), list(-row)) for row in returns]
        if name != "cvar":
            losses = []
            for t, level in enumerate(np.cumsum(returns, axis=0)):
                peak = self.column(0.0, np.inf, 0.0)
                self.row([*self.weights, peak], [*level, -1.0], -np.inf, 0.0)
                if t:
                    self.row([losses[-1][0][-1], peak], [1.0, -1.0], -np.inf, 0.0)
                losses.append(([*self.weights, peak], [*-level, 1.0]))
        threshold = self.column(-np.inf, np.inf, 0.0)
        if name == "drawdown":
            for at, value in losses:
                self.row([*at, threshold], [*value, -1.0], -np.inf, 0.0)
            return [threshold], [1.0]
        excess = []
        for at, value in losses:
            excess.append(self.column(0.0, np.inf, 0.0))
            self.row([*at, threshold, excess[-1]], [*value, -1.0, -1.0], -np.inf, 0.0)
        return [threshold, *excess], [1.0, *(self.probability() / (1.0 - tail))]

    def solve(self) -> tuple[int, float]:
        """SciPy's status (0 optimal, 2 infeasible, 3 unbounded), the objective in its sense."""
        counts = [len(at) for at, _, _, _ in self.rows]
        rows = np.repeat(np.arange(len(counts)), counts)
        columns = np.concatenate([at for at, _, _, _ in self.rows])
        values = np.concatenate([value for _, value, _, _ in self.rows])
        matrix = sparse.csr_array((values, (rows, columns)), shape=(len(counts), len(self.cost)))
        low, high = (np.array([row[k] for row in self.rows]) for k in (2, 3))
        above, below = np.isfinite(high), np.isfinite(low)
        options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
        result = linprog(
            self.cost,
            A_ub=sparse.vstack([matrix[above], -matrix[below]]),
            b_ub=np.concatenate([high[above], -low[below]]),
            bounds=list(zip(self.lower, self.upper, strict=True)),
            method="highs",
            options=options,
        )
        if result.fun is None:
            return int(result.status), float("nan")
        sign = -1.0 if self.problem.objective.kind.maximised else 1.0
        return int(result.status), sign * float(result.fun)


def returns(rng: np.random.Generator, periods: int, size: int) -> Array:
    """Heavy-tailed daily returns with a common factor."""
    factor = rng.standard_t(4, (periods, 1)) * rng.uniform(0.5, 1.5, size) * 0.006
    return factor + rng.standard_t(5, (periods, size)) * 0.008 + 0.0005 * rng.standard_normal(size)


def draw(seed: int) -> Problem:
    """A problem with a random objective and a random choice of every limit this family knows."""
    rng = np.random.default_rng(seed)
    size, periods = int(rng.integers(2, 16)), int(rng.choice([7, 40, 90]))
    scenarios = returns(rng, periods, size)
    if rng.random() < 0.2:
        scenarios = scenarios[rng.integers(0, periods, periods)]
    if rng.random() < 0.2:
        scenarios[:, 1] = scenarios[:, 0]
    upper = np.full(size, max(1.5 / size, rng.uniform(0.1, 1.0)))
    lower = -upper * rng.uniform(0.1, 1.0) if rng.random() < 0.4 else np.zeros(size)
    held = rng.dirichlet(np.ones(size)) * rng.uniform(0.3, 1.0) if rng.random() < 0.6 else None
    chosen: dict[str, object] = {"budget_max": 1.0}
    if rng.random() < 0.6:
        chosen["budget_min"] = float(rng.choice([0.3, 1.0]))
    if rng.random() < 0.3:
        chosen["gross_max"] = float(rng.uniform(1.0, 2.0))
    if held is not None and rng.random() < 0.4:
        chosen["turnover_max"] = float(rng.uniform(0.2, 1.0))
    if held is not None and rng.random() < 0.2:
        chosen["trade_max"] = rng.uniform(0.05, 0.4, size)
    if rng.random() < 0.4:
        chosen["rows"] = _rows(rng, size)
    tail = float(rng.choice([0.5, 0.8, 0.9, 0.95]))
    objective = _objective(rng, tail)
    if objective.kind is Kind.MAX_RETURN or rng.random() < 0.3:
        chosen.update(_cap(rng, scenarios @ np.full(size, 1.0 / size)))
    costs = Costs(linear=rng.uniform(0.0, 0.003, size)) if rng.random() < 0.3 else Costs()
    odds = rng.dirichlet(np.ones(periods)) if rng.random() < 0.3 else None
    limits = Limits(lower=lower, upper=upper, **chosen)  # type: ignore[arg-type]
    return Problem(
        objective, limits, costs, scenarios=scenarios, scenario_probability=odds, holdings=held
    )


def _rows(rng: np.random.Generator, size: int) -> Rows:
    matrix = (rng.integers(0, 2, size)[None, :] == np.arange(2)[:, None]).astype(float)
    low = np.where(rng.random(2) < 0.5, -np.inf, rng.uniform(0.0, 0.2, 2))
    high = np.where(rng.random(2) < 0.3, np.inf, rng.uniform(0.4, 0.9, 2))
    price = np.array([np.inf, rng.uniform(0.0, 0.05)]) if rng.random() < 0.4 else None
    return Rows(matrix, low, high, ("first sector", "second sector"), price)


def _objective(rng: np.random.Generator, tail: float) -> Objective:
    gain, cvar = Objective(Kind.MAX_RETURN), Objective(Kind.MIN_CVAR, tail=tail)
    cdar = Objective(Kind.MIN_CDAR, tail=tail)
    choices = (
        cvar,
        cdar,
        Objective(Kind.MIN_MAX_DRAWDOWN),
        gain,
        Objective(Kind.COMBINATION, terms=((1.0, gain), (0.3, cvar))),
        Objective(Kind.COMBINATION, terms=((1.0, gain), (0.05, cdar), (0.1, cvar))),
    )
    return choices[int(rng.integers(len(choices)))]


def _cap(rng: np.random.Generator, book: Array) -> dict[str, float]:
    factor = float(rng.uniform(0.3, 2.0))
    level = np.cumsum(book)
    deepest = float((np.maximum.accumulate(np.maximum(level, 0.0)) - level).max())
    name = ("cvar_max", "cdar_max", "drawdown_max")[int(rng.integers(3))]
    return {name: factor * (2.0 * float(book.std()) if name == "cvar_max" else deepest)}
