"""What joint work is: problems solved and proven, frontiers, explanations; see `runner.py`.

Each takes what it needs as plain arguments and how it is to run, and returns a message
of the contract.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from positionsizing.v1 import optimization_service_pb2 as pb

from compute.joint.tail_cuts import Bounded, Cut, bounded_tails, is_cut, normal_cap, solve_within
from compute.limits.policy import LimitKind, TailLimit
from compute.market import MissingInputError
from compute.optimize import solve, solve_batch
from compute.optimize.diversification import as_sharpe
from compute.optimize.execution import Execution
from compute.optimize.explanation import UNEXPLAINED, named, priced, recognised
from compute.optimize.frontier import trace
from compute.optimize.infeasibility.conflict import explain
from compute.optimize.lots.outer_approximation import Effort
from compute.optimize.lots.whole_lots import round_to_lots
from compute.optimize.presolve import open_sides, without_redundant
from compute.optimize.problem import Problem, Status
from compute.optimize.proof.certificate import certify
from server.calls.errors import invalid, precondition
from server.convert import limits as limits_convert
from server.convert import optimization
from server.convert.columns import set_floats

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


def _kind(name: str, problem: Problem, found: Cut, stress: Sequence[str]) -> int:
    """The kind of a limit that has a price."""
    row = name.removesuffix(" max")
    if row in stress:
        return int(LimitKind.STRESS_LOSS_MAX)
    cut = found.limits.get(row)
    return optimization.limit_kind(name, problem) if cut is None else int(cut.kind)


def _measured(problem: Problem, tails: Sequence[TailLimit]) -> list[Bounded]:
    """The tails that are kept by cuts. Raises `Refusal` where the scenarios don't support one."""
    try:
        return bounded_tails(problem, tails)
    except MissingInputError as error:
        raise precondition(error.reason, str(error)) from error


def _refuse_lots(request: pb.OptimizePortfolioRequest) -> None:
    if request.HasField("lots"):
        text = "whole lots are searched for beside limits that are convex: leave out limits.tails"
        raise invalid("lots", "NOT_APPLICABLE", text)


def optimized(
    problem: Problem,
    ids: list[str],
    request: pb.OptimizePortfolioRequest,
    stress: Sequence[str] = (),
    *,
    execution: Execution,
) -> pb.OptimizePortfolioResponse:
    """One problem solved and proven. Raises `Refusal`.

    stress: names of its rows that are limits on stress scenarios.
    """
    time_limit = execution.time_limit
    problem = _of_well_formed(lambda: as_sharpe(problem))
    tails = limits_convert.tails(request.problem.limits)
    if any(is_cut(tail) for tail in tails):
        _refuse_lots(request)
    bounded = _measured(problem, tails)
    solver = partial(solve, execution=execution)
    found = _of_well_formed(lambda: solve_within(problem, bounded, solver))
    problem, solution = found.problem, found.solution
    if not found.is_within:
        solution = replace(solution, status=Status.NOT_CONVERGED)
    solution, why = recognised(problem, solution, execution)
    response = pb.OptimizePortfolioResponse(
        status=optimization.STATUSES[solution.status], instrument_ids=ids
    )
    if solution.status is Status.INFEASIBLE:
        if why is None:
            response.certificate.note = UNEXPLAINED
        else:
            optimization.infeasibility(response.explanation, why, ids)
    if solution.status is Status.UNBOUNDED:
        response.unbounded.extend(named(name, ids) for name in open_sides(problem))
    if solution.status is not Status.OPTIMAL:
        return response
    proof = certify(problem, solution, thorough=False, time_limit=time_limit)
    if not proof.is_optimal:
        proof = certify(problem, solution, time_limit=time_limit)
    prices, note = priced(problem, solution.weights, proof, time_limit)
    if not proof.is_optimal:
        response.status = pb.OPTIMIZATION_STATUS_UNPROVEN
    set_floats(response, "weights", solution.weights)
    kinds = {name: _kind(name, problem, found, stress) for name in prices}
    optimization.certificate(response.certificate, proof, prices, problem, ids, kinds)
    normal = normal_cap(None, tails)[1]
    told = "" if normal is None else f"{normal.name} is a bound on the volatility"
    response.certificate.note = "; ".join(filter(None, (note, told, *found.notes)))
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
        whole = round_to_lots(
            problem, solution.weights, rules, effort=EFFORT, time_limit=time_limit
        )
        optimization.lot_solution(response.lots, whole)
    return response
