"""The loop: solve a small program, look for violated scenarios and peaks, add them, solve again.

Each program bounds the problem from below; a solution that violates nothing that was left out is
its optimum. Early programs are solved loosely: interior points lie centrally and choose better
rows than vertices would. Two to four programs are usual, a hundred or two rows each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.expanding_box import bounded, solve_in_expanding_box
from compute.optimize.limits import box, equal_weights
from compute.optimize.problem import (
    CDAR,
    CVAR,
    MAX_DRAWDOWN,
    Objective,
    ObjectiveKind,
    Problem,
    Solution,
    Status,
    TailMeasure,
)
from compute.optimize.tail_lp import assemble as build
from compute.optimize.tail_lp import column_fixing, duals, linear_model, scenario_selection
from compute.optimize.tail_lp.interior_point import LinearAnswer, solve_linear_batch
from compute.optimize.tail_lp.polish import polish
from compute.optimize.tail_lp.simplex import vertex

Vector = npt.NDArray[np.float64]
Kind = ObjectiveKind

_LINEAR = frozenset(kind for kind in Kind if kind.tail is not None or kind is Kind.MAX_RETURN)
ROUNDS_MAX = 60
TOLERANCE = 1e-11
_LOOSE, _LOOSER = 1e-4, 1e-3
# Fewer new rows than this in a round: the next program is probably the last, solve it tightly.
_FEW = 16
# After this many rounds nothing is forgotten any more, so that the loop must end.
_SETTLED_ROUNDS = 8
# An answer this far from its conditions is refused, whatever the iteration thought of it.
ACCEPTED = 1e-8
# An interior point this near them points at the vertex it lost the last digits to.
NEAR = 1e-6
# An interior point this far from them has lost its way: the simplex method takes over.
STALLED = 1e-10
# Least total violation that is a conflict; an optimum is accepted with less.
_CONFLICT = 3e-10


@dataclass(frozen=True)
class _Work:
    """Where one problem stands between two rounds."""

    problem: Problem
    frame: linear_model.Frame
    terms: tuple[scenario_selection.Measure, ...]
    kept: tuple[scenario_selection.ActiveScenarios, ...]
    gain: Vector
    elastic: bool
    fixed: column_fixing.FixedColumns
    tolerance: float = _LOOSER
    iterations: int = 0
    rounds: int = 0
    done: bool = False
    answer: LinearAnswer | None = None
    assembly: build.Assembly | None = None


def terms_of(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    """The weighted parts of an objective; a plain one is its own part."""
    return objective.terms if objective.kind is Kind.COMBINATION else ((1.0, objective),)


def supports(problem: Problem) -> bool:
    """True if objective, limits and costs are piecewise linear and a tail measure takes part."""
    return piecewise_linear(problem) and has_tail(problem)


def piecewise_linear(problem: Problem) -> bool:
    """True if objective, limits and costs are, so that a linear program says it all."""
    limits, parts = problem.limits, terms_of(problem.objective)
    linear = bool(parts) and all(part.kind in _LINEAR for _, part in parts)
    curved = (limits.volatility_max, limits.var_max, limits.drawdown_risk, problem.costs.impact)
    return linear and all(c is None for c in curved)


def has_tail(problem: Problem) -> bool:
    """True if there is a tail limit, or a tail part of the objective."""
    limits = problem.limits
    capped = any(
        linear_model.finite(c) for c in (limits.cvar_max, limits.cdar_max, limits.drawdown_max)
    )
    return capped or any(part.kind.tail is not None for _, part in terms_of(problem.objective))


def measures_of(problem: Problem) -> tuple[scenario_selection.Measure, ...]:
    """The tail measures in the objective, then those that are capped."""
    limits, found = problem.limits, []
    wanted: list[tuple[TailMeasure, float, float, float | None]] = [
        (part.kind.tail, part.tail, weight, None)
        for weight, part in terms_of(problem.objective)
        if part.kind.tail is not None
    ]
    caps = (
        (CVAR, limits.cvar_tail, limits.cvar_max),
        (CDAR, limits.cdar_tail, limits.cdar_max),
        (MAX_DRAWDOWN, 1.0, limits.drawdown_max),
    )
    wanted += [(of, tail, 0.0, cap) for of, tail, cap in caps if linear_model.finite(cap)]
    if wanted and problem.scenarios is None:
        raise ValueError("scenarios: a tail measure needs them, and the problem has none")
    for of, tail, weight, cap in wanted:
        scenarios = np.asarray(problem.scenarios, dtype=np.float64)
        found.append(
            scenario_selection.measure(of, scenarios, probability(problem), tail, weight, cap)
        )
    return tuple(found)


def probability(problem: Problem) -> Vector:
    """Scenario probabilities [T], uniform if unset."""
    if problem.scenario_probability is not None:
        return np.asarray(problem.scenario_probability, dtype=np.float64)
    count = 0 if problem.scenarios is None else len(problem.scenarios)
    return np.full(count, 1.0 / max(count, 1))


def gain_of(problem: Problem) -> Vector:
    """The linear part of the maximised objective, f64[n]: weight * (mu + views - financing)."""
    weight = sum(w for w, part in terms_of(problem.objective) if part.kind is Kind.MAX_RETURN)
    if weight == 0.0:
        return np.zeros(problem.size)
    mean = problem.mean
    if mean is None:
        mean = probability(problem) @ np.asarray(problem.scenarios)
    return np.asarray(weight * (mean - problem.objective_rates), dtype=np.float64)


def _begin(problem: Problem, start: Vector | None, *, elastic: bool) -> _Work:
    gain, terms = gain_of(problem), measures_of(problem)
    if elastic:
        terms = tuple(replace(t, weight=0.0) for t in terms if t.cap is not None)
    base = linear_model.build(problem, gain, elastic=elastic)
    first = _first_weights(problem, base) if start is None else start
    kept = tuple(scenario_selection.first(term, first) for term in terms)
    return _Work(
        problem, base, terms, kept, gain, elastic, column_fixing.FixedColumns.none(len(base.cost))
    )


def _first_weights(problem: Problem, base: linear_model.Frame) -> Vector:
    """Any weights of about the right size: equal ones, moved into the box."""
    equal = equal_weights(problem, base.unit)
    return equal if np.any(equal != 0.0) else np.full(problem.size, base.unit / problem.size)


def _advance(work: _Work, assembly: build.Assembly, answer: LinearAnswer) -> _Work:
    """Take the answer of one program: finished, or the next rows, columns and tolerance."""
    work = replace(
        work,
        answer=answer,
        assembly=assembly,
        iterations=work.iterations + answer.iterations,
        rounds=work.rounds + 1,
    )
    if answer.error > max(work.tolerance, ACCEPTED) or work.rounds >= ROUNDS_MAX:
        # Without columns that were left out the limits may have had no solution: try with all.
        awake = column_fixing.FixedColumns.none(len(work.fixed.out))
        return replace(work, fixed=awake, done=not work.fixed.out.any())
    tight = work.tolerance <= TOLERANCE
    fixed = column_fixing.release(
        assembly.program, work.fixed, answer, TOLERANCE if tight else 1e-7
    )
    changed = bool(np.any(fixed.out != work.fixed.out))
    if not tight and work.rounds <= _SETTLED_ROUNDS:
        fixed = column_fixing.fix(assembly.program, fixed, answer)
    steps = [
        _extend(work, term, known, place, tight)
        for term, known, place in zip(work.terms, work.kept, assembly.places, strict=True)
    ]
    changed |= any(step[2] for step in steps)
    if tight and not changed:
        return replace(work, done=True)
    tolerance = TOLERANCE if sum(step[1] for step in steps) <= _FEW else _LOOSE
    kept = tuple(step[0] for step in steps)
    return replace(work, kept=kept, fixed=fixed, tolerance=tolerance)


def _extend(
    work: _Work,
    term: scenario_selection.Measure,
    known: scenario_selection.ActiveScenarios,
    place: build.Place,
    tight: bool,
) -> tuple[scenario_selection.ActiveScenarios, int, bool]:
    """The next rows of one measure, how many were violated, and whether any is new."""
    answer = work.answer
    assert answer is not None
    weights = build.weights(work.frame, answer)
    at = build.columns(work.frame, term, place, answer)
    if len(term.excess) and not tight and work.rounds <= _SETTLED_ROUNDS:
        settled = scenario_selection.settle(
            term, known, weights, at, _shares(term, known, place, work)
        )
        at = replace(at, excess=at.excess[np.isin(known.times, settled.times)])
        known = settled
    allowed = (1e-11 if tight else 1e-7) * term.scale * work.frame.unit
    more, found, _ = scenario_selection.extend(term, known, weights, at, allowed)
    changed = len(more.pairs) != len(known.pairs) or len(more.sure) != len(known.sure)
    return more, found, changed


def _shares(
    term: scenario_selection.Measure,
    known: scenario_selection.ActiveScenarios,
    place: build.Place,
    work: _Work,
) -> Vector:
    """Price of each pair over the most it can be: the measure's own price times a_t."""
    answer, assembly = work.answer, work.assembly
    assert answer is not None
    assert assembly is not None
    prices = np.maximum(-answer.price, 0.0) * assembly.objective_scale / term.scale
    total = term.weight + (0.0 if place.cap is None else float(prices[place.cap]))
    most = np.maximum(total * term.excess[known.pairs[:, 1] - 1], 1e-300)
    return np.asarray(np.minimum(prices[place.pairs] / most, 1.0))


