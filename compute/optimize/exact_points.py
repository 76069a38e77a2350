"""Optima at points that are known beforehand: what one is near by, and what the limits leave.

Above the solvers and the proof: candidates are compared and certified by the proof's own reading.

Where a curved limit leaves a single point there is no interior for a solver to walk through:
risk-constrained Kelly is met with equality by all cash; where nothing has a positive mean it is met
by nothing else. A cap on risk that equals the least risk there is leaves the book of least risk.
Nor is there one where dust is all that may be held. Such points are few and known beforehand: each
is tried, and taken where it is proven to be best.

So are vertices that linear programs lead to (Frank and Wolfe 1956, a whole step each): the best
point where one scenario, or a soft limit priced a million times the objective, outweighs all else.
An interior point sees nothing beside such slopes, the simplex method ends exactly there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from compute.optimize.execution import Execution
from compute.optimize.interior_point.scaling import unit_of
from compute.optimize.limits import box, linear
from compute.optimize.linear_program import LpStatus, maximise
from compute.optimize.problem import (
    Array,
    Costs,
    Objective,
    ObjectiveKind,
    Problem,
    Solution,
    Status,
)
from compute.optimize.proof.certificate import certify_weights, nothing_of_variance
from compute.optimize.proof.duality_gap import bounded
from compute.optimize.proof.evaluation import largest_violation, objective_value
from compute.optimize.proof.linearization import tangent
from compute.optimize.proof.lp_relaxation import relaxation
from compute.optimize.proof.problem_numbers import ProblemData
from compute.optimize.time_limit import TimeLimit

Kind = ObjectiveKind
# Within this, in units of the solver where these are above 1, a point is met but for rounding.
NEAR = 1e-6
# Weights this close to a kink, in units of the solver, are put there if that is no worse. Only a
# flat optimum (a variance that can be zero) is missed by as much as the first.
KINKS = (NEAR, 1e-10)
# A limit may be exceeded by so much more for it: a thousandth of what a certificate allows.
EXCEEDED = 1e-11
# Ratios and shares of risk are no sums of slopes.
_CURVED = (Kind.MAX_SHARPE, Kind.MAX_DIVERSIFICATION, Kind.RISK_BUDGET)
METHOD = "a point known beforehand"
# Linear programs on the way to a vertex: each touches the problem at the vertex of the one before.
PROGRAMS_MAX = 5


def at_tight_point(
    problem: Problem, solve: Callable[[Problem], Solution], execution: Execution
) -> Solution | None:
    """The optimum among the points that limits may leave; None where none is proven.

    solve: of a smooth problem without the limit in question.
    """
    time_limit = execution.time_limit
    for weights in _candidates(problem, solve):
        if certify_weights(problem, weights, time_limit=time_limit).is_optimal:
            return _at(problem, weights)
    return at_vertex(problem, np.zeros(problem.size), time_limit)


def at_vertex(problem: Problem, start: Array, time_limit: TimeLimit) -> Solution | None:
    """The optimum where it is a vertex that tangent programs lead to from weights [n]; or None.

    Each is a proof's own program: where it leads back to the point it touches, that is the best.
    """
    lower, upper = box(problem)
    if problem.objective.kind in _CURVED or np.any(lower > upper):
        return None
    weights = np.clip(start, lower, upper)
    for _ in range(PROGRAMS_MAX):
        try:
            program = bounded(tangent(problem, weights))
        except ValueError:
            return None  # the objective has no slope there
        builder = relaxation(program)
        found = maximise(builder.build(), time_limit=time_limit)
        if found.status is not LpStatus.OPTIMAL:
            return None
        vertex = np.clip(found.point[builder.column_slice("weights")], lower, upper)
        if certify_weights(problem, vertex, time_limit=time_limit).is_optimal:
            return _at(problem, vertex)
        if np.array_equal(vertex, weights):
            return None
        weights = vertex
    return None


def _at(problem: Problem, weights: Array) -> Solution:
    value = objective_value(problem, weights)
    return Solution(Status.OPTIMAL, weights, value, None, 0, 0.0, method=METHOD)


def settled(problem: Problem, found: Solution) -> Solution:
    """The answer; nothing at all, or what is held, exactly where it is that but for rounding.

    A flat optimum is met by an interior point within the root of its tolerance only. No variance is
    less than none: a point that has none is best however far away the answer is, if that has some.
    """
    if found.status is not Status.OPTIMAL or problem.objective.kind is Kind.MAX_SHARPE:
        return found
    points = [np.zeros(problem.size)]
    if problem.holdings is not None:
        points.append(np.asarray(problem.holdings, dtype=np.float64))
    sense = 1.0 if problem.objective.kind.maximised else -1.0
    slack = NEAR * max(float(unit_of(linear(problem), np.inf)), 1.0)
    for point in points:
        near = np.abs(found.weights - point).max(initial=0.0)
        if near == 0.0 or largest_violation(problem, point) > 0.0:
            continue
        value = objective_value(problem, point)
        if near > slack and not (value == 0.0 and _has_variance(problem, found)):
            continue
        if sense * value >= sense * objective_value(problem, found.weights):
            return replace(found, weights=point, objective=value)
    return found


def _has_variance(problem: Problem, found: Solution) -> bool:
    """Whether it is the least variance that was looked for, and the answer has more than none."""
    if problem.objective.kind is not Kind.MIN_VARIANCE:
        return False
    none = nothing_of_variance(ProblemData(problem), found.weights)
    return objective_value(problem, found.weights) > none


def at_kinks(problem: Problem, found: Solution) -> Solution:
    """The answer with weights of zero, and trades of none, exactly where they are that but for
    rounding, if it is no worse for it.

    An interior point only comes near: what is left of a position to close would be dust.
    """
    if found.status is not Status.OPTIMAL:
        return found
    unit = float(unit_of(linear(problem), np.inf))
    for slack in KINKS:
        better = _put(problem, found, slack * unit)
        if better is not None:
            return better
    return found


def _put(problem: Problem, found: Solution, slack: float) -> Solution | None:
    """The answer with what is within `slack` of a kink on it; None where that is worse or nothing.

    A kink outside the box is none: what is held where it may not stay is to be traded.
    """
    weights, (lower, upper) = found.weights, box(problem)
    near = np.where(np.abs(weights) <= slack, 0.0, weights)
    if problem.holdings is not None:
        near = np.where(np.abs(near - problem.holdings) <= slack, problem.holdings, near)
    near = np.where((near >= lower) & (near <= upper), near, weights)
    if np.array_equal(near, weights):
        return None
    sense = 1.0 if problem.objective.kind.maximised else -1.0
    value, broken = objective_value(problem, near), largest_violation(problem, near)
    if broken > max(largest_violation(problem, weights), EXCEEDED):
        return None
    if not sense * value >= sense * objective_value(problem, weights):
        return None
    return replace(found, weights=near, objective=value)


def _candidates(
    problem: Problem, solve: Callable[[Problem], Solution]
) -> Iterator[npt.NDArray[np.float64]]:
    limits, (lower, upper) = problem.limits, box(problem)
    if np.any(lower > upper):
        return
    yield np.clip(np.zeros(problem.size), lower, upper)
    if problem.holdings is not None:
        yield np.clip(problem.holdings, lower, upper)
    measured = {
        Kind.MIN_VARIANCE: limits.volatility_max,
        Kind.MIN_CVAR: limits.cvar_max,
        Kind.MIN_CDAR: limits.cdar_max,
        Kind.MIN_MAX_DRAWDOWN: limits.drawdown_max,
    }
    tails = {Kind.MIN_CVAR: limits.cvar_tail, Kind.MIN_CDAR: limits.cdar_tail}
    bare = replace(
        limits,
        volatility_max=None,
        var_max=None,
        cvar_max=None,
        cdar_max=None,
        drawdown_max=None,
        drawdown_risk=None,
    )
    for kind, bound in measured.items():
        if bound is not None:
            least = Objective(kind, tail=tails.get(kind, 0.95))
            found = solve(replace(problem, objective=least, costs=Costs(), limits=bare))
            if found.status is Status.OPTIMAL:
                yield found.weights
