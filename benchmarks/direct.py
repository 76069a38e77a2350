"""Peers called as a careful person would: solvers directly, and cvxpy models naive and scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import optimize, sparse

from benchmarks.peer import Call, Task, peer
from compute.optimize.proof.linearization import tangent
from compute.optimize.proof.lp_relaxation import relaxation

Array = Any
TIGHT = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


@peer("cvxpy + Clarabel", "P1 P2 P8 P3 P3L P4 P5 P7_maxret_cdar P7_min_cdar P7_min_mdd")
def cvxpy_naive(task: Task) -> Call:
    return lambda: _cvxpy(task)


@peer("cvxpy + Clarabel, scaled", "P3 P3L P4")
def cvxpy_scaled(task: Task) -> Call:
    # Objectives of 1e-3 a day end early in default tolerances: growth is asked for in units of
    # 1e-3, and the risk limit is written over the growth itself, so its cones are of size one.
    import cvxpy as cp

    def call() -> Array:
        w, growth = cp.Variable(task.size), cp.Variable(len(task.returns))
        limits = [cp.log(1 + task.returns @ w) >= growth, w >= task.lower, w <= task.upper]
        limits += [cp.sum(w) <= task.budget_max]
        if task.code == "P4":
            limits.append(cp.sum(cp.exp(-task.exponent * growth)) / len(task.returns) <= 1)
        model = cp.Problem(cp.Maximize(1e3 * cp.sum(growth) / len(task.returns)), limits)
        try:
            model.solve(solver=cp.CLARABEL, **TIGHT)
        except cp.SolverError:
            model.solve(solver=cp.CLARABEL)
        return w.value

    return call


def _cvxpy(task: Task) -> Array:
    import cvxpy as cp

    count, periods = task.size, len(task.returns)
    w = cp.Variable(count)
    if task.code == "P1":
        k = cp.Variable(nonneg=True)
        limits = [task.mean @ w == 1, cp.sum(w) == k, w >= 0, w <= task.upper * k]
        cp.Problem(cp.Minimize(cp.quad_form(w, cp.psd_wrap(task.covariance))), limits).solve(
            solver=cp.CLARABEL
        )
        return w.value / k.value
    limits = [w >= task.lower, w <= task.upper, cp.sum(w) <= task.budget_max]
    limits += [cp.sum(w) >= task.budget_min]
    if task.sectors is not None:
        limits.append(task.sectors @ w <= task.sector_max)
    if task.code in ("P2", "P8"):
        risk = 0.5 * task.aversion * cp.quad_form(w, cp.psd_wrap(task.covariance))
        value = task.mean @ w - risk - task.cost @ cp.abs(w - task.holdings)
    elif task.code in ("P3", "P3L", "P4"):
        value = cp.sum(cp.log(1 + task.returns @ w)) / periods
        if task.code == "P4":
            risk = cp.log_sum_exp(-task.exponent * cp.log(1 + task.returns @ w))
            limits.append(risk <= np.log(periods))
    else:
        value = _cvxpy_tail(cp, task, w, limits)
    cp.Problem(cp.Maximize(value), limits).solve(solver=cp.CLARABEL)
    return w.value


def _cvxpy_tail(cp: Any, task: Task, w: Any, limits: list[Any]) -> Any:
    periods, worst = len(task.returns), cp.Variable()
    losses = -task.returns @ w
    if task.code != "P5":
        level, peak = cp.Variable(periods), cp.Variable(periods)
        limits += [level == cp.cumsum(task.returns @ w), peak >= level, peak >= 0]
        limits.append(peak[1:] >= peak[:-1])
        losses = peak - level
    if task.code == "P7_min_mdd":
        return -cp.max(losses)
    tail = worst + cp.sum(cp.pos(losses - worst)) / (periods * (1 - task.tail))
    if task.code == "P7_maxret_cdar":
        limits.append(tail <= task.cdar_max)
        return task.mean @ w
    return -tail


def _rows(task: Task) -> tuple[Any, Array, Array]:
    """Budget, sectors and box as low <= A w <= high."""
    blocks, low, high = [np.ones((1, task.size))], [task.budget_min], [task.budget_max]
    if task.sectors is not None:
        blocks.append(task.sectors)
        low += [-np.inf] * len(task.sectors)
        high += list(task.sector_max)
    matrix = np.vstack([*blocks, np.eye(task.size)])
    return matrix, np.r_[low, task.lower], np.r_[high, task.upper]


def _quadratic(task: Task) -> tuple[Array, Array, Array, Array, Array]:
    """P, q, A, low, high of the quadratic program in units of the mean; costs by a split."""
    unit = float(np.abs(task.mean).max())
    matrix, low, high = _rows(task)
    quad, linear = task.aversion * task.covariance / unit, -task.mean / unit
    if task.code == "P1":  # homogenised: y = k w with mean'y = 1
        scale = float(np.trace(task.covariance)) / task.size
        quad = task.covariance / scale
        free = np.where(np.isfinite(high), high, 1e6)
        matrix = np.vstack(
            [
                np.r_[task.mean / unit, 0.0],
                np.c_[matrix, -free],
                np.c_[-matrix, np.where(np.isfinite(low), low, -1e6)],
            ]
        )
        count = len(matrix) - 1
        quad = np.pad(quad, ((0, 1), (0, 1)))
        return (
            quad,
            np.zeros(task.size + 1),
            matrix,
            np.r_[1.0, [-np.inf] * count],
            np.r_[1.0, np.zeros(count)],
        )
    if not task.cost.any():
        return quad, linear, matrix, low, high
    eye, empty = np.eye(task.size), np.zeros((len(matrix), task.size))
    blocks = [np.c_[matrix, empty], np.c_[eye, -eye], np.c_[eye, eye]]
    endless = np.full(task.size, np.inf)
    low = np.r_[low, -endless, task.holdings]
    high = np.r_[high, task.holdings, endless]
    quad = np.pad(quad, ((0, task.size), (0, task.size)))
    return quad, np.r_[linear, task.cost / unit], np.vstack(blocks), low, high


def _weights(task: Task, point: Array) -> Array:
    return point[: task.size] / point[task.size] if task.code == "P1" else point[: task.size]


@peer("Clarabel direct", "P1 P2 P8")
def clarabel_direct(task: Task) -> Call:
    """From the same arrays that the others get: its sparse matrices are made in the call."""
    return lambda: _clarabel(task, *_clarabel_data(task))


@peer("Clarabel direct, matrices ready", "P1 P2 P8")
def clarabel_ready(task: Task) -> Call:
    """Nothing but the solver: what a program takes that keeps its matrices between calls."""
    data = _clarabel_data(task)
    return lambda: _clarabel(task, *data)


def _clarabel_data(task: Task) -> tuple[Any, ...]:
    quad, linear, matrix, low, high = _quadratic(task)
    equal = low == high
    upper, lower = np.isfinite(high) & ~equal, np.isfinite(low) & ~equal
    stacked = sparse.csc_matrix(np.vstack([matrix[equal], matrix[upper], -matrix[lower]]))
    bound = np.r_[low[equal], high[upper], -low[lower]]
    counts = int(equal.sum()), int(upper.sum() + lower.sum())
    return sparse.csc_matrix(np.triu(quad)), linear, stacked, bound, counts


def _clarabel(task: Task, *data: Any) -> Array:
    import clarabel

    triangle, linear, stacked, bound, (equal, unequal) = data
    cones = [clarabel.ZeroConeT(equal), clarabel.NonnegativeConeT(unequal)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    solver = clarabel.DefaultSolver(triangle, linear, stacked, bound, cones, settings)
    return _weights(task, np.array(solver.solve().x))


@peer("OSQP direct", "P2 P8")
def osqp_direct(task: Task) -> Call:
    """From the same arrays that the others get: set up and solved in the call."""
    return lambda: _weights(task, np.array(_osqp(task).solve().x))


@peer("OSQP, same problem again", "P2 P8")
def osqp_again(task: Task) -> Call:
    """Set up before, and from the second call on started at the answer itself."""
    solver = _osqp(task)
    return lambda: _weights(task, np.array(solver.solve().x))


def _osqp(task: Task) -> Any:
    import osqp

    quad, linear, matrix, low, high = _quadratic(task)
    solver = osqp.OSQP()
    tolerances = {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iter": 200000, "polishing": True}
    solver.setup(
        sparse.csc_matrix(np.triu(quad)), linear, sparse.csc_matrix(matrix), low, high,
        verbose=False, **tolerances,
    )  # fmt: skip
    return solver


@peer("qpax jitted", "P8")
def qpax_jitted(task: Task) -> Call:
    import jax
    import qpax

    quad, linear, equality, right, matrix, bound = (jax.numpy.array(a) for a in qpax_data(task))
    solve = jax.jit(lambda *data: qpax.solve_qp_primal(*data, solver_tol=1e-10))
    return lambda: np.asarray(solve(quad, linear, equality, right, matrix, bound))


def qpax_data(task: Task) -> tuple[Array, ...]:
    """Q, q, A, b, G, h of qpax for a task without equalities."""
    quad, linear, matrix, low, high = _quadratic(task)
    upper, lower = np.isfinite(high), np.isfinite(low)
    stacked, bound = np.vstack([matrix[upper], -matrix[lower]]), np.r_[high[upper], -low[lower]]
    return quad, linear, np.zeros((0, task.size)), np.zeros(0), stacked, bound


@peer("SLSQP, analytic gradient, scaled", "P3 P3L P4")
def slsqp(task: Task) -> Call:
    returns, scale = task.returns, 1.0 / float(np.abs(task.mean).max())

    def value(w: Array) -> tuple[float, Array]:
        wealth = 1.0 + returns @ w
        return -scale * float(np.log(wealth).mean()), -scale * (returns.T @ (1 / wealth)) / len(
            wealth
        )

    def risk(w: Array) -> float:
        terms = -task.exponent * np.log1p(returns @ w)
        return -float(np.log(np.exp(terms).mean()))

    def risk_slope(w: Array) -> Array:
        wealth = 1.0 + returns @ w
        terms = wealth**-task.exponent
        return task.exponent * (returns.T @ (terms / wealth)) / terms.sum()

    limits: list[dict[str, Any]] = [
        {
            "type": "ineq",
            "fun": lambda w: task.budget_max - w.sum(),
            "jac": lambda w: -np.ones(task.size),
        }
    ]
    if task.code == "P4":
        limits.append({"type": "ineq", "fun": risk, "jac": risk_slope})
    bounds = list(zip(task.lower, task.upper, strict=True))
    start = np.full(task.size, 0.1 * task.budget_max / task.size)

    def call() -> Array:
        return optimize.minimize(
            value, start, jac=True, bounds=bounds, constraints=limits, method="SLSQP",
            options={"maxiter": 1000, "ftol": 1e-13},
        ).x  # fmt: skip

    return call


@peer("HiGHS direct", "P5 P7_maxret_cdar P7_min_cdar P7_min_mdd")
def highs_direct(task: Task) -> Call:
    # The exact linear program, at HiGHS's own default tolerance; passing and solving it is timed.
    from compute.optimize.linear_program import maximise

    program = relaxation(tangent(task.problem, np.zeros(task.size))).build()
    return lambda: maximise(program, time_limit_s=300.0, tolerance=1e-7).point[: task.size]


@peer("NumPy Newton", "P6")
def newton_parity(task: Task) -> Call:
    """Spinu 2013: min 1/2 x'Sx - sum ln x / n, damped Newton, then normalised."""

    def call() -> Array:
        covariance = task.covariance / np.trace(task.covariance) * task.size
        x = 1.0 / np.sqrt(np.diag(covariance) * task.size)
        for _ in range(100):
            slope = covariance @ x - 1.0 / (task.size * x)
            step = np.linalg.solve(covariance + np.diag(1.0 / (task.size * x**2)), slope)
            move = min(1.0, 0.9 / max(float(np.max(step / x)), 1e-12))
            x = x - move * step
            if np.abs(step / x).max() < 1e-14:
                break
        return x / x.sum()

    return call
