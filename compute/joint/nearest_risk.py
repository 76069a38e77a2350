"""Limits on the risk of the whole book that one decision can't reach, and how near it leads.

A book beyond its volatility, value at risk, shortfall or drawdown may come only part of the way:
what the request doesn't name stays where it is, turnover ends, others of its limits don't allow
more. Each such limit in turn asks then for the least that can be had,

    minimise  measure(w)     box, turnover, rows; the other limits, none further away than now

over what the guard measures it with: the scenarios or the covariance as they are stored. With
that in the place of its bound the problem has an optimum, which has a proof. Where the book has
the least already, lines that the measure depends on stay. Of a measure that is
no objective of the solver it is the measure of the book of least variance, or of least shortfall.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.inputs import Inputs
from compute.joint.limits import curved_limits, of_variables
from compute.joint.returns import BookMatrix
from compute.joint.tail_cuts import bounded_tails, solve_within
from compute.limits.book_guard import LEVEL, Rule
from compute.limits.book_measures import Measure
from compute.limits.one_decision import held_at, risk_name
from compute.limits.policy import JointLimits, LimitKind
from compute.market import Floats, Integers
from compute.optimize.problem import Objective, ObjectiveKind, Problem, Rows, Solution, Status
from compute.risk.tail_method import TailMethod

ROOM = 1e-6
"""Relative: by how much more than the least is allowed, so that the problem has an inside."""

STEP = 1e-2
"""In weights, by which it is seen whether a measure depends on one."""

_UNMEASURED: frozenset[LimitKind] = frozenset()


@dataclass(frozen=True)
class NearestRisks:
    """inputs: with the limits on risk as near as they can be; bounds: where they are, by name.

    stay: (k,) lines that have to stay there, as nothing makes a risk less, NaN of others.
    """

    inputs: Inputs
    bounds: Mapping[str, float]
    stay: Floats | None


def nearest_risks(
    inputs: Inputs,
    problem: Problem,
    everything: Integers,
    matrices: tuple[BookMatrix | None, BookMatrix | None],
    solve: Callable[[Problem], Solution],
) -> NearestRisks | None:
    """What the limits on risk that the book is beyond can ask for.

    problem: what rows, bounds and turnover are taken from, of variables that are the instruments
    `everything` (v,). matrices: scenarios and covariance, which is used without them. None where
    the book is beyond no such limit, or none can be approached.
    """
    guard, data = inputs.book_guard, of_matrix(*matrices, everything)
    if guard is None or data is None:
        return None
    joint, broken = inputs.limit_bounds.limits.joint, []
    for rule in guard.rules:
        now = rule.measure(guard.before)[0]
        if _is_risk(rule) and now > rule.bound:
            broken.append((rule, now))
            joint = held_at(joint, rule, now * (1.0 + ROOM))
    reached, stay = {}, np.full(int(inputs.active.sum()), np.nan)
    for rule, now in broken:
        book = _least(joint, problem, data, rule, solve)
        if book is None:
            return None
        measure = of_variables(rule, everything, len(inputs.limit_bounds.before))
        least = measure(book)[0] * (1.0 + ROOM)
        bound = max(rule.bound, min(least, now))
        if least < now or bound == rule.bound:
            joint = held_at(joint, rule, bound)
        else:
            stay = np.where(_counts(measure, book)[: len(stay)], book[: len(stay)], stay)
        if bound > rule.bound:
            reached[risk_name(rule)] = bound
    if not reached:
        return None
    bounds = inputs.limit_bounds
    limits = replace(bounds.limits, joint=joint)
    moved = replace(inputs, limit_bounds=replace(bounds, limits=limits))
    return NearestRisks(moved, reached, None if np.isnan(stay).all() else stay)


def _counts(measure: Measure, book: Floats) -> NDArray[np.bool_]:
    """The variables (v,) that a measure depends on at a book."""
    at = measure(book)[0]
    steps = [measure(book + STEP * unit)[0] for unit in np.eye(len(book))]
    return np.array([abs(value - at) > STEP**2 * ROOM * at for value in steps])


def _is_risk(rule: Rule) -> bool:
    """Whether it is a risk that can be made least; a wealth floor says what to grow by."""
    return not rule.is_linear and rule.kind not in (LimitKind.RISK_BUDGET, LimitKind.DRAWDOWN_RISK)


def of_matrix(
    scenarios: BookMatrix | None, covariance: BookMatrix | None, everything: Integers
) -> Problem | None:
    """A problem over what is known of the variables, without objective and limits; None: nothing.

    An instrument that is beside them is one that no limit was measured on.
    """
    matrix, anything = scenarios or covariance, Objective(ObjectiveKind.MIN_VARIANCE)
    if matrix is None or (matrix.place[everything] < 0).any():
        return None
    columns = matrix.place[everything]
    if scenarios is None:
        return Problem(anything, covariance=matrix.values[np.ix_(columns, columns)])
    values = matrix.values[:, columns]
    return Problem(anything, scenarios=values, scenario_probability=matrix.probability)


def _least(
    joint: JointLimits,
    stated: Problem,
    data: Problem,
    rule: Rule,
    solve: Callable[[Problem], Solution],
) -> Floats | None:
    """The book (v,) of the least risk within all limits but the rule's own; None: none is found."""
    problem = within(data, stated, _without(joint, rule), _objective(joint, rule))
    return best_book(problem, _without(joint, rule), solve)


