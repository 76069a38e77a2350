"""How a joint problem is tried: as it is stated, and nearer to what one decision can reach.

Where no sizes keep all limits, in this order: lines that their own bounds would move stay
(`joint/stay.py`), sums that the book is beyond come as near as they can (`joint/nearest.py`), and
then what is measured of the whole book (`joint/nearest_risk.py`). Capital asks for no sale: where
there is less than none, a book may grow only by what its sales free, or not at all.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from compute.inputs import Inputs
from compute.joint.limits import MARGIN_ROW, kept_by_cuts
from compute.joint.margin import divided, line_needs
from compute.joint.nearest import as_near, nearest_rows
from compute.joint.nearest_risk import nearest_risks
from compute.joint.returns import BookMatrix
from compute.joint.statement import JointProblem, joint_problem
from compute.joint.stay import lines_that_stay
from compute.joint.stay_for_risk import lines_that_stay_for_risk
from compute.joint.tail_cuts import Cut, solve_within
from compute.market import Floats, Integers
from compute.optimize.diversification import has_least_gross, of_largest_gross
from compute.optimize.execution import JointShapes
from compute.optimize.problem import Problem, Solution, Status

STAYING = (0.0, 0.5, 1.0)
"""Parts of the way from where lines may stay back to where they are: capital may need them."""

MARGIN_MISSED = 1e-9
"""Of equity, by which what is free may be exceeded."""


@dataclass(frozen=True)
class Data:
    """What a joint problem is stated of beside its inputs, as in `joint_problem`."""

    scenarios: BookMatrix | None
    covariance: BookMatrix | None
    edges: Floats | None
    shapes: JointShapes | None

    def problem(
        self, inputs: Inputs, stay: Floats | None = None, *, only_reduces: bool
    ) -> JointProblem:
        """The problem of these inputs."""
        data = self.scenarios, self.covariance, self.edges, self.shapes
        return joint_problem(inputs, *data, stay, only_reduces=only_reduces)


@dataclass(frozen=True)
class Trial:
    """A problem as it was solved. inputs: with the limits that it was held to.

    stated: it with its rows as they were. reached, notes, owner: as in `JointAnswer`.
    """

    inputs: Inputs
    made: JointProblem
    stated: Problem
    found: Cut
    notes: tuple[str, ...]
    owner: Integers
    reached: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_infeasible(self) -> bool:
        """Whether no weights keep its limits, or none that the solver can tell."""
        return self.found.solution.status in (Status.INFEASIBLE, Status.NOT_CONVERGED)

    @property
    def is_optimal(self) -> bool:
        """Whether it has an answer."""
        return self.found.solution.status is Status.OPTIMAL


Solver = Callable[[Problem], Solution]


def attempted(inputs: Inputs, data: Data, solver: Solver) -> Trial:
    """The first trial that answers; where none does, the problem as it is stated."""
    first: Trial | None = None
    for only_reduces in (False, True)[: 1 + (inputs.limit_bounds.free < 0.0)]:
        stated = _tried(inputs, data.problem(inputs, only_reduces=only_reduces), solver)
        first = first or stated
        if not stated.is_infeasible:
            return stated
        for trial in _nearer(inputs, data, solver, stated, only_reduces=only_reduces):
            if trial.is_optimal:
                return trial
    assert first is not None, "one way at least is tried"
    return first


def _nearer(
    inputs: Inputs, data: Data, solver: Solver, stated: Trial, *, only_reduces: bool
) -> Iterator[Trial]:
    matrices = data.scenarios, data.covariance
    before = inputs.limit_bounds.before[inputs.index[stated.made.lines]]
    stay = lines_that_stay(inputs, stated.stated, stated.made.box)
    if stay is None:
        book = inputs, stated.stated, stated.made.everything, stated.made.box
        stay = lines_that_stay_for_risk(*book, matrices, solver)
    for part in STAYING if stay is not None else ():
        assert stay is not None, "some do"
        held = stay + part * (before - stay)
        made = data.problem(inputs, held, only_reduces=only_reduces)
        trial = _tried(inputs, made, solver)
        yield replace(trial, notes=(*trial.notes, _staying(inputs, stated.made, held)))
    rows = nearest_rows(inputs, stated.stated, stated.made.box)
    problem = stated.stated if rows is None else rows.problem
    risks = nearest_risks(inputs, problem, stated.made.everything, matrices, solver)
    if risks is not None:
        made = data.problem(risks.inputs, risks.stay, only_reduces=only_reduces)
        trial = _tried(risks.inputs, made, solver)
        reached = {**trial.reached, **risks.bounds}
        yield replace(trial, reached=reached, notes=(*stated.made.notes, as_near(reached)))


def _tried(inputs: Inputs, made: JointProblem, solver: Solver) -> Trial:
    """The problem, or where one decision can't reach its rows, that with them as near as it can."""
    stated, notes = made.problem, made.notes
    tails = kept_by_cuts(inputs, made.everything, made.unmeasured)
    found = solve_within(stated, tails, solver)
    if found.solution.status is Status.INFEASIBLE and has_least_gross(stated):
        stated = of_largest_gross(stated, solver)
        found = solve_within(stated, tails, solver)
    reached: Mapping[str, float] = {}
    if found.solution.status is Status.INFEASIBLE:
        nearest = nearest_rows(inputs, stated, made.box)
        if nearest is not None:
            near = solve_within(nearest.problem, tails, solver)
            if near.solution.status is Status.OPTIMAL:
                stated, found, reached = nearest.problem, near, nearest.bounds
                notes = (*notes, as_near(reached))
    found, owner = _with_exact_margin(inputs, made, stated, found, solver)
    return Trial(inputs, made, stated, found, notes, owner, reached)


def _with_exact_margin(
    inputs: Inputs, made: JointProblem, problem: Problem, found: Cut, solver: Solver
) -> tuple[Cut, Integers]:
    """With the margin row exact, where the relaxed optimum needs more than is free; owners."""
    limits, k, whole = problem.limits, len(made.lines), np.arange(len(made.everything))
    if found.solution.status is not Status.OPTIMAL:
        return found, whole
    if limits.rows is None or MARGIN_ROW not in limits.rows.names:
        return found, whole
    assert limits.lower is not None, "every line has bounds"
    assert limits.upper is not None, "every line has bounds"
    needs = line_needs(inputs, made.lines, limits.lower[:k], limits.upper[:k])
    if needs.of(found.solution.weights[:k]) <= needs.free + MARGIN_MISSED:
        return found, whole
    exact = divided(problem, needs, MARGIN_ROW)
    tails = kept_by_cuts(inputs, made.everything[exact.owner], made.unmeasured)
    return solve_within(exact.problem, tails, solver), exact.owner


def _staying(inputs: Inputs, made: JointProblem, stay: Floats) -> str:
    """Which lines stay, in words."""
    ids = inputs.limit_bounds.market.instrument_ids
    told = ", ".join(
        f"{ids[inputs.index[made.lines[place]]]} at {stay[place]:.6g}"
        for place in np.flatnonzero(~np.isnan(stay))
    )
    return (
        f"limits of the book leave no way for positions that are to be smaller; they stay: {told}"
    )
