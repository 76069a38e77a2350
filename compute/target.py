"""The weights that a method aims at, before limits and lots; or why there are none.

Stakes aim at nothing: the stages size each line. Methods of engine TARGET are a function of the
inputs. The joint method solves one problem over the book, by whoever runs joint work (`Runner`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from compute.algorithm import with_sizes
from compute.inputs import Inputs
from compute.joint.box import line_box
from compute.joint.data import has_bets
from compute.joint.lot_choice import searched, with_found_lots
from compute.joint.nearest import with_reached
from compute.joint.returns import BookMatrix
from compute.joint.risk_budget import solve_risk_budget
from compute.joint.sizing import JointAnswer, solve_joint
from compute.limits.contradiction import InfeasibleLimitsError, contradiction
from compute.limits.one_decision import (
    with_limits_where_it_is,
    without_limits_of_one_decision,
)
from compute.limits.places import without_place
from compute.limits.remaining import is_beyond
from compute.market import Floats, MissingInputError
from compute.methods import Method
from compute.optimize.execution import Runner
from compute.optimize.problem import ObjectiveKind, Status
from compute.optimize.time_limit import TimeLimit
from compute.parameters import EffectiveParameters
from compute.shapes import KernelRegistry
from compute.waterfall.kernel_inputs import line_columns
from compute.waterfall.pipeline import Attempt
from compute.waterfall.robust import robust_column

FRACTION_MIN = 1e-6
"""Of Kelly; below, a risk aversion of 1 / fraction is beyond what is solved."""

NO_STAKES = (
    "the rules leave less than a millionth of full Kelly: nothing is optimised, positions are "
    "closed as far as limits let"
)

PLACES = (
    "the optimum is that of the lines that got one of {most} places: those with a position first, "
    "then new ones, by their expected growth in the optimum of all lines"
)


@dataclass(frozen=True)
class Target:
    """Inputs with the weights to aim at, where the method has any.

    answer: of the joint method. tried: what was tried before, empty where the first way answered.
    around: the optimum of all lines that whole lots were searched around, if they were; lots: the
    inputs with those as their target, None where none were found.
    """

    inputs: Inputs
    answer: JointAnswer | None = None
    tried: tuple[Attempt, ...] = ()
    notes: tuple[str, ...] = ()
    around: JointAnswer | None = None
    lots: Inputs | None = None
    method: Method | None = None
    """What answered, where that is not the method of the inputs."""


def target_of(
    inputs: Inputs, kernels: KernelRegistry, runner: Runner, time_limit: TimeLimit
) -> Target:
    """Finds what the method of `inputs` aims at.

    Raises `InfeasibleLimitsError` where the limits contradict each other, `MissingInputError`, and
    what `runner` raises.
    """
    method = inputs.method
    if not method.is_computed:
        return Target(inputs, method=None if inputs.target is not None else Method.CLOSED_FORM)
    if inputs.limit_bounds.is_closing:
        return _closed_form("there is no equity to grow; positions are reduced", inputs)
    if method.target is not None:
        return Target(with_sizes(inputs, method.target(inputs)))
    if inputs.parameters.fraction < FRACTION_MIN:
        return _without_stakes(inputs)
    _ = inputs.book_guard  # raises where a limit of the book lacks its data
    place = inputs.limit_bounds.market.index
    scenarios, covariance = (
        None
        if matrix is None
        else BookMatrix(matrix.values, matrix.probability, matrix.columns(place))
        for matrix in (inputs.returns.scenarios, inputs.returns.covariance)
    )
    objective = inputs.parameters.joint_objective
    if objective is not None and objective.kind is ObjectiveKind.RISK_BUDGET:
        return _risk_budget(runner, inputs, scenarios, covariance, time_limit)
    if inputs.parameters.robust is not None:
        columns = line_columns(inputs, kernels)
        inputs = replace(inputs, robust=robust_column(columns, inputs, kernels, costs_count=False))
    edges = line_columns(inputs, kernels) if has_bets(inputs) else None

    def solve(inputs: Inputs) -> JointAnswer:
        data = scenarios, covariance, edges
        return runner.run(solve_joint, inputs, *data, time_limit=time_limit)

    answer = solve(inputs)
    if answer.status is Status.INFEASIBLE and (is_beyond(inputs) or _is_outside(inputs)):
        refuse_contradiction(inputs)
        return _nearest(inputs, solve)
    _refuse_unsolvable(answer)
    if answer.weights is None:
        return _closed_form(answer.status.value, inputs)
    inputs = searched(runner, with_reached(inputs, answer.reached), answer, time_limit)
    around = answer if inputs.lot_search is not None else None
    found = _within_places(inputs, answer, kernels, edges, solve)
    return replace(found, around=around, lots=with_found_lots(inputs, answer))


def _refuse_unsolvable(answer: JointAnswer) -> None:
    """Raises what a caller can mend: limits that conflict, an objective that nothing bounds."""
    if answer.conflict is not None:
        members = ", ".join(answer.conflict.members)
        way_out = ", ".join(f"{name} by {by:.6g}" for name, by in answer.conflict.relaxation)
        raise InfeasibleLimitsError(
            f"no sizes satisfy these limits together: {members}. Cheapest way out: {way_out}",
            members,
        )
    if answer.status is Status.INFEASIBLE:
        text = f"no sizes satisfy the limits together; {answer.note}"
        raise InfeasibleLimitsError(text)
    if answer.unbounded:
        raise MissingInputError(
            "UNBOUNDED",
            f"the objective grows without end in {', '.join(answer.unbounded[:5])}: weight_max, "
            "notional_max, leverage_max, a net or group limit, or a short_margin_rate above 0 "
            "would bound it",
        )


def _within_places(
    inputs: Inputs,
    answer: JointAnswer,
    kernels: KernelRegistry,
    edges: Floats | None,
    solve: Callable[[Inputs], JointAnswer],
) -> Target:
    """The optimum as target; where that is of too many positions, the one of lines with a place."""
    assert answer.weights is not None, "it is solved"
    most, placeless = inputs.limit_bounds.limits.positions_max, None
    if most is not None:
        own = line_columns(inputs, kernels) if edges is None else edges
        placeless = without_place(inputs, own, answer.weights)
    if placeless is None:
        return _of_answer(inputs, answer)
    fewer = replace(inputs, placeless=placeless)
    again = solve(fewer)
    if again.weights is None:
        return _without_optimum(inputs, answer.weights)
    again = replace(again, notes=(*again.notes, PLACES.format(most=most)))
    return _of_answer(with_reached(fewer, again.reached), again)


def _of_answer(inputs: Inputs, answer: JointAnswer) -> Target:
    """The optimum as target."""
    assert answer.weights is not None, "seen by the caller"
    assert answer.cuts is not None, "weights come with what cut them"
    inputs = replace(
        inputs,
        target=_multiplied(answer.weights, inputs.parameters),
        target_binding=answer.cuts.binding,
        target_marginal=answer.cuts.marginal,
    )
    return Target(inputs, answer)


def _risk_budget(
    runner: Runner,
    inputs: Inputs,
    scenarios: BookMatrix | None,
    covariance: BookMatrix | None,
    time_limit: TimeLimit,
) -> Target:
    """The book of the risk budgets as target: limits, cash and lots follow."""
    found = runner.run(solve_risk_budget, inputs, scenarios, covariance, time_limit=time_limit)
    if found.weights is None:
        return _closed_form(found.status.value, inputs)
    target = _multiplied(found.weights, inputs.parameters)
    inputs = replace(inputs, target=target, target_binding=found.binding)
    return Target(inputs, notes=found.notes)


def _without_optimum(inputs: Inputs, wanted: Floats) -> Target:
    """The lines that got a place have no optimum of their own: the limits cut that of all."""
    target = _multiplied(wanted, inputs.parameters)
    tried = (
        Attempt("joint", "no optimum of as few positions"),
        Attempt("joint optimum of all lines, cut", "answered"),
    )
    return Target(replace(inputs, target=target), None, tried)


def _without_stakes(inputs: Inputs) -> Target:
    """Where the rules leave nothing of the Kelly fraction there is nothing to optimise."""
    return Target(replace(inputs, target=np.zeros(len(inputs.index))), notes=(NO_STAKES,))


def _is_outside(inputs: Inputs) -> bool:
    """Whether a line is held where it may not stay: against its signal, or beyond its own rules."""
    lines = np.flatnonzero(inputs.active)
    box, before = line_box(inputs, lines), inputs.limit_bounds.before[inputs.index[lines]]
    return bool(((before < box.lower.weight) | (before > box.upper.weight)).any())


def refuse_contradiction(inputs: Inputs) -> None:
    """Raises `InfeasibleLimitsError` where the limits alone contradict each other."""
    bounds = inputs.limit_bounds
    conflict = ", ".join(contradiction(bounds.market, bounds.limits, bounds.equity))
    if conflict:
        text = f"no book satisfies these limits together: {conflict}"
        raise InfeasibleLimitsError(text, conflict)


def _multiplied(weights: Floats, parameters: EffectiveParameters) -> Floats:
    """Weights of an objective that knows no Kelly fraction, with what the rules took off it."""
    named = parameters.joint_objective
    if named is None or named.kind is ObjectiveKind.LOG_GROWTH:
        return weights
    return parameters.fraction_multiplier * weights


def _nearest(inputs: Inputs, solve: Callable[[Inputs], JointAnswer]) -> Target:
    """A book beyond its limits that one decision can't bring inside: a step towards the optimum.

    The optimum is that without the limits of one decision; the stages that follow apply them. Where
    there is none either, as what can't be traded here is beyond, it is that with the broken limits
    held where they are, and without one the closed form comes nearest.
    """
    why = "limits out of reach of one decision"
    for changed, method in (
        (without_limits_of_one_decision, "step towards the joint optimum"),
        (with_limits_where_it_is, "joint, limits that are broken held as they are"),
    ):
        answer = solve(changed(inputs))
        if answer.weights is not None:
            target = _multiplied(answer.weights, inputs.parameters)
            tried = (Attempt("joint", why), Attempt(method, "answered"))
            return Target(replace(inputs, target=target), None, tried)
    return _closed_form(why, inputs)


def _closed_form(why: str, inputs: Inputs) -> Target:
    """No target: each line is sized by itself, and it is said why."""
    name = inputs.method.name.lower().replace("_", " ")
    tried = Attempt(name, why), Attempt("closed form", "answered")
    return Target(inputs, None, tried, method=Method.CLOSED_FORM)
