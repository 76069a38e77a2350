"""A dense linear program with two-sided bounds, solved by an interior point in JAX.

    minimise  c'x   subject to   row_min <= A x <= row_max,   lower <= x <= upper

Mehrotra's predictor-corrector on X = (x, A x): every bound, of a column or of a row, is a bound of
X, and the only equations are A x - r = 0. A step costs one Cholesky factorisation of the size of
the rows or of the columns (`normal_equations`). Bounds may be infinite; equal bounds fix a
variable. Padding is a column fixed at zero or a row without coefficients fixed at zero: both leave
every other number untouched.

Source of the method: Mehrotra 1992, SIAM J. Optimization 2(4); Nocedal and Wright 2006, ch. 14.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax

from compute.optimize.execution import JUST_IN_TIME, Execution, JointShapes, Programs
from compute.optimize.linear_program import LinearProgram
from compute.optimize.tail_lp.normal_equations import Rows, solver
from compute.optimize.tail_lp.normal_equations import rows as rows_of
from compute.optimize.threads import in_threads
from compute.shapes import Kernel, NotCompiledError, padded

Vector = npt.NDArray[np.float64]

KERNEL = "joint/linear"
ITERATIONS_MAX = 60
# Shapes are rounded up to this ladder; few steps, because every pair of them is compiled once.
LADDER = (24, 32, 64, 96, 128, 160, 192, 256, 512, 768, 1024, 2048, 4096, 8192)
# Curvature lent to every variable, in units of the barrier: a variable without bounds then has the
# pivot of one well inside wide bounds. It damps the step to the optimum and does not move it.
_PROXIMAL = 0.1
_PROXIMAL_MIN, _PROXIMAL_MAX = 1e-12, 1e-2
_FAR = 1e30
# A slack that rounding has brought to zero.
_TINY = 1e-60


@dataclass(frozen=True)
class LinearAnswer:
    """x[k], row prices [m] (d loss / d bound: positive at row_min, negative at row_max), error.

    The prices are those of the loss that is minimised, of opposite sign to `LpSolution.row_dual`.

    error: the largest of the absolute primal and dual residuals and of the complementarity
    relative to 1 + |value|, all in the units of the program; above the tolerance: not converged.
    """

    point: Vector
    price: Vector
    iterations: int
    error: float


class _State(NamedTuple):
    point: jax.Array  # X = (x, r)
    price: jax.Array  # y
    low: jax.Array  # multipliers of the lower bounds of X
    high: jax.Array  # and of the upper ones
    steps: jax.Array
    error: jax.Array


class _Bounds(NamedTuple):
    lower: jax.Array
    upper: jax.Array
    has_lower: jax.Array
    has_upper: jax.Array
    fixed: jax.Array
    present: jax.Array


def _bounds(lower: jax.Array, upper: jax.Array) -> _Bounds:
    fixed = jnp.isfinite(lower) & (upper - lower <= 1e-13)
    has_lower, has_upper = jnp.isfinite(lower) & ~fixed, jnp.isfinite(upper) & ~fixed
    present = jnp.maximum(has_lower.sum() + has_upper.sum(), 1).astype(jnp.float64)
    finite_lower = jnp.where(jnp.isfinite(lower), lower, 0.0)
    finite_upper = jnp.where(jnp.isfinite(upper), upper, 0.0)
    return _Bounds(finite_lower, finite_upper, has_lower, has_upper, fixed, present)


def _start(rows: Rows, bounds: _Bounds) -> _State:
    """Columns in the middle of their bounds; rows at their value, pushed inside theirs."""
    both = bounds.has_lower & bounds.has_upper
    middle = jnp.where(bounds.has_upper, bounds.upper - 1.0, 0.0)
    middle = jnp.where(bounds.has_lower, bounds.lower + 1.0, middle)
    middle = jnp.where(both, 0.5 * (bounds.lower + bounds.upper), middle)
    middle = jnp.where(bounds.fixed, bounds.lower, middle)
    columns = middle[: middle.shape[0] - rows.wide.shape[0]]
    value = jnp.concatenate([columns, rows.apply(columns)])
    margin = jnp.where(both, jnp.minimum(1.0, 0.25 * (bounds.upper - bounds.lower)), 1.0)
    value = jnp.where(bounds.has_lower, jnp.maximum(value, bounds.lower + margin), value)
    value = jnp.where(bounds.has_upper, jnp.minimum(value, bounds.upper - margin), value)
    point = jnp.where(bounds.fixed, bounds.lower, value)
    return _State(
        point,
        jnp.zeros(rows.wide.shape[0]),
        bounds.has_lower.astype(jnp.float64),
        bounds.has_upper.astype(jnp.float64),
        jnp.array(0),
        jnp.array(_FAR),
    )


def _longest(value: jax.Array, change: jax.Array, present: jax.Array) -> jax.Array:
    """Largest step that keeps value + step * change >= 0 where present."""
    falling = present & (change < 0.0)
    ratio = jnp.where(falling, -value / jnp.where(falling, change, -1.0), _FAR)
    return jnp.min(ratio, initial=_FAR)


def _advance(rows: Rows, cost: jax.Array, bounds: _Bounds, state: _State) -> _State:
    """One predictor-corrector step, and the residuals after it."""
    columns = cost.shape[0] - rows.wide.shape[0]
    has_lower, has_upper = bounds.has_lower, bounds.has_upper

    def gaps(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        below = jnp.where(has_lower, jnp.maximum(point - bounds.lower, _TINY), 1.0)
        return below, jnp.where(has_upper, jnp.maximum(bounds.upper - point, _TINY), 1.0)

    def apply(point: jax.Array) -> jax.Array:
        return rows.apply(point[:columns]) - point[columns:]

    def adjoint(price: jax.Array) -> jax.Array:
        return jnp.concatenate([rows.adjoint(price), -price])

    def residuals(s: _State) -> tuple[jax.Array, jax.Array, jax.Array]:
        dual = jnp.where(bounds.fixed, 0.0, cost - adjoint(s.price) - s.low + s.high)
        below, above = gaps(s.point)
        barrier = (below @ s.low + above @ s.high) / bounds.present
        return -apply(s.point), dual, barrier

    below, above = gaps(state.point)
    primal, dual, barrier = residuals(state)
    curvature = jnp.where(has_lower, state.low / below, 0.0)
    curvature += jnp.where(has_upper, state.high / above, 0.0)
    lent = jnp.clip(_PROXIMAL * barrier, _PROXIMAL_MIN, _PROXIMAL_MAX)
    give = jnp.where(bounds.fixed, 0.0, 1.0 / (curvature + lent))
    solve = solver(rows, give[:columns], give[columns:], bounds.fixed[columns:])

    def direction(want_low: jax.Array, want_high: jax.Array) -> _State:
        """Newton step to below * low = ... + want_low, above * high = ... + want_high."""
        rhs = jnp.where(has_lower, want_low / below, 0.0) - dual
        rhs -= jnp.where(has_upper, want_high / above, 0.0)
        x, r, price = solve(rhs[:columns], rhs[columns:], primal)
        point = jnp.concatenate([x, r])
        low = jnp.where(has_lower, (want_low - state.low * point) / below, 0.0)
        high = jnp.where(has_upper, (want_high + state.high * point) / above, 0.0)
        return _State(point, price, low, high, state.steps, state.error)

    def lengths(d: _State) -> tuple[jax.Array, jax.Array]:
        primal_step = jnp.minimum(
            _longest(below, d.point, has_lower), _longest(above, -d.point, has_upper)
        )
        dual_step = jnp.minimum(
            _longest(state.low, d.low, has_lower), _longest(state.high, d.high, has_upper)
        )
        return primal_step, dual_step

    affine = direction(-below * state.low, -above * state.high)
    step, dual_step = (jnp.minimum(1.0, s) for s in lengths(affine))
    ahead = jnp.where(
        has_lower, (below + step * affine.point) * (state.low + dual_step * affine.low), 0.0
    )
    ahead += jnp.where(
        has_upper, (above - step * affine.point) * (state.high + dual_step * affine.high), 0.0
    )
    target = barrier * (ahead.sum() / bounds.present / barrier) ** 3
    corrected = direction(
        jnp.where(has_lower, target - below * state.low - affine.point * affine.low, 0.0),
        jnp.where(has_upper, target - above * state.high + affine.point * affine.high, 0.0),
    )
    kept = jnp.maximum(0.995, 1.0 - 0.01 * barrier)
    step, dual_step = (jnp.minimum(1.0, kept * s) for s in lengths(corrected))
    moved = _State(
        state.point + step * corrected.point,
        state.price + dual_step * corrected.price,
        state.low + dual_step * corrected.low,
        state.high + dual_step * corrected.high,
        state.steps + 1,
        state.error,
    )
    primal, dual, barrier = residuals(moved)
    gap = barrier * bounds.present / (1.0 + jnp.abs(cost @ moved.point))
    error = jnp.maximum(jnp.maximum(jnp.max(jnp.abs(primal)), jnp.max(jnp.abs(dual))), gap)
    return moved._replace(error=error)


def _solve(
    wide: jax.Array,
    excess: jax.Array,
    cost: jax.Array,
    lower: jax.Array,
    upper: jax.Array,
    tolerance: jax.Array,
) -> jax.Array:
    """The kernel; A = (wide, excess), see `LinearProgram`; lower, upper are of X = (x, A x).

    The best iterate, not the last, f64[k + m + 2]: the point, the prices, steps taken and error.
    """
    bounds = _bounds(lower, upper)
    rows = rows_of(wide, excess, bounds.fixed[cost.shape[0] :])
    full_cost = jnp.concatenate([cost, jnp.zeros(wide.shape[0])])
    start = _start(rows, bounds)

    def body(carry: tuple[_State, _State]) -> tuple[_State, _State]:
        now, best = carry
        new = _advance(rows, full_cost, bounds, now)
        better = new.error < best.error
        kept = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, best)
        return new, kept

    def unfinished(carry: tuple[_State, _State]) -> jax.Array:
        now, best = carry
        stalled = now.error > 1e6 * jnp.maximum(best.error, 1e-9)
        going = (now.steps < ITERATIONS_MAX) & jnp.isfinite(now.error) & ~stalled
        return going & (best.error > tolerance)

    last, best = lax.while_loop(unfinished, body, (start, start))
    tail = jnp.stack([last.steps.astype(jnp.float64), best.error])
    return jnp.concatenate([best.point[: cost.shape[0]], best.price, tail])


_solve_one = jax.jit(_solve)


def bucket(size: int) -> int:
    """The smallest step of the ladder that holds `size`; beyond it, multiples of its last."""
    for step in LADDER:
        if step >= size:
            return step
    return -(-size // LADDER[-1]) * LADDER[-1]


def _padded(program: LinearProgram, rows: int, columns: int, excess: int) -> tuple[Vector, ...]:
    """The kernel's arrays, padded to so many rows, columns before the excesses, and excesses."""
    own = program.rows.shape[1] - program.excess
    wide = padded(program.rows[:, :own], rows, columns)
    narrow = padded(program.rows[:, own:], rows, excess)
    cost, lower, upper = (
        np.concatenate([padded(given[:own], columns), padded(given[own:], excess)])
        for given in (program.loss, program.lower, program.upper)
    )
    low, high = padded(program.row_min, rows), padded(program.row_max, rows)
    return wide, narrow, cost, np.concatenate([lower, low]), np.concatenate([upper, high])


