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
class FixedColumns:
    """Which of the first columns of a program are left out, and whether at the upper bound."""

    out: Mask
    at_upper: Mask

    @classmethod
    def none(cls, count: int) -> FixedColumns:
        """Nothing left out of `count` columns."""
        return cls(np.zeros(count, dtype=bool), np.zeros(count, dtype=bool))


def _full(fixed: FixedColumns, program: LinearProgram) -> tuple[Mask, Vector]:
    """The mask and the fixed values for all columns of the program; those beyond it stay in."""
    count, spare = len(fixed.out), len(program.cost) - len(fixed.out)
    out = np.concatenate([fixed.out, np.zeros(spare, dtype=bool)])
    value = np.where(fixed.at_upper, program.upper[:count], program.lower[:count])
    return out, np.concatenate([np.where(fixed.out, value, 0.0), np.zeros(spare)])


def reduce(program: LinearProgram, fixed: FixedColumns) -> LinearProgram:
    """The program in the columns that are left in."""
    if not fixed.out.any():
        return program
    out, value = _full(fixed, program)
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


def expand(program: LinearProgram, fixed: FixedColumns, answer: LinearAnswer) -> LinearAnswer:
    """The answer of the reduced program as one of the whole program."""
    if not fixed.out.any():
        return answer
    out, value = _full(fixed, program)
    point = value.copy()
    point[~out] = answer.point
    return replace(answer, point=point)


def release(
    program: LinearProgram, fixed: FixedColumns, answer: LinearAnswer, least: float
) -> FixedColumns:
    """Put back the columns whose reduced cost, beyond `least`, would move them off their bound."""
    count = len(fixed.out)
    reduced_cost = program.loss[:count] - answer.price @ program.rows[:, :count]
    wrong = np.where(fixed.at_upper, reduced_cost > least, reduced_cost < -least)
    return replace(fixed, out=fixed.out & ~wrong)


def fix(program: LinearProgram, fixed: FixedColumns, answer: LinearAnswer) -> FixedColumns:
    """Leave out, besides, the columns that clearly rest at a bound in a loose answer."""
    count = len(fixed.out)
    reduced_cost = program.loss[:count] - answer.price @ program.rows[:, :count]
    point, lower, upper = answer.point[:count], program.lower[:count], program.upper[:count]
    low = np.isfinite(lower) & (point - lower < _CLEAR * reduced_cost)
    high = np.isfinite(upper) & (upper - point < -_CLEAR * reduced_cost)
    inside = np.where(fixed.out, np.inf, np.abs(reduced_cost))
    if count <= _STAY:
        return fixed
    far = inside > np.partition(inside, _STAY)[_STAY]
    found = (low | high) & ~fixed.out & far
    return FixedColumns(fixed.out | found, np.where(found, high, fixed.at_upper))
