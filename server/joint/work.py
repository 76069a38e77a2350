"""What joint work is: problems solved and proven, frontiers, explanations; see `runner.py`.

Each takes what it needs as plain arguments and how it is to run, and returns a message
of the contract.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from positionsizing.v1 import optimization_service_pb2 as pb

from compute.optimize import solve, solve_batch
from compute.optimize.execution import Execution
from compute.optimize.explanation import UNEXPLAINED, conflict, priced
from compute.optimize.frontier import trace
from compute.optimize.infeasibility.conflict import explain
from compute.optimize.lots.outer_approximation import Effort
from compute.optimize.lots.whole_lots import round_to_lots
from compute.optimize.presolve import open_sides, without_redundant
from compute.optimize.problem import Problem, Status
from compute.optimize.proof.certificate import certify
from server.convert import optimization
from server.convert.columns import set_floats
from server.errors import invalid, precondition

T = TypeVar("T")

EFFORT = Effort(rounds_max=10, nodes_max=2000, time_limit_s=1.0)
"""Of the search for whole lots of one call; what is left open then is `LotSolution.gap`."""


def frontier(
    problem: Problem, ids: list[str], count: int, *, execution: Execution
) -> pb.TraceFrontierResponse:
    """Points of the efficient frontier. Raises `Refusal`."""
    solver = partial(solve_batch, execution=execution)
    try:
        found = _of_well_formed(lambda: trace(problem, count, solver, execution.time_limit))
    except ArithmeticError as error:
        text = str(error)
        if text == Status.INFEASIBLE.value:
            text += " ExplainInfeasibility names those that conflict."
        raise precondition("NO_FRONTIER", text) from error
    response = pb.TraceFrontierResponse(instrument_ids=ids)
    rows = zip(found.mean, found.risk, found.weights, strict=True)
    for mean, risk, weights in rows:
        point = response.points.add(expected_return=mean, risk=risk)
        set_floats(point, "weights", weights)
    return response


def explained(
    problem: Problem, ids: list[str], *, execution: Execution
) -> pb.ExplainInfeasibilityResponse:
    """The smallest conflict among the limits and the cheapest way out. Raises `Refusal`."""
    why = _of_well_formed(lambda: explain(without_redundant(problem), execution.time_limit))
    response = pb.ExplainInfeasibilityResponse(feasible=not why.conflict)
    if why.conflict:
        optimization.infeasibility(response.explanation, why, ids)
    return response


def _of_well_formed(work: Callable[[], T]) -> T:
    """What `work` makes of a problem; where that lacks something, `Refusal` with its field."""
    try:
        return work()
    except ValueError as error:
        name, _, rest = str(error).partition(": ")
        if rest and name in pb.OptimizationProblem.DESCRIPTOR.fields_by_name:
            raise invalid(f"problem.{name}", "NOT_WELL_FORMED", rest) from error
        raise invalid("problem", "NOT_WELL_FORMED", str(error)) from error


def optimized(
    problem: Problem,
    ids: list[str],
    request: pb.OptimizePortfolioRequest,
    *,
    execution: Execution,
) -> pb.OptimizePortfolioResponse:
    """One problem solved and proven. Raises `Refusal`."""
    time_limit = execution.time_limit
    solution = _of_well_formed(lambda: solve(problem, execution=execution))
    response = pb.OptimizePortfolioResponse(
        status=optimization.STATUSES[solution.status], instrument_ids=ids
    )
    if solution.status is Status.INFEASIBLE:
        if (why := conflict(problem, time_limit)) is None:
            response.certificate.note = UNEXPLAINED
        else:
            optimization.infeasibility(response.explanation, why, ids)
    if solution.status is Status.UNBOUNDED:
        response.unbounded.extend(optimization.named(name, ids) for name in open_sides(problem))
    if solution.status is not Status.OPTIMAL:
        return response
    proof = certify(problem, solution, thorough=False, time_limit=time_limit)
    if not proof.is_optimal:
        proof = certify(problem, solution, time_limit=time_limit)
    prices, note = priced(problem, solution.weights, proof, time_limit)
    if not proof.is_optimal:
        response.status = pb.OPTIMIZATION_STATUS_UNPROVEN
    set_floats(response, "weights", solution.weights)
    optimization.certificate(response.certificate, proof, prices, problem, ids)
    response.certificate.note = note
    response.certificate.iterations = solution.iterations
    for number, asked in enumerate(request.sensitivities):
        time_limit.check()
        try:
            sides = optimization.sensitivity(problem, solution, asked, ids, execution)
        except ValueError as error:
            path = f"sensitivities[{number}]"
            raise invalid(path, "NOT_APPLICABLE", str(error)) from error
        message = response.sensitivities.add(parameter=asked)
        set_floats(message, "falling", sides.left)
        set_floats(message, "rising", sides.right)
    if request.HasField("lots"):
        rules = optimization.lot_rules(request.lots)
        found = round_to_lots(
            problem, solution.weights, rules, effort=EFFORT, time_limit=time_limit
        )
        optimization.lot_solution(response.lots, found)
    return response
