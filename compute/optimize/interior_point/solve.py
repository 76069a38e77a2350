"""`solve` and `solve_batch`: route a problem, run the kernel, read the answer, explain failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.interior_point.batching import form, stacked
from compute.optimize.interior_point.budget import closed_form, closed_forms
from compute.optimize.interior_point.canonicalize import Encoded, encode
from compute.optimize.interior_point.compiled_shapes import run_kernel
from compute.optimize.interior_point.epigraph import Levels
from compute.optimize.interior_point.fallbacks import without_answer
from compute.optimize.interior_point.iteration import CAUTIOUS, LAG
from compute.optimize.interior_point.kernel import run_batch
from compute.optimize.interior_point.logarithms import in_logarithms, is_far, is_plain
from compute.optimize.interior_point.output import Answer, unpack
from compute.optimize.interior_point.phase_one import infeasibility
from compute.optimize.interior_point.problem_data import shape_of, spread
from compute.optimize.interior_point.recover import (
    decode,
    decode_stack,
    empty,
    openness,
    undecided,
)
from compute.optimize.interior_point.scaling import finer_by, own_unit, unit_of_utility
from compute.optimize.interior_point.sharpe_frontier import CONSTANT, vanishing, without_size
from compute.optimize.limits import Linear
from compute.optimize.objectives import Blocks
from compute.optimize.problem import ObjectiveKind, Problem, Solution, Status
from compute.optimize.threads import THREADS, in_threads

BATCHES = (1, 2, 4, 8, 16, 32)
METHOD = "interior point"
T = TypeVar("T")


def solve(
    problem: Problem, levels: Levels | None = None, *, execution: Execution = JUST_IN_TIME
) -> Solution:
    """The optimum of a smooth problem with its multipliers, or a typed failure.

    levels: variables beside the weights; objective and gradient of the answer are without them,
    the prices of their rows follow those of the named ones.
    Raises UnsupportedError for tail objectives and limits (those are solved by cuts) and
    ValueError for a problem that is not well formed.
    """
    execution.time_limit.check()
    sizeless = without_size(problem)
    if sizeless is not None:
        limit = solve(sizeless, levels, execution=execution)
        return empty(problem, Status.VANISHING, METHOD) if vanishing(problem, limit) else limit
    blocks: Blocks | None = None
    if problem.objective.kind is ObjectiveKind.RISK_BUDGET:
        closed = closed_form(problem, execution)
        if isinstance(closed, Solution):
            return closed
        blocks = closed
    if levels is None and execution.programs is None:
        encoded = encode(problem, blocks, screened=False, execution=execution)
        answer = run_kernel(encoded, LAG)
        if not answer.doubtful:
            return finish(encoded, answer)
    encoded = encode(problem, blocks, levels, execution=execution)
    if _crossed(encoded.linear):
        return infeasibility(problem, execution) or empty(problem, Status.INFEASIBLE, METHOD)
    return finish(encoded, run_kernel(encoded, LAG))


def solve_batch(
    problems: Sequence[Problem], *, execution: Execution = JUST_IN_TIME
) -> list[Solution]:
    """`solve` for many; problems of one form share compiled calls.

    Where only programs compiled ahead may run they are solved one by one: stacks would need a
    program more for every slot, and of large books a stack is no faster.
    """
    if len(problems) == 1 or execution.programs is not None:
        return [solve(problem, execution=execution) for problem in problems]
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, problem in enumerate(problems):
        if without_size(problem) is not None:
            continue  # by itself
        groups.setdefault(form(problem), []).append(index)
    chunks = [chunk for members in groups.values() for chunk in _chunks(members)]

    def together(chunk: list[int]) -> list[Solution | None]:
        execution.time_limit.check()
        return _together([problems[i] for i in chunk])

    answered = in_threads(together, chunks)
    found = dict(pair for pairs in map(zip, chunks, answered) for pair in pairs)
    return [
        found.get(index) or solve(problem, execution=execution)
        for index, problem in enumerate(problems)
    ]


def _chunks(members: list[T]) -> list[list[T]]:
    """Members in chunks of one rung of `BATCHES`: a share for every thread, if they are many."""
    share = -(-len(members) // THREADS)
    size = next((rung for rung in BATCHES if rung >= share), BATCHES[-1])
    return [members[at : at + size] for at in range(0, len(members), size)]


def _together(chunk: list[Problem]) -> list[Solution | None]:
    """One compiled call; None for a problem that has to be looked at by itself.

    The batch is filled up with copies of its last problem.
    """
    size = next(rung for rung in BATCHES if rung >= len(chunk))
    stack = stacked(chunk + chunk[-1:] * (size - len(chunk)))
    known: list[Solution | None] = [None] * size
    blocks: Blocks | None = None
    if stack.objective.kind is ObjectiveKind.RISK_BUDGET:
        known, blocks = closed_forms(stack, size)
        if all(known):
            return known[: len(chunk)]
    encoded = encode(stack, blocks, screened=False)
    vectors = np.asarray(run_batch(spread(encoded.data, size), LAG))
    answers = unpack(vectors, shape_of(encoded.data), encoded.shape)
    solutions = decode_stack(encoded, answers, METHOD)
    return [
        closed or (None if one is None or _senseless(encoded, one) else one)
        for closed, one, _ in zip(known, solutions, chunk, strict=False)
    ]


def _exact(stated: Encoded) -> Answer:
    """The kernel's answer with all curvature formed anew in every step."""
    stated.execution.time_limit.check()
    return run_kernel(stated, CAUTIOUS)