def _run(works: list[_Work], execution: Execution) -> list[_Work]:
    """Advance all works round by round, the programs of a round together, until each is done."""
    works = list(works)
    while active := [i for i, work in enumerate(works) if not work.done]:
        assemblies = [
            build.assemble(w.frame, w.terms, w.kept, elastic=w.elastic)
            for w in (works[i] for i in active)
        ]
        tolerances = [works[i].tolerance for i in active]
        programs = [
            column_fixing.reduce(a.program, works[i].fixed)
            for i, a in zip(active, assemblies, strict=True)
        ]
        answers = solve_linear_batch(programs, tolerances, execution)
        for i, assembly, program, answer in zip(active, assemblies, programs, answers, strict=True):
            if works[i].tolerance <= TOLERANCE and answer.error <= NEAR:
                execution.time_limit.check()
                answer = polish(program, answer)
            if not answer.error <= max(works[i].tolerance, STALLED):
                answer = vertex(program, answer, execution)
            whole = column_fixing.expand(assembly.program, works[i].fixed, answer)
            works[i] = _advance(works[i], assembly, whole)
    return works


def solve_tail(
    problem: Problem, warm_start: Solution | None = None, *, execution: Execution = JUST_IN_TIME
) -> Solution:
    """Solve one problem that `supports` accepts; a `warm_start` only chooses the first rows.

    Never returns weights unless they are optimal: the status says why not. Raises ValueError for
    a problem of another kind or data that is not finite, `StoppedError` at the time limit.
    """
    return solve_tail_batch([problem], [warm_start], execution=execution)[0]


