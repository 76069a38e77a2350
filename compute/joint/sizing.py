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

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from compute.inputs import Inputs
from compute.joint.box import Box, line_box
from compute.joint.conflict import Conflict, Stated
from compute.joint.cuts import JointCuts, Named, joint_cuts, limit_of
from compute.joint.data import returns_of
from compute.joint.limits import MARGIN_ROW, book_limits, kept_by_cuts, refuse_unmeasured, sides
from compute.joint.margin import Divided, LineNeeds, divided, line_needs, only_reducing
from compute.joint.nearest import nearest_rows
from compute.joint.outcomes import COMBINED_MAX
from compute.joint.reach import unforced, within_reach
from compute.joint.returns import BookMatrix
from compute.joint.stay import held_where, lines_that_stay
from compute.joint.tail_cuts import Cut, solve_within
from compute.limits.policy import LimitKind
from compute.market import Floats, Integers, MissingInputError
from compute.optimize import solve
from compute.optimize.diversification import (
    as_sharpe,
    has_least_gross,
    of_largest_gross,
    with_gross,
)
from compute.optimize.exact_points import at_vertex
from compute.optimize.execution import JUST_IN_TIME, Execution, JointShapes
from compute.optimize.explanation import UNEXPLAINED, priced, recognised
from compute.optimize.limits import of_asset
from compute.optimize.presolve import open_sides
from compute.optimize.problem import (
    Costs,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Solution,
    Status,
)
from compute.optimize.proof.certificate import Certificate, certify
from compute.optimize.sensitivity.shadow_prices import ShadowPrice
from compute.waterfall.trading_costs import trading_costs

_ON_SCENARIOS = frozenset(kind for kind in ObjectiveKind if kind.needs == "scenarios")


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


@dataclass(frozen=True)
class JointProblem:
    """What is to be solved.

    lines: (k,), what its first variables stand for; box: their bounds. everything: (v,), the
    instrument of every variable. notes: what to know about it in words. unmeasured: limits that are
    to be kept by cuts.
    """

    problem: Problem
    lines: Integers
    everything: Integers
    box: Box
    notes: tuple[str, ...]
    unmeasured: frozenset[LimitKind]


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
    data = inputs, scenarios, covariance, edges, shapes
    solver = partial(solve, execution=execution)
    tails = partial(kept_by_cuts, inputs)
    attempt = _attempt(inputs, joint_problem(*data), solver)
    if attempt.found.solution.status is Status.INFEASIBLE:
        stay = lines_that_stay(inputs, attempt.stated, attempt.made.box)
        if stay is not None:
            again = _attempt(inputs, joint_problem(*data, stay), solver)
            if again.found.solution.status is Status.OPTIMAL:
                attempt = again.noted(_staying(inputs, attempt.made, stay))
    made, found, stated = attempt.made, attempt.found, attempt.stated
    lines, everything, notes = made.lines, made.everything, attempt.notes
    owner = np.arange(len(everything))
    if found.solution.status is Status.OPTIMAL and (
        exact := _exact_margin(inputs, stated, lines, found.solution.weights)
    ):
        owner = exact.owner
        bounded = tails(everything[owner], made.unmeasured)
        found = solve_within(exact.problem, bounded, solver)
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


@dataclass(frozen=True)
class _Attempt:
    """A problem as it was solved; reached, notes: as in `JointAnswer`."""

    made: JointProblem
    stated: Problem
    found: Cut
    reached: Mapping[str, float]
    notes: tuple[str, ...]

    def noted(self, note: str) -> "_Attempt":
        return replace(self, notes=(*self.notes, note))


def _attempt(inputs: Inputs, made: JointProblem, solver: Callable[[Problem], Solution]) -> _Attempt:
    """The problem, or where one decision can't reach its rows, that with them as near as it can."""
    stated, notes = made.problem, made.notes
    tails = kept_by_cuts(inputs, made.everything, made.unmeasured)
    found = solve_within(stated, tails, solver)
    if found.solution.status is Status.INFEASIBLE and has_least_gross(stated):
        stated = of_largest_gross(stated, solver)
        found = solve_within(stated, tails, solver)
    if found.solution.status is Status.INFEASIBLE:
        nearest = nearest_rows(inputs, stated, made.box)
        if nearest is not None:
            near = solve_within(nearest.problem, tails, solver)
            if near.solution.status is Status.OPTIMAL:
                notes = (*notes, nearest.note)
                return _Attempt(made, nearest.problem, near, nearest.bounds, notes)
    return _Attempt(made, stated, found, {}, notes)


def _staying(inputs: Inputs, made: JointProblem, stay: Floats) -> str:
    """Which lines stay, in words."""
    ids = inputs.limit_bounds.market.instrument_ids
    told = ", ".join(
        f"{ids[inputs.index[made.lines[place]]]} at {stay[place]:.6g}"
        for place in np.flatnonzero(~np.isnan(stay))
    )
    return f"limits on sums leave no way for positions that are to be smaller; they stay: {told}"


