"""A batch as one convex problem over its lines and, fixed, everything else that is held.

The limits become rows of the problem: a line may only be held on the side of its signal, so
absolute weights are linear. What the problem can't state is for cuts (`joint/tail_cuts.py`).
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from compute.inputs import Inputs
from compute.joint.box import Box, line_box
from compute.joint.data import returns_of
from compute.joint.limits import book_limits, refuse_unmeasured, sides, unstated
from compute.joint.margin import LineNeeds, line_needs, only_reducing
from compute.joint.outcomes import COMBINED_MAX
from compute.joint.reach import unforced, within_reach
from compute.joint.returns import BookMatrix
from compute.joint.stay import held_where
from compute.limits.policy import LimitKind
from compute.market import Floats, Integers, MissingInputError
from compute.optimize.diversification import as_sharpe, with_gross
from compute.optimize.execution import JointShapes
from compute.optimize.problem import Costs, Limits, Objective, ObjectiveKind, Problem
from compute.waterfall.trading_costs import trading_costs

_ON_SCENARIOS = frozenset(kind for kind in ObjectiveKind if kind.needs == "scenarios")


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


def joint_problem(
    inputs: Inputs,
    scenarios: BookMatrix | None,
    covariance: BookMatrix | None,
    edges: Floats | None = None,
    shapes: JointShapes | None = None,
    stay: Floats | None = None,
    *,
    only_reduces: bool = False,
) -> JointProblem:
    """The problem over the active lines and, fixed, everything else that is held.

    shapes: of the programs that solve it; None: any. stay: weights of lines that are fixed, NaN of
    others (`lines_that_stay`). only_reduces: no line grows, whatever capital sales would free.
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
    if needs is not None and (only_reduces or not needs.are_payable):
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
    unmeasured = found.unmeasured | unstated(inputs)
    limits = book_limits(inputs, lines, everything, side, needs, unmeasured)
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
    return JointProblem(problem, lines, everything, box, found.notes, unmeasured)


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
