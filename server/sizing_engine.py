"""From a checked request and a state to a decision: gather, solve, encode. Writes nothing.

The arithmetic is in `compute/pipeline.py` and runs in the compute thread;
`sizing_coordinator.py` records what comes out.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
from positionsizing.v1 import (
    optimization_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
)
from positionsizing.v1.market_service_pb2 import (
    MATRIX_KIND_CORRELATION,
    MATRIX_KIND_COVARIANCE,
    MATRIX_KIND_SCENARIOS,
    MarketSnapshot,
)

from compute.joint_value import is_worse_than_keeping
from compute.limits.shared import divided
from compute.market import equity_of
from compute.methods import Engine
from compute.optimize.time_limit import ENDLESS, TimeLimit
from compute.pipeline import Sizing, size_together
from compute.shapes import KernelRegistry, Key, NotReadyError
from server import prediction, profile
from server.adaptation import adapted
from server.algorithms.registry import Algorithms
from server.batching import ComputeLoop, ComputeThread
from server.convert import request as request_convert
from server.convert.market import MatrixData, kind_violations
from server.custom import answer_of, check_known, is_asked, question_of, sized_by
from server.encoded_decision import encoded
from server.equity_jumps import check_equity
from server.errors import Refusal, invalid_fields, precondition
from server.joint.runner import JointRunner
from server.joint_target import JointTarget, solve_target
from server.method import is_joint_request, is_short, method_of, needs_default
from server.missed_actions import check_shown
from server.models import Models
from server.portfolio_state import PortfolioState
from server.prepared_request import (
    PreparedRequest,
    SizedRequest,
    assemble,
    check_ages,
    concerned,
    context_of,
)
from server.price_jumps import refuse_held
from server.request_context import Call
from server.shared_limits import notional_after, notional_before, outside_use, with_shared
from server.state import States
from server.stored_edges import StoredOutcomes, read_outcomes
from storage.postgres.pool import Database

T = TypeVar("T")

PROGRAMS_MAX = 16
"""A request calls at most so many programs."""

_COVARIANCES = ("COVARIANCE", "CORRELATION")


@dataclass(frozen=True)
class Places:
    """Where work is computed: short work, joint work, so that nobody waits for it, and the rest."""

    loop: ComputeLoop
    thread: ComputeThread
    joint: ComputeThread


class SizingEngine:
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
        self.kernels = kernels
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
    ) -> SizedRequest:
        """Sizes a checked request against a state. Raises `Refusal`."""
        model_id, estimates = state.parameters.volatility_model, None
        if model_id is not None:
            estimates = await self.states.volatilities.newest(tenant_id, model_id)
        with profile.span("gather: market snapshot and matrices"):
            snapshot = await self._snapshot(tenant_id, request, state)
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
        currency = state.portfolio.base_currency
        jumped = await self.states.price_jumps.instruments(
            tenant_id, state.tenant_version, snapshot, currency
        )

        def gathered() -> PreparedRequest:
            with profile.span("gather: arrays"):
                prices = self.states.market(tenant_id, snapshot, currency)
                context = context_of(state, snapshot.snapshot_id, prices)
                if jumped:
                    refuse_held(prices, context.positions, jumped)
                    context = replace(context, jumped=jumped)
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
                made = assemble(
                    request, context, prices, scenarios, covariance, state.derived, stored
                )
                check_equity(state, equity)
                return made

        def work(time_limit: TimeLimit) -> SizedRequest:
            return self.answer(gathered(), time_limit)

        n_lines = len(request.signals.instrument_ids)
        if method_of(request, state.parameters).engine is Engine.OUTSIDE:
            problem = await self.run(lambda _: gathered(), n_lines, call)
            problem = await self.with_algorithm(problem, call)
            return await self.run(lambda limit: self.answer(problem, limit), n_lines, call)
        if covariance is None and stored is None and is_short(request, state, snapshot):
            return await self._short(work, call)
        is_joint = is_joint_request(request, state.parameters)
        return await self.run(work, n_lines, call, is_joint=is_joint)

    async def _snapshot(
        self,
        tenant_id: str,
        request: sizing_service_pb2.SizePositionsRequest,
        state: PortfolioState,
    ) -> MarketSnapshot:
        """The market asked for. Raises `Refusal` for one that misses a corporate action."""
        missed, wanted = self.states.missed_actions, request.market_snapshot_id
        snapshot = await self.states.snapshot(tenant_id, wanted)
        missing = await missed.of(tenant_id, state.tenant_version, snapshot)
        if missing and not wanted:  # the latest is kept for a moment
            self.states.changed(tenant_id)
            snapshot = await self.states.snapshot(tenant_id, wanted)
            missing = await missed.of(tenant_id, state.tenant_version, snapshot)
        check_shown(missing, state, snapshot, request.signals.instrument_ids)
        return snapshot

    async def stored_outcomes(
        self, call: Call, signals: sizing_pb2.SignalBatch, sequence: int | None = None
    ) -> StoredOutcomes | None:
        """The stored histories that lines name, see `stored_edges.read_outcomes`."""
        return await read_outcomes(self._database, call, signals, sequence)

    async def with_algorithm(self, problem: PreparedRequest, call: Call) -> PreparedRequest:
        """The problem with the sizes of its algorithm, where it is one for an algorithm.

        Raises `Refusal` where the server doesn't have it, or all or nothing is wanted.
        """
        if problem.method.engine is Engine.OUTSIDE:
            check_known(problem, self._algorithms)
        if not is_asked(problem):
            return problem
        n_lines = len(problem.ids)
        question = await self.run(lambda _: question_of(problem, self.kernels), n_lines, call)
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
    ) -> list[SizedRequest]:
        """Sizes several portfolios; those that share limits divide them (`limits/shared.py`)."""
        alone: list[SizedRequest] = []
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
        solved: list[SizedRequest],
        call: Call,
    ) -> None:
        """Solves the members of a group again, each within its part of what they share."""
        contexts = [solved[i].problem.context for i in members]
        if len({context.base_currency for context in contexts}) > 1:
            raise precondition(
                "MIXED_CURRENCIES", "portfolios that share limits need one base currency"
            )

        def work(time_limit: TimeLimit) -> list[SizedRequest]:
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
        is_joint = any(solved[i].problem.method.engine is Engine.OPTIMIZER for i in members)
        again = await self.run(work, n_lines, call, is_joint=is_joint)
        for i, item in zip(members, again, strict=True):
            solved[i] = item

    def answer(self, problem: PreparedRequest, time_limit: TimeLimit = ENDLESS) -> SizedRequest:
        """Computes and encodes; runs in a compute thread."""
        return self.answers([problem], time_limit)[0]

    def answers(
        self, problems: Sequence[PreparedRequest], time_limit: TimeLimit = ENDLESS
    ) -> list[SizedRequest]:
        """The same for several problems, those of one shape in one compiled call."""
        with profile.span("compute: joint optimum, if asked for"):
            asked = [
                solve_target(self.joint, self.kernels, problem, time_limit) for problem in problems
            ]
        with profile.span("compute: waterfall, limits, lots, guard"):
            items = [(item.problem.inputs, item.problem.guard) for item in asked]
            sizings = size_together(items, self.kernels)
        with profile.span("compute: encoding"):
            return [
                encoded(*self._kept(item, sizing), self.kernels)
                for item, sizing in zip(asked, sizings, strict=True)
            ]

    def _kept(self, asked: JointTarget, sizing: Sizing) -> tuple[JointTarget, Sizing]:
        """No trade instead of lots that are worth less, by the objective of the joint method."""
        problem, joint = asked.problem, asked.answer
        if joint is None or not is_worse_than_keeping(problem.inputs, joint, sizing.weight):
            return asked, sizing
        inputs = replace(
            problem.inputs, target=problem.inputs.limit_bounds.before[problem.inputs.index]
        )
        return asked, size_together([(inputs, problem.guard)], self.kernels)[0]

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
