"""The joint method in a decision: the optimum as target of limits and lots, or why there is none.

Everything here runs in the thread of joint work, which hands the problem to a `JointRunner`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from positionsizing.v1 import sizing_pb2

from compute.algorithm import with_sizes
from compute.joint_data import BookMatrix, has_bets
from compute.joint_risk_budget import solve_risk_budget
from compute.joint_sizing import JointAnswer, solve_joint
from compute.limits.one_decision import without_limits_of_one_decision
from compute.limits.places import without_place
from compute.market import Floats
from compute.methods import Method
from compute.optimize.problem import ObjectiveKind, Status
from compute.optimize.time_limit import TimeLimit
from compute.parameters import EffectiveParameters
from compute.pipeline import line_columns
from compute.robust import robust_column
from compute.shapes import KernelRegistry
from server.convert import optimization as joint_convert
from server.convert.market import MatrixData
from server.errors import precondition
from server.joint.runner import JointRunner
from server.prepared_request import PreparedRequest
from server.remaining import is_beyond, refuse_contradiction

FRACTION_MIN = 1e-6
"""Of Kelly; below, a risk aversion of 1 / fraction is beyond what is solved."""

PLACES = (
    "the optimum is that of the lines that got one of {most} places: those with a position first, "
    "then new ones, by their expected growth in the optimum of all lines"
)


@dataclass(frozen=True)
class JointTarget:
    """A problem with the joint optimum as its target where that was asked for and found.

    chain: what was tried, empty where the first method answered.
    """

    problem: PreparedRequest
    answer: JointAnswer | None = None
    chain: list[sizing_pb2.FallbackStep] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def solve_target(
    runner: JointRunner, kernels: KernelRegistry, problem: PreparedRequest, time_limit: TimeLimit
) -> JointTarget:
    """Solves a problem that asks for an optimum, and leaves those that size stakes as they are.

    Raises `Refusal` where the limits contradict each other or the book is too large,
    `MissingInputError`.
    """
    if not problem.method.is_computed:
        return JointTarget(problem)
    if problem.inputs.limit_bounds.is_closing:
        why = "there is no equity to grow; positions are reduced"
        return JointTarget(problem, None, _closed_form(why, problem.method))
    if problem.method.target is not None:
        weights = problem.method.target(problem.inputs)
        return JointTarget(replace(problem, inputs=with_sizes(problem.inputs, weights)))
    if problem.inputs.parameters.fraction < FRACTION_MIN:
        return _without_stakes(problem)
    _ = problem.inputs.book_guard  # raises where a limit of the book lacks its data
    place = problem.inputs.limit_bounds.market.index
    scenarios, covariance = (
        None if matrix is None else _placed(matrix, place)
        for matrix in (problem.scenarios, problem.covariance)
    )
    named = problem.inputs.parameters.joint_objective
    if named is not None and named.kind is ObjectiveKind.RISK_BUDGET:
        return _risk_budget(runner, problem, scenarios, covariance, time_limit)
    inputs, edges = problem.inputs, None
    if inputs.parameters.robust is not None:
        columns = line_columns(inputs, kernels)
        inputs = replace(inputs, robust=robust_column(columns, inputs, kernels, costs_count=False))
        problem = replace(problem, inputs=inputs)
    if has_bets(inputs):
        edges = line_columns(inputs, kernels)
    answer = runner.run(solve_joint, inputs, scenarios, covariance, edges, time_limit=time_limit)
    if answer.status is Status.INFEASIBLE and is_beyond(problem):
        refuse_contradiction(problem)
        return _nearest(runner, problem, scenarios, covariance, edges, time_limit)
    if answer.explanation is not None:
        conflict = ", ".join(answer.explanation.conflict)
        relaxation = ", ".join(
            f"{joint_convert.named(name, answer.instrument_ids)} by {amount:.6g}"
            for name, amount in answer.explanation.relaxation.items()
        )
        raise precondition(
            "INFEASIBLE_LIMITS",
            f"no sizes satisfy these limits together: {conflict}. Cheapest way out: {relaxation}",
            conflict=conflict,
        )
    if answer.status is Status.INFEASIBLE:
        text = f"no sizes satisfy the limits together; {answer.note}"
        raise precondition("INFEASIBLE_LIMITS", text)
    if answer.unbounded:
        raise precondition(
            "UNBOUNDED",
            f"the objective grows without end in {', '.join(answer.unbounded[:5])}: weight_max, "
            "notional_max, leverage_max, a net or group limit, or a short_margin_rate above 0 "
            "would bound it",
        )
    if answer.weights is None:
        return JointTarget(problem, None, _closed_form(answer.status.value))
    if inputs.limit_bounds.limits.positions_max is not None:
        lines = line_columns(inputs, kernels) if edges is None else edges
        inputs = replace(inputs, placeless=without_place(inputs, lines, answer.weights))
    wanted = answer.weights
    if inputs.placeless is not None:
        answer = runner.run(
            solve_joint, inputs, scenarios, covariance, edges, time_limit=time_limit
        )
        if answer.weights is None:
            return _without_optimum(problem, wanted)
        note = PLACES.format(most=inputs.limit_bounds.limits.positions_max)
        answer = replace(answer, notes=(*answer.notes, note))
    assert answer.weights is not None, "seen above"
    assert answer.cuts is not None, "weights come with what cut them"
    inputs = replace(
        inputs,
        target=_multiplied(answer.weights, problem.inputs.parameters),
        target_binding=answer.cuts.binding,
        target_marginal=answer.cuts.marginal,
    )
    return JointTarget(replace(problem, inputs=inputs), answer)


def _risk_budget(
    runner: JointRunner,
    problem: PreparedRequest,
    scenarios: BookMatrix | None,
    covariance: BookMatrix | None,
    time_limit: TimeLimit,
) -> JointTarget:
    """The book of the risk budgets as target: limits, cash and lots follow."""
    inputs = problem.inputs
    found = runner.run(solve_risk_budget, inputs, scenarios, covariance, time_limit=time_limit)
    if found.weights is None:
        return JointTarget(problem, None, _closed_form(found.status.value))
    inputs = replace(inputs, target=_multiplied(found.weights, inputs.parameters))
    return JointTarget(replace(problem, inputs=inputs), notes=found.notes)


def _without_optimum(problem: PreparedRequest, wanted: Floats) -> JointTarget:
    """The lines that got a place have no optimum of their own: the limits cut that of all."""
    target = _multiplied(wanted, problem.inputs.parameters)
    steps = [
        sizing_pb2.FallbackStep(method="joint", outcome="no optimum of as few positions"),
        sizing_pb2.FallbackStep(method="joint optimum of all lines, cut", outcome="answered"),
    ]
    return JointTarget(replace(problem, inputs=replace(problem.inputs, target=target)), None, steps)


def _without_stakes(problem: PreparedRequest) -> JointTarget:
    """Where the rules leave nothing of the Kelly fraction there is nothing to optimise."""
    inputs = replace(problem.inputs, target=np.zeros(len(problem.inputs.index)))
    return JointTarget(replace(problem, inputs=inputs))


def _multiplied(weights: Floats, parameters: EffectiveParameters) -> Floats:
    """Weights of an objective that knows no Kelly fraction, with what the rules took off it."""
    named = parameters.joint_objective
    if named is None or named.kind is ObjectiveKind.LOG_GROWTH:
        return weights
    return parameters.fraction_multiplier * weights


def _nearest(
    runner: JointRunner,
    problem: PreparedRequest,
    scenarios: BookMatrix | None,
    covariance: BookMatrix | None,
    edges: Floats | None,
    time_limit: TimeLimit,
) -> JointTarget:
    """A book beyond its limits that one decision can't bring inside: a step towards the optimum.

    The optimum is that without the limits of one decision; the stages that follow apply them. Where
    there is none either, as what can't be traded here is beyond, the closed form comes nearest.
    """
    free = without_limits_of_one_decision(problem.inputs)
    answer = runner.run(solve_joint, free, scenarios, covariance, edges, time_limit=time_limit)
    method = "closed form" if answer.weights is None else "step towards the joint optimum"
    steps = [
        sizing_pb2.FallbackStep(method="joint", outcome="limits out of reach of one decision"),
        sizing_pb2.FallbackStep(method=method, outcome="answered"),
    ]
    if answer.weights is None:
        return JointTarget(problem, None, steps)
    target = _multiplied(answer.weights, problem.inputs.parameters)
    inputs = replace(problem.inputs, target=target)
    return JointTarget(replace(problem, inputs=inputs), None, steps)


def _closed_form(why: str, method: Method = Method.JOINT) -> list[sizing_pb2.FallbackStep]:
    name = method.name.lower().replace("_", " ")
    return [
        sizing_pb2.FallbackStep(method=name, outcome=why),
        sizing_pb2.FallbackStep(method="closed form", outcome="answered"),
    ]


def _placed(matrix: MatrixData, place: Mapping[str, int]) -> BookMatrix:
    """The matrix with the place of each instrument of the market in it."""
    columns = np.full(len(place), -1, dtype=np.int64)
    for column, name in enumerate(matrix.instrument_ids):
        if name in place:
            columns[place[name]] = column
    return BookMatrix(matrix.values, matrix.probability, columns)
