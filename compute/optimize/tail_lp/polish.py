"""From the end of an interior point to the vertex, or the face, it points at.

Near a degenerate vertex the last digits of an interior point are lost in its ill-conditioned
equations. Which rows and bounds bind is clear by then: price against slack says it. Holding those
exactly is a small least-squares problem in what is free, once for the point and once for the
prices, and its shortest correction keeps every other slack.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from compute.optimize.linear_program import LinearProgram
from compute.optimize.tail_lp.interior_point import LinearAnswer

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# A column is held at a bound when its slack is below this share of its price; else it may move.
_CLEAR = (1e-2, 1.0, 1e-4, 1e-2)
_ENOUGH = 1e-14
_REPAIRS = 6


@dataclass(frozen=True)
class _Binding:
    """Rows that bind with the value they bind at; columns at a bound with that bound."""

    rows: Mask
    row_value: Vector
    columns: Mask
    column_value: Vector


def _binding(program: LinearProgram, answer: LinearAnswer, clear: float) -> _Binding:
    value = program.rows @ answer.point
    row_low = answer.price > value - program.row_min
    row_high = -answer.price > program.row_max - value
    reduced_cost = program.loss - answer.price @ program.rows
    low = clear * reduced_cost > answer.point - program.lower
    high = -clear * reduced_cost > program.upper - answer.point
    equal = program.lower == program.upper
    row_equal = program.row_min == program.row_max
    at = np.where(low | equal, program.lower, program.upper)
    row_at = np.where(row_low | row_equal, program.row_min, program.row_max)
    return _Binding(row_low | row_high | row_equal, row_at, low | high | equal, at)


def broken(program: LinearProgram, point: Vector, value: Vector) -> float:
    """Largest violation of a row, whose values these are, or of a bound."""
    worst = [
        (low - x).max(initial=0.0)
        for low, x in (
            (program.row_min, value),
            (-program.row_max, -value),
            (program.lower, point),
            (-program.upper, -point),
        )
    ]
    return float(max(worst))


def polish(program: LinearProgram, answer: LinearAnswer) -> LinearAnswer:
    """The answer with binding rows and bounds met exactly; unchanged where that is no better.

    What binds is judged a few times over, each time from the better answer.
    """
    best = replace(answer, error=error(program, answer.point, answer.price))
    for clear in _CLEAR:
        if best.error <= _ENOUGH:
            break
        best = _attempt(program, best, clear)
    return best


def _attempt(program: LinearProgram, answer: LinearAnswer, clear: float) -> LinearAnswer:
    """One correction of the point and one of the prices; of both, either and none the best."""
    binding = _binding(program, answer, clear)
    free = ~binding.columns
    matrix = program.rows[np.ix_(binding.rows, free)]
    point = _met(program, answer, binding)
    price = np.where(binding.rows, answer.price, 0.0)
    equal = (program.row_min == program.row_max)[binding.rows]
    left = (program.loss - price @ program.rows)[free]
    size = np.where(equal, np.inf, np.abs(price[binding.rows]))
    price[binding.rows] += _shortest(matrix.T, left, size)
    best = answer
    for x, y in ((point, price), (point, answer.price), (answer.point, price)):
        if best.error > _ENOUGH and (found := error(program, x, y)) < best.error:
            best = replace(answer, point=x, price=y, error=found)
    return best


def _met(program: LinearProgram, answer: LinearAnswer, binding: _Binding) -> Vector:
    """The nearest point that meets what binds; what it breaks instead binds too, and again."""
    rows, row_at = binding.rows.copy(), binding.row_value.copy()
    columns, column_at = binding.columns.copy(), binding.column_value.copy()
    slack = np.minimum(answer.point - program.lower, program.upper - answer.point)
    for _ in range(_REPAIRS):
        free = ~columns
        point = np.where(columns, column_at, answer.point)
        missing = row_at[rows] - program.rows[rows] @ point
        point[free] += _shortest(program.rows[np.ix_(rows, free)], missing, slack[free])
        value = program.rows @ point
        for at, x, low, high, held in (
            (row_at, value, program.row_min, program.row_max, rows),
            (column_at, point, program.lower, program.upper, columns),
        ):
            below, above = ~held & (x < low - _ENOUGH), ~held & (x > high + _ENOUGH)
            at[below], at[above] = low[below], high[above]
            held |= below | above
        if broken(program, point, value) <= _ENOUGH:
            break
    return point


def _shortest(matrix: Vector, right: Vector, room: Vector) -> Vector:
    """The solution of matrix @ x = right that is smallest relative to the room each x has."""
    if not matrix.size:
        return np.zeros(matrix.shape[1])
    scale = np.clip(room, 1e-6, 1.0)
    solved = np.linalg.lstsq(matrix * scale, right, rcond=1e-13)[0]
    return np.asarray(scale * solved)


def error(program: LinearProgram, point: Vector, price: Vector) -> float:
    """The worst of violation, price on a side without bound, and relative complementarity."""
    value, reduced_cost = program.rows @ point, program.loss - price @ program.rows
    worst = broken(program, point, value)
    total = 0.0
    for dual, x, low, high in (
        (price, value, program.row_min, program.row_max),
        (reduced_cost, point, program.lower, program.upper),
    ):
        slack = np.where(dual > 0.0, x - low, high - x)
        bound = np.isfinite(slack)
        worst = max(worst, float(np.abs(dual[~bound]).max(initial=0.0)))
        total += float(np.abs(dual[bound]) @ np.maximum(slack[bound], 0.0))
    return max(worst, total / (1.0 + abs(float(program.loss @ point))))