def within(data: Problem, stated: Problem, joint: JointLimits, objective: Objective) -> Problem:
    """An objective over `data` inside the bounds, rows and turnover of `stated`, and `joint`."""
    own = stated.limits
    limits = replace(
        curved_limits(joint, _UNMEASURED),
        lower=own.lower,
        upper=own.upper,
        rows=_hard_rows(own.rows),
        turnover_max=own.turnover_max,
    )
    return replace(data, objective=objective, limits=limits, holdings=stated.holdings)


def best_book(
    problem: Problem, joint: JointLimits, solve: Callable[[Problem], Solution]
) -> Floats | None:
    """Its optimum (v,) within the tails of `joint` as well, None where none is found."""
    found = solve_within(problem, bounded_tails(problem, joint.tails), solve)
    is_found = found.solution.status is Status.OPTIMAL and found.is_within
    return found.solution.weights if is_found else None


def _without(joint: JointLimits, rule: Rule) -> JointLimits:
    """The limits without that of the rule."""
    if rule.row < 0:
        field: dict[str, Any] = {rule.kind.fields[0]: None}
        return replace(joint, **field)
    place = rule.row - len(joint.linear)
    return replace(joint, tails=(*joint.tails[:place], *joint.tails[place + 1 :]))


def _hard_rows(rows: Rows | None) -> Rows | None:
    """The rows that have to hold."""
    if rows is None or rows.price is None:
        return rows
    kept = np.flatnonzero(np.isinf(rows.price))
    names = tuple(rows.names[place] for place in kept)
    return Rows(rows.matrix[kept], rows.row_min[kept], rows.row_max[kept], names)


def _objective(joint: JointLimits, rule: Rule) -> Objective:
    """What the least of the rule's measure is asked by."""
    if rule.row >= 0:
        tail = joint.tails[rule.row - len(joint.linear)]
        if tail.method is TailMethod.NORMAL:
            return Objective(ObjectiveKind.MIN_VARIANCE)
        return Objective(ObjectiveKind.MIN_CVAR, tail=tail.level)
    if rule.kind is LimitKind.CVAR_MAX:
        return Objective(ObjectiveKind.MIN_CVAR, tail=joint.cvar_level or LEVEL)
    if rule.kind is LimitKind.CDAR_MAX:
        return Objective(ObjectiveKind.MIN_CDAR, tail=joint.cdar_level or LEVEL)
    return Objective(ObjectiveKind.MIN_VARIANCE)