def _exact_margin(
    inputs: Inputs, problem: Problem, lines: Integers, weights: Floats
) -> Divided | None:
    """The problem with its margin row exact, where the relaxed optimum needs more than is free."""
    limits, k = problem.limits, len(lines)
    if limits.rows is None or MARGIN_ROW not in limits.rows.names:
        return None
    assert limits.lower is not None, "every line has bounds"
    assert limits.upper is not None, "every line has bounds"
    needs = line_needs(inputs, lines, limits.lower[:k], limits.upper[:k])
    if needs.of(weights[:k]) <= needs.free + 1e-9:
        return None
    return divided(problem, needs, MARGIN_ROW)


def joint_problem(
    inputs: Inputs,
    scenarios: BookMatrix | None,
    covariance: BookMatrix | None,
    edges: Floats | None = None,
    shapes: JointShapes | None = None,
    stay: Floats | None = None,
) -> JointProblem:
    """The problem over the active lines and, fixed, everything else that is held.

    shapes: of the programs that solve it; None: any. stay: weights of lines that are fixed, NaN of
    others (`lines_that_stay`).
    """
    lines = np.flatnonzero(inputs.active)
    inside = inputs.index[lines]
    outside = np.setdiff1d(np.flatnonzero(inputs.limit_bounds.before), inside)
    everything = np.concatenate([inside, outside])
    before = inputs.limit_bounds.before[everything]
    box = line_box(inputs, lines)
    box = unforced(inputs, lines, everything, partial(_stated, inputs, lines, everything, box), box)
    box = box if stay is None else held_where(box, stay)
    needs: LineNeeds | None = line_needs(inputs, lines, box.lower.weight, box.upper.weight)
    if needs is not None and not needs.are_payable:
        # Nothing is free to grow with; what is forced, and fees, always may go.
        free = max(inputs.limit_bounds.free, 0.0) * inputs.limit_bounds.scale
        box, needs = only_reducing(needs.before, free, box), None
    fixed = inputs.limit_bounds.before[outside]
    side = sides(inputs, lines, everything, box)
    financing = _financing(inputs, side)
    costs = _costs(inputs, lines, len(everything))
    scenarios_max = 1 << COMBINED_MAX if shapes is None else shapes.quick_scenarios(len(everything))
    found = returns_of(
        inputs, lines, everything, financing, (scenarios, covariance), edges, scenarios_max
    )
    problem = Problem(
        _objective(inputs, exact=found.scenarios is not None),
        scenarios=found.scenarios,
        scenario_probability=found.probability,
        mean=found.mean,
        covariance=found.covariance,
    )
    limits = book_limits(inputs, lines, everything, side, needs, found.unmeasured)
    limits, box = within_reach(inputs, limits, box, before)
    refuse_unmeasured(limits, has_scenarios=problem.scenarios is not None)
    problem = replace(
        problem,
        limits=replace(
            limits,
            lower=np.concatenate([box.lower.weight, fixed]),
            upper=np.concatenate([box.upper.weight, fixed]),
        ),
        costs=costs,
        holdings=before,
        cash_return=inputs.parameters.risk_free_rate,
        financing=financing,
        views=found.views,
    )
    named = inputs.parameters.joint_objective
    if named is not None and named.kind is ObjectiveKind.MAX_DIVERSIFICATION:
        held = float(np.abs(fixed).sum())
        problem = with_gross(as_sharpe(problem, side), side, max(named.gross_weight or 1.0, held))
    return JointProblem(problem, lines, everything, box, found.notes, found.unmeasured)


def _stated(inputs: Inputs, lines: Integers, everything: Integers, box: Box) -> Limits:
    """The limits of the book with the sides that the box leaves."""
    side = sides(inputs, lines, everything, box)
    return book_limits(inputs, lines, everything, side, None, frozenset())


def _costs(inputs: Inputs, lines: Integers, size: int) -> Costs:
    """Of what is traded, a period; what isn't in the batch is not traded."""
    found = trading_costs(inputs)
    linear, impact = np.zeros(size), np.zeros(size)
    linear[: len(lines)], impact[: len(lines)] = found.per_period[lines], found.impact[lines]
    return Costs(linear=linear if linear.any() else None, impact=impact if impact.any() else None)


def _objective(inputs: Inputs, *, exact: bool) -> Objective:
    """The one that the parameters name, or growth at the Kelly fraction."""
    named, c = inputs.parameters.joint_objective, inputs.parameters.fraction
    if named is None or named.kind is ObjectiveKind.LOG_GROWTH:
        if not exact:
            return Objective(ObjectiveKind.MEAN_VARIANCE, risk_aversion=1.0 / c)
        if c < 1.0:
            return Objective(ObjectiveKind.CRRA, risk_aversion=1.0 / c)
        return Objective(ObjectiveKind.LOG_GROWTH)
    parts = {term.kind for _, term in named.terms} or {named.kind}
    if not exact and parts & _ON_SCENARIOS:
        raise MissingInputError(
            "MISSING_MATRIX", "the joint objective is one over scenarios: give scenario_matrix_id"
        )
    return named


def _financing(inputs: Inputs, side: Floats) -> Floats:
    """The risk-free rate of what can only be long, its negative of what can only be short, (v,).

    A position of either side has to beat the rate: the proceeds of a short sale earn nothing.
    """
    rate = inputs.parameters.risk_free_rate
    out: Floats = np.where(side < 0.0, -rate, rate)
    return out