def solve_linear(
    program: LinearProgram, tolerance: float, programs: Programs | None = None
) -> LinearAnswer:
    """Solve one program to `tolerance` (see `LinearAnswer.error`), padded to its bucket."""
    if programs is None:
        size = _bucket(program)
        vector = np.asarray(_solve_one(*_padded(program, *size), np.float64(tolerance)))
    else:
        size = _slot(programs.shapes, program)
        parts = (*_padded(program, *size), np.array(tolerance))
        vector = programs.registry.run(KERNEL, *parts)
    return _answer(program, vector, size)


def _bucket(program: LinearProgram) -> tuple[int, int, int]:
    """Rows, columns and excesses that hold a program; there is an excess a row at most."""
    count, width = program.rows.shape
    rows = bucket(count)
    return rows, bucket(width - program.excess), rows if program.excess else 0


def _answer(program: LinearProgram, vector: Vector, size: tuple[int, int, int]) -> LinearAnswer:
    """The kernel's vector for a program padded to `size`, taken apart."""
    _, columns, excess = size
    own = program.rows.shape[1] - program.excess
    point = np.concatenate([vector[:own], vector[columns : columns + program.excess]])
    price = vector[columns + excess :][: program.rows.shape[0]]
    return LinearAnswer(point, price, int(vector[-2]), float(vector[-1]))


