"""Lines that may not go where their own bounds ask, because of limits on the risk of the book.

As in `joint/stay.py`, of limits on what is measured of the whole book: closing what hedges the
rest may lead beyond a volatility or a shortfall that the book keeps now. Such lines go as far as
the risk lets them, by the linear objective of that module over the same data as the guard's.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from compute.inputs import Inputs
from compute.joint.box import Box
from compute.joint.nearest import ROOM
from compute.joint.nearest_risk import best_book, of_matrix, within
from compute.joint.returns import BookMatrix
from compute.joint.stay import ways_back
from compute.market import Floats, Integers
from compute.optimize.limits import box as box_of
from compute.optimize.problem import Objective, ObjectiveKind, Problem, Solution

INSIDE = 1e-6
"""Of the way back, by which more is left than has to be, so that the problem has an inside."""


def lines_that_stay_for_risk(
    inputs: Inputs,
    problem: Problem,
    everything: Integers,
    box: Box,
    matrices: tuple[BookMatrix | None, BookMatrix | None],
    solve: Callable[[Problem], Solution],
) -> Floats | None:
    """The weights (k,) at which lines have to stay, NaN for the others; None where none has to."""
    guard, data, before = inputs.book_guard, of_matrix(*matrices, everything), problem.holdings
    if guard is None or data is None or before is None or guard.beyond(guard.before):
        return None
    ways, costs = ways_back(problem, box)
    if len(ways.line) == 0:
        return None
    lower, upper = (end.copy() for end in box_of(problem))
    ends = before[ways.line] + ways.sign * ways.size
    lower[ways.line] = np.minimum(before[ways.line], ends)
    upper[ways.line] = np.maximum(before[ways.line], ends)
    gain = np.zeros(len(before))
    gain[ways.line] = ways.sign * costs
    stated = replace(problem, limits=replace(problem.limits, lower=lower, upper=upper))
    asked = within(data, stated, inputs, Objective(ObjectiveKind.MAX_RETURN))
    book = best_book(replace(asked, mean=gain), inputs, everything, solve)
    if book is None:
        return None
    left = np.abs(ends - book[ways.line])
    stays = left > ROOM
    if not stays.any():
        return None
    left = np.minimum(left + INSIDE * ways.size, ways.size)
    out: Floats = np.full(len(box.lower.weight), np.nan)
    out[ways.line[stays]] = (ends - ways.sign * left)[stays]
    return out
