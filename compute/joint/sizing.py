"""The joint method: the sizes of a batch decided together, as one convex problem.

    maximise   E U(W)   over the weights of the batch, with everything else held as it is

U is log wealth at the full Kelly fraction, and the power utility whose risk aversion is 1/c at the
fraction c (exact for lognormal wealth: MacLean, Thorp and Ziemba 2010). With scenarios the
expectation is exact; with a covariance alone it is the quadratic mean - (1/2c) w'Sw; bets and
histories become scenarios of their outcomes (`joint/data.py`). The sizing
parameters may name another objective, which is then taken as it is. The limits
become rows of the problem: a line may only be held on the side of its signal, so absolute weights
are linear. Lots, cash and the guard follow as in the closed form (`pipeline.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from compute.inputs import Inputs
from compute.joint.attempts import Data, attempted
from compute.joint.conflict import Conflict, Stated
from compute.joint.cuts import JointCuts, Named, joint_cuts, limit_of
from compute.joint.returns import BookMatrix
from compute.market import Floats, Integers
from compute.optimize import solve
from compute.optimize.exact_points import at_vertex
from compute.optimize.execution import JUST_IN_TIME, Execution
from compute.optimize.explanation import UNEXPLAINED, priced, recognised
from compute.optimize.limits import of_asset
from compute.optimize.presolve import open_sides
from compute.optimize.problem import Problem, Status
from compute.optimize.proof.certificate import Certificate, certify
from compute.optimize.sensitivity.shadow_prices import ShadowPrice


@dataclass(frozen=True)
class JointAnswer:
    """A solved batch: signed weights per line (n,), and the proof.

    weights is None where there is none to use; then `conflict` says which limits do,
    `unbounded` which lines nothing bounds, or `status` why the solver gave up.
    """

    status: Status
    weights: Floats | None
    certificate: Certificate | None
    prices: dict[str, ShadowPrice]
    conflict: Conflict | None
    iterations: int
    problem: Problem
    instrument_ids: tuple[str, ...]
    """Of the problem's variables."""
    note: str = ""
    """Why there are no prices where there might be some."""
    cuts: JointCuts | None = None
    named: dict[str, Named] = field(default_factory=dict)
    """The limit behind each of the prices."""
    unbounded: tuple[str, ...] = ()
    """Lines that nothing bounds, where the objective grows without end."""
    notes: tuple[str, ...] = ()
    """What to know about the problem, in words."""
    reached: Mapping[str, float] = field(default_factory=dict)
    """Rows that one decision can't bring to their limit, and where it brings them, by name."""
    owner: Integers | None = None
    """The line or holding of each variable, where some lines are divided (`joint/margin.py`)."""


def solve_joint(
    inputs: Inputs,
    scenarios: BookMatrix | None,
    covariance: BookMatrix | None,
    edges: Floats | None = None,
    execution: Execution = JUST_IN_TIME,
) -> JointAnswer:
    """Solves the batch of `inputs` together.

    The covariance is used without scenarios only. edges: rows of `layout.Line` where the batch has
    bets or histories (`has_bets`), whose outcomes become scenarios.
    Raises `MissingInputError` where a line or a holding has neither, `StoppedError` at the time
    limit.
    """
    time_limit, programs = execution.time_limit, execution.programs
    shapes = None if programs is None else programs.shapes
    solver = partial(solve, execution=execution)
    attempt = attempted(inputs, Data(scenarios, covariance, edges, shapes), solver)
    made, found, owner = attempt.made, attempt.found, attempt.owner
    lines, everything, notes = made.lines, made.everything, attempt.notes
    problem, notes = found.problem, (*notes, *found.notes)
    solution, why = recognised(problem, found.solution, execution)
    ids = inputs.limit_bounds.market.instrument_ids
    names = tuple(ids[place] for place in everything[owner])
    if solution.status is not Status.OPTIMAL:
        bare = JointAnswer(
            solution.status, None, None, {}, None, solution.iterations, problem, names
        )
        if why is not None:
            told = Stated(inputs, made.box, len(lines), everything, owner).conflict(why)
            return replace(bare, conflict=told)
        if solution.status is Status.INFEASIBLE:
            return replace(bare, note=UNEXPLAINED)
        sides = open_sides(problem) if solution.status is Status.UNBOUNDED else []
        lines_open = sorted({own[1] for own in map(of_asset, sides) if own is not None})
        return replace(bare, unbounded=tuple(names[place] for place in lines_open))
    certificate = certify(problem, solution, thorough=False, time_limit=time_limit)
    if not certificate.is_optimal:
        certificate = certify(problem, solution, time_limit=time_limit)
    if not certificate.is_optimal and (vertex := at_vertex(problem, solution.weights, time_limit)):
        solution = replace(vertex, iterations=solution.iterations)
        certificate = certify(problem, solution, time_limit=time_limit)
    prices, note = priced(problem, solution.weights, certificate, time_limit)
    named = {name: limit_of(name, inputs, made.box, owner) for name in prices}
    # A line's own side is no limit, and what isn't in the batch is not to be traded.
    prices = {name: price for name, price in prices.items() if named[name].kind}
    cuts = joint_cuts(inputs, problem, solution.weights, owner, lines, prices, named)
    weights = np.zeros(len(inputs.index))
    whole = np.bincount(owner, weights=solution.weights, minlength=len(everything))
    weights[lines] = whole[: len(lines)]
    return JointAnswer(
        solution.status,
        weights,
        certificate,
        prices,
        None,
        solution.iterations,
        problem,
        names,
        note,
        cuts,
        named,
        notes=notes,
        reached=attempt.reached,
        owner=owner,
    )
