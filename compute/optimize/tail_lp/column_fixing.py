"""Leaving out the columns of a linear program that surely rest at a bound.

A book of five hundred names holds few of them. Once a loose solution shows which columns rest at a
bound with a clear price, the program is solved without them; prices tell afterwards which of them
have to come back. What is left out is exact: it only moves the bounds of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from compute.optimize.linear_program import LinearProgram
from compute.optimize.tail_lp.interior_point import LinearAnswer

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# A column rests at a bound when its slack there is below this share of its reduced cost.
_CLEAR = 1e-2
# So many columns, those with the smallest reduced cost, always stay.
_STAY = 96


@dataclass(frozen=True)
class Resting:
    """Which of the first columns of a program are left out, and whether at the upper bound."""

    out: Mask
    at_upper: Mask

    @classmethod
    def none(cls, count: int) -> Resting:
        """Nothing left out of `count` columns."""
        return cls(np.zeros(count, dtype=bool), np.zeros(count, dtype=bool))


def _full(resting: Resting, program: LinearProgram) -> tuple[Mask, Vector]:
    """The mask and the resting values for all columns of the program; those beyond it stay in."""
    count, spare = len(resting.out), len(program.cost) - len(resting.out)
    out = np.concatenate([resting.out, np.zeros(spare, dtype=bool)])
    value = np.where(resting.at_upper, program.upper[:count], program.lower[:count])
    return out, np.concatenate([np.where(resting.out, value, 0.0), np.zeros(spare)])


def reduce(program: LinearProgram, resting: Resting) -> LinearProgram:
    """The program in the columns that are left in."""
    if not resting.out.any():
        return program
    out, value = _full(resting, program)
    moved = program.rows[:, out] @ value[out]
    inside = ~out
    return LinearProgram(
        program.cost[inside],
        np.ascontiguousarray(program.rows[:, inside]),
        program.row_min - moved,
        program.row_max - moved,
        program.lower[inside],
        program.upper[inside],
        excess=program.excess,
    )


def expand(program: LinearProgram, resting: Resting, answer: LinearAnswer) -> LinearAnswer:
    """The answer of the reduced program as one of the whole program."""
    if not resting.out.any():
        return answer
    out, value = _full(resting, program)
    point = value.copy()
    point[~out] = answer.point
    return replace(answer, point=point)


def wake(program: LinearProgram, resting: Resting, answer: LinearAnswer, least: float) -> Resting:
    """Put back the columns whose reduced cost, beyond `least`, would move them off their bound."""
    count = len(resting.out)
    pull = program.loss[:count] - answer.price @ program.rows[:, :count]
    wrong = np.where(resting.at_upper, pull > least, pull < -least)
    return replace(resting, out=resting.out & ~wrong)


def rest(program: LinearProgram, resting: Resting, answer: LinearAnswer) -> Resting:
    """Leave out, besides, the columns that clearly rest at a bound in a loose answer."""
    count = len(resting.out)
    pull = program.loss[:count] - answer.price @ program.rows[:, :count]
    point, lower, upper = answer.point[:count], program.lower[:count], program.upper[:count]
    low = np.isfinite(lower) & (point - lower < _CLEAR * pull)
    high = np.isfinite(upper) & (upper - point < -_CLEAR * pull)
    inside = np.where(resting.out, np.inf, np.abs(pull))
    if count <= _STAY:
        return resting
    far = inside > np.partition(inside, _STAY)[_STAY]
    found = (low | high) & ~resting.out & far
    return Resting(resting.out | found, np.where(found, high, resting.at_upper))
