"""OptimizationService: joint problems by themselves, with their proofs."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from positionsizing.v1 import optimization_service_pb2 as pb

from compute.optimize import solve, solve_batch
from compute.optimize.cardinality import Effort
from compute.optimize.certificate import certify
from compute.optimize.frontier import is_risk, trace
from compute.optimize.infeasible import explain
from compute.optimize.lots import round_to_lots
from compute.optimize.problem import ObjectiveKind, Problem, Status
from compute.optimize.shadow import shadow_prices
from server.call import Call
from server.convert import joint
from server.convert.columns import set_floats
from server.convert.market import matrix
from server.decisions import Solver
from server.errors import invalid, invalid_fields, precondition
from server.jointly import with_programs

T = TypeVar("T")

POINTS_DEFAULT, POINTS_MAX = 20, 200
SENSITIVITIES_MAX = 100
LOTS_MAX = 200
EFFORT = Effort(rounds_max=10, nodes_max=2000, time_limit_s=1.0)
"""Of the search for whole lots of one call; what is left open then is `LotSolution.gap`."""


class OptimizationService:
    """See `protos/positionsizing/v1/optimization_service.proto`."""

    def __init__(self, solver: Solver) -> None:
        self._solver = solver

    async def optimize_portfolio(
        self, call: Call, request: pb.OptimizePortfolioRequest
    ) -> pb.OptimizePortfolioResponse:
        """Solves one problem and proves the answer."""
        problem = await self._problem(call, request.problem)
        ids = list(request.problem.instrument_ids)
        if len(request.sensitivities) > SENSITIVITIES_MAX:
            text = f"has {len(request.sensitivities)} entries; at most {SENSITIVITIES_MAX}"
            raise invalid("sensitivities", "TOO_MANY", text)
        if request.HasField("lots"):
            if found := list(joint.lot_violations(request.lots, len(ids), "lots")):
                raise invalid_fields(found)
            if len(ids) > LOTS_MAX:
                text = f"whole lots are searched for up to {LOTS_MAX} instruments"
                raise invalid("lots", "TOO_MANY", text)
        return await self._run(call, lambda: _optimized(problem, ids, request), len(ids))

    async def trace_frontier(
        self, call: Call, request: pb.TraceFrontierRequest
    ) -> pb.TraceFrontierResponse:
        """Points of the efficient frontier."""
        count = request.point_count or POINTS_DEFAULT
        if not 2 <= count <= POINTS_MAX:
            text = f"is {count}; it must be from 2 to {POINTS_MAX}"
            raise invalid("point_count", "OUT_OF_RANGE", text)
        problem = await self._problem(call, request.problem)
        if not is_risk(problem.objective):
            text = (
                "must be a risk: MIN_VARIANCE, MIN_CVAR, MIN_CDAR or MIN_MAX_DRAWDOWN, or a "
                "COMBINATION of these alone"
            )
            raise invalid("problem.objective.kind", "NOT_APPLICABLE", text)
        ids = list(request.problem.instrument_ids)

        def work() -> pb.TraceFrontierResponse:
            try:
                frontier = _of_well_formed(lambda: trace(problem, count, solve_batch))
            except ArithmeticError as error:
                text = str(error)
                if text == Status.INFEASIBLE.value:
                    text += " ExplainInfeasibility names those that conflict."
                raise precondition("NO_FRONTIER", text) from error
            response = pb.TraceFrontierResponse(instrument_ids=ids)
            rows = zip(frontier.mean, frontier.risk, frontier.weights, strict=True)
            for mean, risk, weights in rows:
                point = response.points.add(expected_return=mean, risk=risk)
                set_floats(point, "weights", weights)
            return response

        return await self._run(call, work, len(ids))

    async def explain_infeasibility(
        self, call: Call, request: pb.ExplainInfeasibilityRequest
    ) -> pb.ExplainInfeasibilityResponse:
        """The smallest conflict among the limits and the cheapest way out."""
        problem = await self._problem(call, request.problem)
        ids = list(request.problem.instrument_ids)

        def work() -> pb.ExplainInfeasibilityResponse:
            why = _of_well_formed(lambda: explain(problem))
            response = pb.ExplainInfeasibilityResponse(feasible=not why.conflict)
            if why.conflict:
                joint.infeasibility(response.explanation, why, ids)
            return response

        return await self._run(call, work, len(ids))

    async def _run(self, call: Call, work: Callable[[], T], n_lines: int) -> T:
        run = partial(with_programs, self._solver.programs, work)
        return await self._solver.run(run, n_lines, call.left_s, is_joint=True)

    async def _problem(self, call: Call, message: pb.OptimizationProblem) -> Problem:
        if found := list(joint.violations(message, "problem")):
            raise invalid_fields(found)
        scenarios, covariance = await self._solver.matrices(call.tenant_id, message, "problem.")
        if message.HasField("scenarios"):
            scenarios = matrix(message.scenarios)
        if message.HasField("covariance"):
            covariance = matrix(message.covariance)
        try:
            return joint.problem(message, scenarios, covariance)
        except KeyError as error:
            text = f"{error.args[0]!r} is not in every matrix and limit that needs it"
            raise invalid("problem.instrument_ids", "UNKNOWN_INSTRUMENT", text) from error


def _of_well_formed(work: Callable[[], T]) -> T:
    """What `work` makes of a problem; where that lacks something, `Refusal` with its field."""
    try:
        return work()
    except ValueError as error:
        name, _, rest = str(error).partition(": ")
        if rest and name in pb.OptimizationProblem.DESCRIPTOR.fields_by_name:
            raise invalid(f"problem.{name}", "NOT_WELL_FORMED", rest) from error
        raise invalid("problem", "NOT_WELL_FORMED", str(error)) from error


def _optimized(
    problem: Problem, ids: list[str], request: pb.OptimizePortfolioRequest
) -> pb.OptimizePortfolioResponse:
    solution = _of_well_formed(lambda: solve(problem))
    response = pb.OptimizePortfolioResponse(
        status=joint.STATUSES[solution.status], instrument_ids=ids
    )
    if solution.status is Status.INFEASIBLE:
        joint.infeasibility(response.explanation, explain(problem), ids)
    if solution.status is not Status.OPTIMAL:
        return response
    proof = certify(problem, solution, thorough=False)
    if not proof.is_optimal:
        proof = certify(problem, solution)
    priced = proof.is_optimal and problem.objective.kind is not ObjectiveKind.RISK_BUDGET
    prices = shadow_prices(problem, solution.weights) if priced else {}
    if not proof.is_optimal:
        response.status = pb.OPTIMIZATION_STATUS_UNPROVEN
    set_floats(response, "weights", solution.weights)
    joint.certificate(response.certificate, proof, prices, problem, ids)
    response.certificate.iterations = solution.iterations
    for number, asked in enumerate(request.sensitivities):
        try:
            sides = joint.sensitivity(problem, solution, asked, ids)
        except ValueError as error:
            path = f"sensitivities[{number}]"
            raise invalid(path, "NOT_APPLICABLE", str(error)) from error
        message = response.sensitivities.add(parameter=asked)
        set_floats(message, "falling", sides.left)
        set_floats(message, "rising", sides.right)
    if request.HasField("lots"):
        rules = joint.lot_rules(request.lots)
        found = round_to_lots(problem, solution.weights, rules, effort=EFFORT)
        joint.lot_solution(response.lots, found)
    return response
