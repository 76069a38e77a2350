"""From a checked request and a state to a decision: gather, solve, encode. Writes nothing.

The arithmetic is in `compute/decide.py` and runs in the compute thread; `desk.py` records what
comes out.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

import jax
import numpy as np
from positionsizing.v1 import (
    optimization_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)
from positionsizing.v1.market_service_pb2 import (
    MATRIX_KIND_CORRELATION,
    MATRIX_KIND_COVARIANCE,
    MATRIX_KIND_SCENARIOS,
)

from compute.book import equity_of
from compute.decide import LineStatus, Sizing, sensitivities, size_together
from compute.joint import JointAnswer
from compute.joint_value import is_worse_than_keeping, joint_objective
from compute.limits.shared import divided
from compute.optimize.time_limit import ENDLESS, TimeLimit
from compute.parameters import Method
from compute.shapes import KernelRegistry, Key, NotReadyError
from server import decision_risk, prediction, profile, volatility_answer
from server.adaptation import adapted, tell
from server.algorithms.registry import Algorithms
from server.batching import ComputeLoop, ComputeThread
from server.call import Call
from server.convert import algorithm as algorithm_convert
from server.convert import decision as decision_convert
from server.convert import joint as joint_convert
from server.convert import request as request_convert
from server.convert.market import MatrixData, kind_violations
from server.custom import answer_of, chain_of, check_known, is_asked, question_of, sized_by
from server.errors import Refusal, invalid_fields, precondition
from server.joint.runner import JointRunner
from server.jointly import Aimed, aimed
from server.method import is_joint_request, is_short, method_of, needs_default
from server.models import Models
from server.problem import Problem, Solved, assemble, check_ages, concerned, context_of
from server.remaining import limits_exceeded
from server.sharing import notional_after, notional_before, outside_use, with_shared
from server.state import PortfolioState, States
from server.stored_edges import StoredOutcomes, read_outcomes
from server.version import VERSION
from storage.postgres.pool import Database

T = TypeVar("T")

PROGRAMS_MAX = 16
"""A request calls at most so many programs."""

_COVARIANCES = ("COVARIANCE", "CORRELATION")

LIBRARIES = f"jax {jax.__version__}, numpy {np.__version__}"


@dataclass(frozen=True)
class Places:
    """Where work is computed: short work, joint work, so that nobody waits for it, and the rest."""

    loop: ComputeLoop
    thread: ComputeThread
    joint: ComputeThread


class Solver:
    """Gathers and solves; keeps nothing and writes nothing."""

    def __init__(
        self,
        states: States,
        kernels: KernelRegistry,
        joint: JointRunner,
        places: Places,
        lines_max: int,
        ready: Callable[[Key, float], Awaitable[None]],
        database: Database,
        models: Models,
        algorithms: Algorithms | None = None,
    ) -> None:
        """`joint` runs joint problems; `ready` waits for a program, so many seconds at most.

        algorithms: those of method CUSTOM; None: there are none.
        """
        self._algorithms = algorithms or Algorithms({})
        self.states = states
        self.joint = joint
        self._kernels = kernels
        self._places = places
        self._lines_max = lines_max
        self._ready = ready
        self._database = database
        self._models = models

    def check(self, request: sizing_service_pb2.SizePositionsRequest, path: str = "") -> None:
        """Raises `Refusal` where the request is wrong by itself."""
        found = list(request_convert.violations(request, self._lines_max, path))
        if found:
            raise invalid_fields(found)

    async def solve(
        self,
        tenant_id: str,
        request: sizing_service_pb2.SizePositionsRequest,
        state: PortfolioState,
        call: Call,
    ) -> Solved:
        """Sizes a checked request against a state. Raises `Refusal`."""
        model_id, estimates = state.parameters.volatility_model, None
        if model_id is not None:
            estimates = await self.states.volatilities.newest(tenant_id, model_id)
        with profile.span("gather: market snapshot and matrices"):
            snapshot = await self.states.snapshot(tenant_id, request.market_snapshot_id)
            scenarios, covariance = await self.matrices(tenant_id, request)
            default_id = ""
            if covariance is None and needs_default(request, state.parameters):
                universe = state.parameters.covariance_universe or ""
                default_id = await self.states.latest_matrix_id(tenant_id, universe, _COVARIANCES)
                covariance = await self.states.matrix(tenant_id, default_id)
            stored = await self.stored_outcomes(call, request.signals)
        models = await prediction.asked(
            self._models,
            tenant_id,
            request.signals,
            state.parameters,
            has_scenarios=scenarios is not None,
        )
        now = datetime.now(UTC)
        check_ages(state, snapshot.as_of_time.ToDatetime(tzinfo=UTC), (scenarios, covariance))

        def gathered() -> Problem:
            with profile.span("gather: arrays"):
                currency = state.portfolio.base_currency
                prices = self.states.market(tenant_id, snapshot, currency)
                context = context_of(state, snapshot.snapshot_id, prices)
                if default_id:
                    context = replace(context, covariance_matrix_id=default_id)
                if stored is not None:
                    context = replace(context, history_sequence=stored.sequence)
                equity = equity_of(prices, context.positions)
                context = adapted(context, request, now, equity, state)
                context = prediction.predicted(context, request.signals, models, now)
                if estimates is not None:
                    key = (tenant_id, snapshot.snapshot_id, currency)
                    prices = self.states.volatilities.market(*key, prices, estimates)
                    places = concerned(request, context, prices)
                    context = replace(context, volatility=estimates.recorded(prices, places))
                return assemble(
                    request, context, prices, scenarios, covariance, state.derived, stored
                )

        def work(time_limit: TimeLimit) -> Solved:
            return self.answer(gathered(), time_limit)

        n_lines = len(request.signals.instrument_ids)
        if method_of(request, state.parameters) is Method.CUSTOM:
            problem = await self.run(lambda _: gathered(), n_lines, call)
            problem = await self.with_algorithm(problem, call)
            return await self.run(lambda limit: self.answer(problem, limit), n_lines, call)
        if covariance is None and stored is None and is_short(request, state, snapshot):
            return await self._short(work, call)
        is_joint = is_joint_request(request, state.parameters)
        return await self.run(work, n_lines, call, is_joint=is_joint)

    async def stored_outcomes(
        self, call: Call, signals: sizing_pb2.SignalBatch, sequence: int | None = None
    ) -> StoredOutcomes | None:
        """The stored histories that lines name, see `stored_edges.read_outcomes`."""
        return await read_outcomes(self._database, call, signals, sequence)

    async def with_algorithm(self, problem: Problem, call: Call) -> Problem:
        """The problem with the sizes of its algorithm, where it is one for an algorithm.

        Raises `Refusal` where the server doesn't have it, or all or nothing is wanted.
        """
        if problem.method is Method.CUSTOM:
            check_known(problem, self._algorithms)
        if not is_asked(problem):
            return problem
        n_lines = len(problem.ids)
        question = await self.run(lambda _: question_of(problem, self._kernels), n_lines, call)
        answer = await answer_of(problem, question, self._algorithms, call.left_s)
        return sized_by(problem, answer)

    async def run(
        self, work: Callable[[TimeLimit], T], n_lines: int, call: Call, *, is_joint: bool = False
    ) -> T:
        """Runs `work` in its compute thread; where a program isn't there yet, when it is."""
        thread = self._places.joint if is_joint else self._places.thread
        if call.ticket is not None:
            call.ticket.takes_long()

        def attempt() -> Awaitable[T]:
            here = profile.handed_over(work, "compute thread")
            return thread.run(here, n_lines=n_lines, deadline_s=call.left_s, caller=call.caller)

        return await self._when_ready(attempt, call)

    async def _short(self, work: Callable[[TimeLimit], T], call: Call) -> T:
        """The same on the event loop."""

        def attempt() -> Awaitable[T]:
            loop, here = self._places.loop, profile.handed_over(work, "compute on the event loop")
            return loop.run(lambda: here(ENDLESS), deadline_s=call.left_s, caller=call.caller)

        return await self._when_ready(attempt, call)

    async def _when_ready(self, attempt: Callable[[], Awaitable[T]], call: Call) -> T:
        """What `attempt` gives; where a program isn't there yet, again when it is."""
        for _ in range(PROGRAMS_MAX):
            try:
                return await attempt()
            except NotReadyError as error:
                await self._ready(error.key, call.left_s)
        return await attempt()

    async def solve_together(
        self,
        tenant_id: str,
        requests: Sequence[sizing_service_pb2.SizePositionsRequest],
        states: Sequence[PortfolioState],
        call: Call,
    ) -> list[Solved]:
        """Sizes several portfolios; those that share limits divide them (`limits/shared.py`)."""
        alone: list[Solved] = []
        for position, (request, state) in enumerate(zip(requests, states, strict=True)):
            try:
                alone.append(await self.solve(tenant_id, request, state, call))
            except Refusal as refusal:
                raise refusal.within(f"requests[{position}].") from refusal
        groups: dict[tuple[str, str], list[int]] = {}
        for i, (state, solved) in enumerate(zip(states, alone, strict=True)):
            if solved.problem.context.shared is not None and state.portfolio.group_id:
                key = (state.portfolio.group_id, solved.problem.context.market_snapshot_id)
                groups.setdefault(key, []).append(i)
        for members in groups.values():
            if len(members) > 1:
                await self._divide(members, states, alone, call)
        return alone

    async def _divide(
        self,
        members: Sequence[int],
        states: Sequence[PortfolioState],
        solved: list[Solved],
        call: Call,
    ) -> None:
        """Solves the members of a group again, each within its part of what they share."""
        contexts = [solved[i].problem.context for i in members]
        if len({context.base_currency for context in contexts}) > 1:
            raise precondition(
                "MIXED_CURRENCIES", "portfolios that share limits need one base currency"
            )

        def work(time_limit: TimeLimit) -> list[Solved]:
            before = np.stack([notional_before(solved[i].problem) for i in members])
            wanted = np.stack([notional_after(solved[i]) for i in members])
            uses = [context.shared for context in contexts if context.shared is not None]
            outside = outside_use(
                states[members[0]], [states[i] for i in members], solved[members[0]]
            )
            parts = divided(uses, before, wanted, outside)
            return [
                self.answer(with_shared(solved[i].problem, part), time_limit)
                for i, part in zip(members, parts, strict=True)
            ]

        n_lines = sum(len(solved[i].problem.ids) for i in members)
        is_joint = any(solved[i].problem.method is Method.JOINT for i in members)
        again = await self.run(work, n_lines, call, is_joint=is_joint)
        for i, item in zip(members, again, strict=True):
            solved[i] = item

    def answer(self, problem: Problem, time_limit: TimeLimit = ENDLESS) -> Solved:
        """Computes and encodes; runs in a compute thread."""
        return self.answers([problem], time_limit)[0]

    def answers(self, problems: Sequence[Problem], time_limit: TimeLimit = ENDLESS) -> list[Solved]:
        """The same for several problems, those of one shape in one compiled call."""
        with profile.span("compute: joint optimum, if asked for"):
            asked = [aimed(self.joint, self._kernels, problem, time_limit) for problem in problems]
        with profile.span("compute: waterfall, limits, lots, guard"):
            items = [(item.problem.inputs, item.problem.guard) for item in asked]
            sizings = size_together(items, self._kernels)
        with profile.span("compute: encoding"):
            return [
                self._encoded(*self._kept(item, sizing))
                for item, sizing in zip(asked, sizings, strict=True)
            ]

    def _kept(self, asked: Aimed, sizing: Sizing) -> tuple[Aimed, Sizing]:
        """No trade instead of lots that are worth less, by the objective of the joint method."""
        problem, joint = asked.problem, asked.answer
        if joint is None or not is_worse_than_keeping(problem.inputs, joint, sizing.weight):
            return asked, sizing
        inputs = replace(problem.inputs, target=problem.inputs.sheet.before[problem.inputs.index])
        return asked, size_together([(inputs, problem.guard)], self._kernels)[0]

    def _encoded(self, asked: Aimed, sizing: Sizing) -> Solved:
        problem, joint = asked.problem, asked.answer
        chain = [*asked.chain, *chain_of(problem)]
        if sizing.rejected:
            broken = sizing.rejected[0]
            outcome = f"would break {broken.kind.name.lower()} of {broken.name}"
            chain += [
                sizing_pb2.FallbackStep(method="largest whole lots", outcome=outcome),
                sizing_pb2.FallbackStep(method="smaller increases", outcome="answered"),
            ]
        head = sizing_pb2.SizingDecision(
            portfolio_id=problem.request.portfolio_id,
            strategy_id=problem.request.strategy_id,
            method=types_pb2.SizingMethod.ValueType(problem.method),
            status=types_pb2.SIZING_STATUS_FALLBACK if chain else _status(sizing, joint),
            fallback_chain=chain,
        )
        tell(head, problem.context)
        algorithm_convert.tell(head, problem.context.algorithm)
        prediction.tell(head, problem.context)
        limits_exceeded(head, problem, sizing)
        decision_convert.line_errors(head, problem.errors)
        cash = decision_convert.cash_needed(sizing, problem.inputs)
        decision_convert.summary(head.summary, sizing, problem.inputs, cash)
        if joint is not None and joint.certificate is not None:
            solved = joint.certificate, joint.prices, joint.problem, joint.instrument_ids
            kinds = {name: int(limit.kind) for name, limit in joint.named.items()}
            joint_convert.certificate(head.certificate, *solved, kinds)
            head.certificate.note = joint.note
            head.notes.extend(joint.notes)
            head.certificate.iterations = joint.iterations
            head.certificate.objective_lots = joint_objective(problem.inputs, joint, sizing.weight)
        decision_risk.fill(head, problem, sizing)
        head.versions.kernel = sizing.kernel
        head.versions.service_version = VERSION
        head.versions.libraries = LIBRARIES
        head.versions.market_snapshot_id = problem.context.market_snapshot_id
        head.versions.covariance_matrix_id = (
            problem.request.covariance_matrix_id or problem.context.covariance_matrix_id
        )
        stages = decision_convert.STAGE_NUMBERS
        if problem.context.algorithm is not None:
            stages = decision_convert.ALGORITHM_STAGE_NUMBERS
        columns = decision_convert.columns(problem.ids, sizing, problem.inputs, stages)
        columns += volatility_answer.fill(head, problem, sizing)
        if problem.request.include_sensitivities:
            gradient = sensitivities(problem.inputs, self._kernels)
            columns += decision_convert.sensitivities(gradient)
        return Solved(problem, sizing, head, columns)

    async def matrices(
        self,
        tenant_id: str,
        message: sizing_service_pb2.SizePositionsRequest
        | optimization_service_pb2.OptimizationProblem,
        path: str = "",
    ) -> tuple[MatrixData | None, MatrixData | None]:
        """The stored scenarios and covariance that a message names; None where it names none.

        Raises `Refusal` for a matrix of another kind.
        """
        found: list[MatrixData | None] = []
        covariances: list[int] = [MATRIX_KIND_COVARIANCE]
        if isinstance(message, sizing_service_pb2.SizePositionsRequest):
            covariances.append(MATRIX_KIND_CORRELATION)  # there are volatilities to scale it with
        for name, wanted in (
            ("scenario_matrix_id", [MATRIX_KIND_SCENARIOS]),
            ("covariance_matrix_id", covariances),
        ):
            matrix_id = getattr(message, name)
            stored = await self.states.matrix(tenant_id, matrix_id) if matrix_id else None
            if stored is not None and (
                wrong := [*kind_violations(stored.kind, wanted, path + name)]
            ):
                raise invalid_fields(wrong)
            found.append(stored)
        return found[0], found[1]


def _status(sizing: Sizing, joint: JointAnswer | None) -> types_pb2.SizingStatus.ValueType:
    if joint is not None and joint.certificate is not None:
        if not joint.certificate.is_optimal:
            return types_pb2.SIZING_STATUS_UNPROVEN
        if joint.prices:
            return types_pb2.SIZING_STATUS_CAPPED
    capped = (sizing.binding.kind > 0) & (sizing.status != LineStatus.REFUSED)
    return types_pb2.SIZING_STATUS_CAPPED if capped.any() else types_pb2.SIZING_STATUS_OPTIMAL
