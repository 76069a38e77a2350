"""Lines that may not go where their own bounds ask, because limits on sums would be left for it.

A position against its signal is to be closed, one beyond its own limit to be made smaller; while
reserved trades hold a net where it is, no others may be there to make up for that. As the guard
says, such a line may stay: a linear program finds how little of the way back has to be missed,

    minimise  sum_i c_i e_i                 rows, turnover and boxes kept,

e_i: what line i is left away from its bounds, c_i: 1 for a limit of its own, `OF_A_SIDE` where
only its signal is on the other side. A book that is beyond a limit on a sum itself is for what
comes nearest to that (`joint/nearest.py`).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from compute.inputs import Inputs
from compute.joint.box import Box, Side
from compute.joint.nearest import ROOM, End, ends_now
from compute.limits.remaining import exceeded
from compute.market import Floats
from compute.optimize.limits import box as box_of
from compute.optimize.problem import Problem

INSIDE = 1e-9
"""Of equity, by which more is left than has to be, so that the problem has an inside."""

PRECISION = 1e-10
"""Of the linear program: what it leaves open is less than that."""

OF_A_SIDE = 1e-3
"""What a position against its signal costs, against one beyond a limit."""


@dataclass(frozen=True)
class Ways:
    """The ways back of the lines outside their bounds.

    line: (f,) places; sign: 1 where it is bought, -1 where sold; size: (f,) > 0 as weights.
    """

    line: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    sign: Floats
    size: Floats


def lines_that_stay(inputs: Inputs, problem: Problem, box: Box) -> Floats | None:
    """The weights (k,) at which lines have to stay, NaN for the others; None where none has to.

    None also where rows can't be kept with all of them as they are, or the book is beyond a limit
    on a sum.
    """
    rows, before = problem.limits.rows, problem.holdings
    if rows is None or before is None or _is_beyond_a_sum(inputs):
        return None
    k = len(box.lower.weight)
    ways, costs = ways_back(problem, box)
    line = ways.line
    if len(line) == 0:
        return None
    ends = ends_now(inputs, rows, box, before)
    left = _least_left(problem, ends, ways, costs, before)
    if left is None or not (left > ROOM).any():
        return None
    stays = left > ROOM
    out: Floats = np.full(k, np.nan)
    left = np.minimum(left + INSIDE, ways.size)
    out[line[stays]] = (before[line] + ways.sign * (ways.size - left))[stays]
    return out


def _is_beyond_a_sum(inputs: Inputs) -> bool:
    """Whether the book, all that is reserved filled, is beyond a limit of several instruments."""
    nothing = np.zeros(len(inputs.index), dtype=np.int64)
    instruments = inputs.limit_bounds.market.index
    return any(item.name not in instruments for item in exceeded(inputs, nothing))


def held_where(box: Box, stay: Floats) -> Box:
    """The box with the lines that stay, (k,) weights or NaN, fixed there."""

    def end(side: Side) -> Side:
        weight = np.where(np.isnan(stay), side.weight, stay)
        return Side(weight, side.kind, side.own, side.group)

    return Box(end(box.lower), end(box.upper))


def ways_back(problem: Problem, box: Box) -> tuple[Ways, Floats]:
    """The ways back of the lines that are held outside their bounds, and what each costs, (f,)."""
    before, k = problem.holdings, len(box.lower.weight)
    assert before is not None, "the joint method knows what is held"
    lower, upper = box_of(problem)
    short, long = (lower - before)[:k], (before - upper)[:k]
    line = np.flatnonzero((short > ROOM) | (long > ROOM))
    bought = short[line] > ROOM
    size = np.where(bought, short[line], long[line])
    ways = Ways(line, np.where(bought, 1.0, -1.0), size)
    return ways, _costs(box, ways)


def _costs(box: Box, ways: Ways) -> Floats:
    bought = ways.sign > 0.0
    end = np.where(bought, box.lower.weight[ways.line], box.upper.weight[ways.line])
    kind = np.where(bought, box.lower.kind[ways.line], box.upper.kind[ways.line])
    costs: Floats = np.where((end == 0.0) | (kind == 0), OF_A_SIDE, 1.0)
    return costs


def _least_left(
    problem: Problem, ends: list[End], ways: Ways, costs: Floats, before: Floats
) -> Floats | None:
    """What is left of each way, (f,): over trades on from the bounds, and ways back."""
    lower, upper = box_of(problem)
    v, f, turnover = len(before), len(ways.line), problem.limits.turnover_max
    start = before.copy()
    start[ways.line] += ways.sign * ways.size
    matrix = np.zeros((len(ends) + (turnover is not None), 2 * v + f))
    most = np.zeros(len(matrix))
    for number, end in enumerate(ends):
        row = end.row[ways.line]
        # What is left is on the way back: of a sum of sizes it counts as large as it is.
        still = -ways.sign * row if end.is_signed else np.abs(row)
        matrix[number] = np.concatenate([end.row, -end.row, still])
        most[number] = end.most - float(end.row @ start)
    if turnover is not None:
        matrix[-1, : 2 * v], matrix[-1, 2 * v : 2 * v + f] = 1.0, -1.0
        most[-1] = turnover - float(ways.size.sum())
    zero = np.zeros(v)
    bounds = [
        *zip(np.maximum(lower - start, 0.0), np.maximum(upper - start, 0.0), strict=True),
        *zip(np.maximum(start - upper, 0.0), np.maximum(start - lower, 0.0), strict=True),
        *zip(np.zeros(f), ways.size, strict=True),
    ]
    cost = np.concatenate([zero, zero, costs])
    precise = {"primal_feasibility_tolerance": PRECISION}
    found = linprog(cost, A_ub=matrix, b_ub=most, bounds=bounds, options=precise)
    if found.x is None:
        return None
    left: Floats = np.maximum(found.x[2 * v :], 0.0)
    return left