def solve_tail_batch(
    problems: list[Problem],
    warm_starts: list[Solution | None] | None = None,
    *,
    execution: Execution = JUST_IN_TIME,
) -> list[Solution]:
    """Solve many at once: the programs of a round are solved some at a time."""
    starts = [None] * len(problems) if warm_starts is None else warm_starts
    works: dict[int, _Work] = {}
    answers: dict[int, Solution] = {}
    for i, (problem, start) in enumerate(zip(problems, starts, strict=True)):
        _check(problem)
        lower, upper = box(problem)
        if np.any(lower > upper):
            answers[i] = duals.empty_box(problem, lower, upper)
            continue
        usable = start is not None and bool(np.all(np.isfinite(start.weights)))
        first = start.weights if start is not None and usable else None
        works[i] = _begin(problem, first, elastic=False)
    for i, work in zip(works, _run(list(works.values()), execution), strict=True):
        answers[i] = _finish(work, execution)
    return [answers[i] for i in range(len(problems))]


def _check(problem: Problem) -> None:
    if not piecewise_linear(problem):
        raise ValueError("objective or limits are not piecewise linear: not a tail problem")
    for name in ("mean", "scenarios", "scenario_probability", "holdings"):
        data = getattr(problem, name)
        if data is not None and not np.all(np.isfinite(data)):
            raise ValueError(f"{name}: every number must be finite")


def _finish(work: _Work, execution: Execution) -> Solution:
    """The answer of a finished work: certified, or the reason why there is none."""
    found = _result(work)
    return _explain(work, execution) if found is None else found


def _result(work: _Work) -> Solution | None:
    """The solution of a finished work, None where it has not converged."""
    answer = work.answer
    assert answer is not None
    assert work.assembly is not None
    if answer.error <= ACCEPTED and work.rounds < ROUNDS_MAX:
        solution = duals.solution(
            work.problem, work.frame, work.gain, work.terms, work.kept, work.assembly, answer
        )
        if solution.residual <= ACCEPTED:
            return replace(solution, iterations=work.iterations)
    return None


def _explain(work: _Work, execution: Execution) -> Solution:
    """Why no optimum came out: the least violation of the limits decides."""
    relaxed = _run([_begin(work.problem, None, elastic=True)], execution)[0]
    answer = relaxed.answer
    assert answer is not None
    assert relaxed.assembly is not None
    iterations = work.iterations + relaxed.iterations
    if answer.error <= ACCEPTED:
        found = duals.violation(
            work.problem, relaxed.frame, relaxed.terms, relaxed.kept, relaxed.assembly, answer
        )
        if found.violation_min > _CONFLICT * relaxed.frame.unit:
            return replace(found, iterations=iterations)
        inner = _in_bounds(work, execution)
        if inner is not None:
            return replace(inner, iterations=iterations + inner.iterations)
    return duals.failure(work.problem, Status.NOT_CONVERGED, iterations)


def _in_bounds(work: _Work, execution: Execution) -> Solution | None:
    """The answer where weights without bounds let early programs, which keep few scenarios, run
    away: within ever wider bounds, until none of them holds. UNBOUNDED where one always does.
    """
    if bounded(work.problem):
        return None
    found = solve_in_expanding_box(
        work.problem,
        work.frame.unit,
        lambda inner: _result(_run([_begin(inner, None, elastic=False)], execution)[0]),
    )
    if found is None or found.status is Status.OPTIMAL:
        return found
    return duals.failure(work.problem, found.status, work.iterations)
