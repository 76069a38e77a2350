"""OptimizationService: joint problems by themselves, with their proofs."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from positionsizing.v1 import edge_service_pb2
from positionsizing.v1 import optimization_service_pb2 as pb

from compute.joint.tail_cuts import is_cut
from compute.kelly.growth_guarantee import Guarantee, guaranteed_growth
from compute.limits.book_guard import ReturnData
from compute.limits.policy import JointLimits, Limits, LinearLimit
from compute.limits.stress_limits import with_stress
from compute.optimize.frontier import is_risk
from compute.optimize.lots.outer_approximation import Effort
from compute.optimize.problem import ObjectiveKind, Problem
from compute.optimize.time_limit import OutOfTimeError, TimeLimit
from server.calls.errors import invalid, invalid_fields
from server.calls.reading import check_bytes
from server.calls.request_context import Call
from server.convert import limits as limits_convert
from server.convert import optimization
from server.convert.matrix import matrix
from server.convert.ranges import number_violations
from server.joint import work
from server.joint.expected import Expected, size_of
from server.risk.stress import unknown_scenarios
from server.sizing.engine import SizingEngine

T = TypeVar("T")

POINTS_DEFAULT = 20
_VARIANCE = ObjectiveKind.MIN_VARIANCE
SENSITIVITIES_MAX = 100
LOTS_MAX = 200
EFFORT = Effort(rounds_max=10, nodes_max=2000, time_limit_s=1.0)
"""Of the search for whole lots of one call; what is left open then is `LotSolution.gap`."""


class OptimizationService:
    """See `protos/positionsizing/v1/optimization_service.proto`."""

    def __init__(self, engine: SizingEngine) -> None:
        self._engine = engine
        self._expected = Expected()

    async def optimize_portfolio(
        self, call: Call, request: pb.OptimizePortfolioRequest
    ) -> pb.OptimizePortfolioResponse:
        """Solves one problem and proves the answer."""
        problem, stress = await self._problem(call, request.problem)
        ids = list(request.problem.instrument_ids)
        if len(request.sensitivities) > SENSITIVITIES_MAX:
            text = f"has {len(request.sensitivities)} entries; at most {SENSITIVITIES_MAX}"
            raise invalid("sensitivities", "TOO_MANY", text)
        if request.HasField("lots"):
            if found := list(optimization.lot_violations(request.lots, len(ids), "lots")):
                raise invalid_fields(found)
            if len(ids) > LOTS_MAX:
                text = f"whole lots are searched for up to {LOTS_MAX} instruments"
                raise invalid("lots", "TOO_MANY", text)
        sensitivities = 2 * len(request.sensitivities)
        check_bytes(_bytes(ids, 1 + sensitivities), call.bytes_max, is_estimate=True)
        return await self._run(call, work.optimized, problem, ids, request, stress)

    async def trace_frontier(
        self, call: Call, request: pb.TraceFrontierRequest
    ) -> pb.TraceFrontierResponse:
        """Points of the efficient frontier."""
        count = request.point_count or POINTS_DEFAULT
        if found := list(number_violations(request)):
            raise invalid_fields(found)
        problem, _ = await self._problem(call, request.problem)
        _refuse_tails(request.problem)
        if not is_risk(problem.objective):
            text = (
                "must be a risk: MIN_VARIANCE, MIN_CVAR, MIN_CDAR or MIN_MAX_DRAWDOWN, or a "
                "COMBINATION of these alone"
            )
            raise invalid("problem.objective.kind", "NOT_APPLICABLE", text)
        ids = list(request.problem.instrument_ids)
        check_bytes(_bytes(ids, count), call.bytes_max, is_estimate=True)
        if request.HasField("guarantee") and problem.objective.kind is not _VARIANCE:
            text = "is told of mean and deviation: with MIN_VARIANCE only"
            raise invalid("guarantee", "NOT_APPLICABLE", text)
        response = await self._run(call, work.frontier, problem, ids, count, units=count)
        if request.HasField("guarantee"):
            _guarantee(response, request.guarantee)
        return response

    async def explain_infeasibility(
        self, call: Call, request: pb.ExplainInfeasibilityRequest
    ) -> pb.ExplainInfeasibilityResponse:
        """The smallest conflict among the limits and the cheapest way out."""
        problem, _ = await self._problem(call, request.problem)
        _refuse_tails(request.problem)
        ids = list(request.problem.instrument_ids)
        return await self._run(call, work.explained, problem, ids)

    async def _run(
        self,
        call: Call,
        function: Callable[..., T],
        problem: Problem,
        *arguments: Any,
        units: int = 1,
    ) -> T:
        size = size_of(function, problem)
        self._expected.check(size, units, call.left_s, _words(problem, units))

        def run(time_limit: TimeLimit) -> T:
            began = time.monotonic()
            joint = self._engine.joint
            try:
                result = joint.run(function, problem, *arguments, time_limit=time_limit)
            except OutOfTimeError:
                self._expected.learn(size, units, time.monotonic() - began, finished=False)
                raise
            self._expected.learn(size, units, time.monotonic() - began, finished=True)
            return result

        return await self._engine.run(run, problem.size, call, is_joint=True)

    async def _problem(
        self, call: Call, message: pb.OptimizationProblem
    ) -> tuple[Problem, tuple[str, ...]]:
        """The problem, and the names of its rows that are limits on stress scenarios."""
        if found := list(optimization.violations(message, "problem")):
            raise invalid_fields(found)
        scenarios, covariance = await self._engine.gatherer.matrices(
            call.tenant_id,
            message.scenario_matrix_id,
            message.covariance_matrix_id,
            "problem.",
            may_scale=False,
        )
        if message.HasField("scenarios"):
            scenarios = matrix(message.scenarios)
        if message.HasField("covariance"):
            covariance = matrix(message.covariance)
        data = ReturnData(
            None if scenarios is None else scenarios.returns,
            None if covariance is None else covariance.returns,
        )
        stress = await self._stress(call, message, data)
        try:
            made = optimization.problem(message, scenarios, covariance, stress)
            return made, tuple(row.name for row in stress)
        except KeyError as error:
            text = f"{error.args[0]!r} is not in every matrix and limit that needs it"
            raise invalid("problem.instrument_ids", "UNKNOWN_INSTRUMENT", text) from error

    async def _stress(
        self, call: Call, message: pb.OptimizationProblem, data: ReturnData
    ) -> tuple[LinearLimit, ...]:
        """What the limits on stored stress scenarios say of the instruments, as linear limits."""
        wanted, ids = [item.scenario_id for item in message.limits.stress], message.instrument_ids
        events = await self._engine.gatherer.stress(call, wanted, ids)
        known = {event.scenario_id for event in events}
        if unknown := list(unknown_scenarios(message.limits, known, "problem.limits")):
            raise invalid_fields(unknown)
        joint = JointLimits(
            linear=limits_convert.linear(message.limits),
            stress=limits_convert.stress(message.limits),
        )
        told = with_stress(Limits(joint=joint), events, ids, data)
        return told.joint.linear[len(joint.linear) :]


def _guarantee(response: pb.TraceFrontierResponse, asked: edge_service_pb2.GrowthGuarantee) -> None:
    """Fills what growth each point keeps."""
    guarantee = Guarantee(asked.periods, asked.probability)
    for point in response.points:
        growth = float(guaranteed_growth(point.expected_return, point.risk, guarantee))
        if not np.isnan(growth):
            point.guaranteed_growth = growth


def _refuse_tails(problem: pb.OptimizationProblem) -> None:
    """Raises `Refusal` for tails that only one optimum at a time is held to; they are checked."""
    if any(is_cut(tail) for tail in limits_convert.tails(problem.limits)):
        text = "only NORMAL ones here; OptimizePortfolio and SizePositions know the others"
        raise invalid("problem.limits.tails", "NOT_APPLICABLE", text)


def _bytes(ids: list[str], columns: int) -> int:
    """What an answer takes at least: the names, and so many numbers for each of them."""
    return sum(len(name.encode()) + 2 for name in ids) + 8 * len(ids) * columns


def _words(problem: Problem, units: int) -> str:
    """The sizes of a problem, for a refusal."""
    periods = 0 if problem.scenarios is None else len(problem.scenarios)
    sizes = f"{problem.size} instruments and {periods} scenarios"
    return sizes if units == 1 else f"{units} points of {sizes}"
