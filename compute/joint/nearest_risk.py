"""Limits on the risk of the whole book that one decision can't reach, and how near it leads.

A book beyond its volatility, value at risk, shortfall or drawdown may come only part of the way:
what the request doesn't name stays where it is, turnover ends, others of its limits don't allow
more. Each such limit in turn asks then for the least that can be had,

    minimise  measure(w)     box, turnover, rows; the other limits, none further away than now

over what the guard measures it with: the scenarios or the covariance as they are stored. With
that in the place of its bound the problem has an optimum, which has a proof. Where the book has
the least already, lines that the measure depends on stay. Of a measure that is
no objective of the solver it is the measure of the book of least variance, or of least shortfall.
Of a wealth floor it is log E[W^-k], least where a utility of relative risk aversion 1 + k is most.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.inputs import Inputs
from compute.joint.limits import (
    RUINED,
    curved_limits,
    floor_power,
    hard_rows,
    kept_by_cuts,
    of_variables,
    unstated,
)
from compute.joint.returns import BookMatrix
from compute.joint.tail_cuts import solve_within
from compute.limits.book_guard import LEVEL, Rule
from compute.limits.book_measures import Measure
from compute.limits.one_decision import held_at, risk_name
from compute.limits.policy import JointLimits, LimitKind
from compute.market import Floats, Integers
from compute.optimize.problem import Objective, ObjectiveKind, Problem, Solution, Status
from compute.risk.tail_method import TailMethod

ROOM = 1e-6
"""Relative: by how much more than the least is allowed, so that the problem has an inside."""

STEP = 1e-2
"""In weights, by which it is seen whether a measure depends on one."""


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
    moved, broken = inputs, []
    for rule in guard.rules:
        now = rule.measure(guard.before)[0]
        if _is_risk(rule, now) and now > rule.bound:
            broken.append((rule, now))
            moved = _held(moved, rule, now * (1.0 + ROOM))
    reached, stay = {}, np.full(int(inputs.active.sum()), np.nan)
    for rule, now in broken:
        book = _least(moved, problem, data, everything, rule, solve)
        if book is None:
            return None
        measure = of_variables(rule, everything, len(inputs.limit_bounds.before))
        least = measure(book)[0] * (1.0 + ROOM)
        bound = max(rule.bound, min(least, now))
        if least < now or bound == rule.bound:
            moved = _held(moved, rule, bound)
        else:
            stay = np.where(_counts(measure, book)[: len(stay)], book[: len(stay)], stay)
        if bound > rule.bound:
            reached[risk_name(rule)] = bound
    if not reached:
        return None
    return NearestRisks(moved, reached, None if np.isnan(stay).all() else stay)


def _counts(measure: Measure, book: Floats) -> NDArray[np.bool_]:
    """The variables (v,) that a measure depends on at a book."""
    at = measure(book)[0]
    steps = [measure(book + STEP * unit)[0] for unit in np.eye(len(book))]
    return np.array([abs(value - at) > STEP**2 * ROOM * at for value in steps])


def _is_risk(rule: Rule, now: float) -> bool:
    """Whether it is a risk that can be made least; none is the measure of a ruined book."""
    if rule.kind is LimitKind.DRAWDOWN_RISK:
        return now < RUINED
    return not rule.is_linear and rule.kind is not LimitKind.RISK_BUDGET


def _held(inputs: Inputs, rule: Rule, value: float) -> Inputs:
    """The inputs with the limit of a rule at a value of its measure."""
    if rule.kind is LimitKind.DRAWDOWN_RISK:
        return replace(inputs, floor_held=value)
    return _with(inputs, held_at(inputs.limit_bounds.limits.joint, rule, value))


def _with(inputs: Inputs, joint: JointLimits) -> Inputs:
    """The inputs with these limits of the book."""
    limits = replace(inputs.limit_bounds.limits, joint=joint)
    return replace(inputs, limit_bounds=replace(inputs.limit_bounds, limits=limits))


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
    inputs: Inputs,
    stated: Problem,
    data: Problem,
    everything: Integers,
    rule: Rule,
    solve: Callable[[Problem], Solution],
) -> Floats | None:
    """The book (v,) of the least risk within all limits but the rule's own; None: none is found."""
    joint = inputs.limit_bounds.limits.joint
    others = _with(inputs, _without(joint, rule))
    problem = within(data, stated, others, _objective(joint, rule))
    return best_book(problem, others, everything, solve)


def within(data: Problem, stated: Problem, inputs: Inputs, objective: Objective) -> Problem:
    """An objective over `data` inside bounds, rows and turnover of `stated`, and the book's limits.

    Of those what the problem can state; `best_book` keeps the others.
    """
    own = stated.limits
    limits = replace(
        curved_limits(inputs.limit_bounds.limits.joint, unstated(inputs)),
        lower=own.lower,
        upper=own.upper,
        rows=hard_rows(own.rows),
        turnover_max=own.turnover_max,
    )
    # A wealth floor counts interest on cash; risks don't.
    cash, rates = stated.cash_return, stated.financing
    asked = replace(data, objective=objective, limits=limits, holdings=stated.holdings)
    return replace(asked, cash_return=cash, financing=rates)


def best_book(
    problem: Problem,
    inputs: Inputs,
    everything: Integers,
    solve: Callable[[Problem], Solution],
) -> Floats | None:
    """Its optimum (v,) within what is kept by cuts as well, None where none is found.

    everything: (v,), the instrument of each variable.
    """
    found = solve_within(problem, kept_by_cuts(inputs, everything, unstated(inputs)), solve)
    is_found = found.solution.status is Status.OPTIMAL and found.is_within
    return found.solution.weights if is_found else None


def _without(joint: JointLimits, rule: Rule) -> JointLimits:
    """The limits without that of the rule."""
    if rule.kind is LimitKind.DRAWDOWN_RISK:
        return replace(joint, wealth_floor=None, wealth_floor_probability=None)
    if rule.row < 0:
        field: dict[str, Any] = {rule.kind.fields[0]: None}
        return replace(joint, **field)
    place = rule.row - len(joint.linear)
    return replace(joint, tails=(*joint.tails[:place], *joint.tails[place + 1 :]))


def _objective(joint: JointLimits, rule: Rule) -> Objective:
    """What the least of the rule's measure is asked by."""
    if rule.row >= 0:
        tail = joint.tails[rule.row - len(joint.linear)]
        if tail.method is TailMethod.NORMAL:
            return Objective(ObjectiveKind.MIN_VARIANCE)
        return Objective(ObjectiveKind.MIN_CVAR, tail=tail.level)
    if rule.kind is LimitKind.DRAWDOWN_RISK:
        return Objective(ObjectiveKind.CRRA, risk_aversion=1.0 + floor_power(joint))
    if rule.kind is LimitKind.CVAR_MAX:
        return Objective(ObjectiveKind.MIN_CVAR, tail=joint.cvar_level or LEVEL)
    if rule.kind is LimitKind.CDAR_MAX:
        return Objective(ObjectiveKind.MIN_CDAR, tail=joint.cdar_level or LEVEL)
    return Objective(ObjectiveKind.MIN_VARIANCE)
