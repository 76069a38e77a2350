"""Rows of a joint problem that one decision can't reach together, for turnover or sizes of trades.

A book that is beyond groups, exposures or linear limits may come only part of the way. A linear
program finds the least by which they have to stay exceeded,

    minimise  sum_j e_j / max_i |a_ji|     a_j'w <= b_j + e_j, box, turnover, all other rows

over the rows j that the book is beyond now. With b_j + e_j in the place of b_j the problem has an
optimum, which is as near to its limits as one decision leads, and has a proof. Where a sum of
weights and one of sizes can only be traded for each other the former goes first, as in the
waterfall, which gives nets back what bounds on sizes took. What holds lines alone out of reach is
`joint/reach.py`, but where its rows ask for different ends of a line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linprog

from compute.inputs import Inputs
from compute.joint.box import Box
from compute.joint.cuts import RISK_BUDGET_ROW, limit_of, linear_name
from compute.joint.limits import MARGIN_ROW
from compute.joint.reach import SIGNED, hard_ends, value_now
from compute.limits.one_decision import held_at, risk_name
from compute.limits.policy import LimitKind
from compute.market import Floats, Integers
from compute.optimize.limits import box as box_of
from compute.optimize.problem import Problem, Rows
from compute.waterfall.layout import Exposure

ROOM = 1e-7
"""Of equity, by which what is reached may be missed, so that the problem has an inside."""

OF_NETS = 1e-3
"""By how much dearer, relatively, the excess of a sum of weights is than one of sizes."""

_KEPT = (MARGIN_ROW, RISK_BUDGET_ROW)
_NO_OWNER: Integers = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Nearest:
    """A problem whose rows ask for no more than one decision reaches.

    bounds: those that were moved, by the name of the row and its end.
    """

    problem: Problem
    bounds: Mapping[str, float]


def as_near(bounds: Mapping[str, float]) -> str:
    """What was moved, in words."""
    told = ", ".join(f"{name} {bound:.6g}" for name, bound in bounds.items())
    return f"one decision can't reach all limits; as near as it leads: {told}"


@dataclass(frozen=True)
class End:
    """One end of a hard row, a'w <= most; excess: how far the book is beyond it, <= 0 inside.

    is_signed: it is of the weights, not of their sizes.
    """

    place: int
    name: str
    row: Floats
    most: float
    excess: float
    is_signed: bool


def nearest_rows(inputs: Inputs, problem: Problem, box: Box) -> Nearest | None:
    """The problem with the rows that the book is beyond as near as they can be; None: no such rows.

    None also where other rows can't be kept.
    """
    rows, before = problem.limits.rows, problem.holdings
    if rows is None or before is None:
        return None
    ends = ends_now(inputs, rows, box, before)
    beyond = [end for end in ends if end.excess > ROOM]
    if not beyond:
        return None
    least = _least_excess(problem, ends, beyond, before)
    if least is None:
        return None
    low, high = rows.row_min.copy(), rows.row_max.copy()
    bounds: dict[str, float] = {}
    for end, excess in zip(beyond, least, strict=True):
        if excess > ROOM:
            most = end.most + min(excess + ROOM, end.excess)
            is_upper = end.name.endswith(" max")
            (high if is_upper else low)[end.place] = most if is_upper else -most
            bounds[end.name] = most if is_upper else -most
    if not bounds:
        return None
    limits = replace(problem.limits, rows=replace(rows, row_min=low, row_max=high))
    return Nearest(replace(problem, limits=limits), bounds)


def ends_now(inputs: Inputs, rows: Rows, box: Box, before: Floats) -> list[End]:
    """The ends of the hard rows, with where the book is."""
    out = []
    for place, name, _, row, most in hard_ends(rows):
        named = limit_of(name, inputs, box, _NO_OWNER)
        now = value_now(row, before, named)
        excess = 0.0 if rows.names[place] in _KEPT else now - most
        out.append(End(place, name, row, most, excess, named.kind in SIGNED))
    return out


def _least_excess(
    problem: Problem, ends: list[End], beyond: list[End], before: Floats
) -> Floats | None:
    """The excesses (b,) of the rows `beyond` whose sum is least, each in units of its largest term.

    Over what is bought and sold of each variable, (v,) each, and the excesses.
    """
    lower, upper = box_of(problem)
    count, turnover = len(beyond), problem.limits.turnover_max
    places = {id(end): number for number, end in enumerate(beyond)}
    matrix = np.zeros((len(ends) + (turnover is not None), 2 * len(before) + count))
    most = np.zeros(len(matrix))
    for number, end in enumerate(ends):
        matrix[number, : 2 * len(before)] = np.concatenate([end.row, -end.row])
        most[number] = end.most - float(end.row @ before)
        if id(end) in places:
            matrix[number, 2 * len(before) + places[id(end)]] = -1.0
    if turnover is not None:
        matrix[-1, : 2 * len(before)], most[-1] = 1.0, turnover
    bought = np.column_stack([np.maximum(lower - before, 0.0), np.maximum(upper - before, 0.0)])
    sold = np.column_stack([np.maximum(before - upper, 0.0), np.maximum(before - lower, 0.0)])
    excess = np.column_stack([np.zeros(count), [end.excess for end in beyond]])
    units = [
        (1.0 + OF_NETS * end.is_signed) / max(float(np.abs(end.row).max()), 1e-300)
        for end in beyond
    ]
    found = linprog(
        np.concatenate([np.zeros(2 * len(before)), units]),
        A_ub=matrix,
        b_ub=most,
        bounds=np.vstack([bought, sold, excess]),
    )
    if found.x is None:
        return None
    least: Floats = np.maximum(found.x[2 * len(before) :], 0.0)
    return least


def with_reached(inputs: Inputs, bounds: Mapping[str, float]) -> Inputs:
    """The inputs with these limits where the optimum is, for the stages that come after it."""
    if not bounds:
        return inputs
    limit_bounds, stated = inputs.limit_bounds, inputs.limit_bounds.limits
    moved, joint = limit_bounds.bounds.copy(), stated.joint
    labels = [*(f"group {name}" for name in limit_bounds.group_names), "portfolio", "shared"]
    for column, label in enumerate(labels):
        for end, row, wider in (
            ("gross max", Exposure.GROSS_MAX, max),
            ("net max", Exposure.NET_MAX, max),
            ("net min", Exposure.NET_MIN, min),
        ):
            bound = bounds.get(f"{label} {end}")
            if bound is not None:
                moved[row, column] = wider(float(moved[row, column]), bound)
    book, floor = inputs.book_guard, inputs.floor_held
    for rule in book.rules if book else ():
        if rule.is_linear:
            name = linear_name(stated.joint.linear[rule.row].name)
            bound = bounds.get(f"{name} {'max' if rule.sign > 0.0 else 'min'}")
            if bound is not None:
                joint = held_at(joint, rule, rule.sign * bound + rule.pending)
        elif (reached := bounds.get(risk_name(rule))) is not None:
            if rule.kind is LimitKind.DRAWDOWN_RISK:
                floor = reached
            else:
                joint = held_at(joint, rule, reached)
    limits = replace(stated, joint=joint)
    return replace(
        inputs,
        limit_bounds=replace(limit_bounds, limits=limits, bounds=moved),
        floor_held=floor,
    )