def _crossed(limits: Linear) -> bool:
    """True if a name or a hard row must be at least more than at most."""
    rows = (limits.row_min > limits.row_max) & np.isinf(limits.price)
    return bool((limits.lower > limits.upper).any() or rows.any())


def finish(encoded: Encoded, answer: Answer) -> Solution:
    """Decode an answer; where there is none, find out why."""
    solution, execution = decode(encoded, answer, METHOD), encoded.execution
    if solution.status is Status.OPTIMAL and not _senseless(encoded, solution):
        decided = _decided(encoded, answer, solution)
        return (in_logarithms(encoded, _exact) or decided) if is_far(encoded, decided) else decided
    execution.time_limit.check()
    conflict = infeasibility(encoded.problem, execution)
    if conflict is not None:
        return conflict
    smaller = _in_unit_of_utility(encoded)
    if smaller is not None and not is_far(encoded, smaller):
        return smaller
    certain = in_logarithms(encoded, _exact) if is_plain(encoded) else None
    if certain is not None:
        return certain
    if smaller is not None:
        return smaller
    second = run_kernel(encoded, CAUTIOUS)
    solution = decode(encoded, second, f"{METHOD}, second attempt")
    if solution.status is Status.OPTIMAL and not _senseless(encoded, solution):
        return _decided(encoded, second, solution)

    def again(stated: Encoded) -> Answer:
        execution.time_limit.check()
        return run_kernel(stated, LAG)

    return without_answer(encoded, answer, solution, again)


def _decided(encoded: Encoded, answer: Answer, solution: Solution) -> Solution:
    """The solution; where it leaves digits open, what the unit of its own weights makes of it.

    Where that is not it, its objective is worth far less than its slopes away from the optimum,
    and is counted in what it is worth.
    """
    left = openness(encoded, answer, solution.objective)
    if not left > 1.0:
        return solution
    free = encoded.linear.lower < encoded.linear.upper
    unit, finer = own_unit(solution.weights[free], float(encoded.unit)), 1.0
    for _ in range(2):
        if unit is None:
            finer = finer_by(float(undecided(encoded, answer, solution.objective)))
            if finer == 1.0:
                break
        stated = encode(
            encoded.problem,
            encoded.blocks,
            encoded.levels,
            float(encoded.unit) if unit is None else unit,
            finer=finer,
            execution=encoded.execution,
        )
        closer = run_kernel(stated, LAG)
        found = decode(stated, closer, f"{METHOD}, own unit")
        if found.status is Status.OPTIMAL and not _senseless(stated, found):
            now = openness(stated, closer, found.objective)
            if now < left:
                steps = solution.iterations + found.iterations
                encoded, answer, left = stated, closer, now
                solution = replace(found, iterations=steps)
        if not left > 1.0 or finer > 1.0:
            break
        unit = None
    return solution


def _in_unit_of_utility(encoded: Encoded) -> Solution | None:
    """The answer where weights are counted in what a utility of constant risk aversion can tell."""
    if encoded.blocks.crra is None:
        return None
    assert encoded.data.returns is not None, "its wealth"
    slope = float(np.abs(encoded.data.returns).max(initial=0.0)) / float(encoded.unit)
    unit = unit_of_utility(encoded.blocks.crra[1], slope)
    if unit >= float(encoded.unit):
        return None
    again = encode(
        encoded.problem, encoded.blocks, encoded.levels, unit, execution=encoded.execution
    )
    answer = run_kernel(again, CAUTIOUS)
    found = decode(again, answer, f"{METHOD}, unit of the utility")
    return _decided(again, answer, found) if found.status is Status.OPTIMAL else None


def _senseless(encoded: Encoded, solution: Solution) -> bool:
    """True for a Sharpe ratio that is not positive (its stationary point is no maximum), or so
    large that its risk is rounding.
    """
    return encoded.blocks.ratio and not 0.0 < solution.objective < 1.0 / CONSTANT