def _slot(shapes: JointShapes, program: LinearProgram) -> tuple[int, int, int]:
    """The smallest shape compiled ahead that holds a program."""
    rows, columns = program.rows.shape
    for most in shapes.linear_programs:
        if rows <= most[0] and columns - program.excess <= most[1]:
            return (*most, most[0])
    most = shapes.linear_programs[-1]
    raise NotCompiledError(
        f"a linear program of {rows} rows and {columns - program.excess} columns is more than this"
        f" server is set up for: {most[0]} and {most[1]}"
    )


def kernel(shapes: JointShapes) -> Kernel:
    """The linear program for every shape of `JointShapes.linear_programs`."""
    made = tuple(
        ((m, k), (m, m), (k + m,), (k + m + m,), (k + m + m,), ())
        for m, k in shapes.linear_programs
    )
    return Kernel(KERNEL, _solve, made)


def solve_linear_batch(
    programs: list[LinearProgram], tolerances: list[float], execution: Execution = JUST_IN_TIME
) -> list[LinearAnswer]:
    """Solve many programs, some at a time.

    Each has a bucket of its own. Where programs are compiled ahead they run one after another.
    """

    def one(program: LinearProgram, tolerance: float) -> LinearAnswer:
        execution.time_limit.check()
        return solve_linear(program, tolerance, execution.programs)

    if len(programs) == 1 or execution.programs is not None:
        return [one(p, t) for p, t in zip(programs, tolerances, strict=True)]
    return in_threads(one, programs, tolerances)
