"""Sizing that counts: decided, recorded with its reservation and its event, then answered.

    gather -> size -> commit at the versions gathered -> answer the bytes that were stored

A commit that finds newer versions computes again from them. Requests on one portfolio take turns
inside a process, so that they rarely meet there; across processes the versions decide. The same
request id is answered with the stored bytes, also when the state has changed since.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID
from weakref import WeakValueDictionary

import grpc
from prometheus_client import CollectorRegistry

from server.calls.errors import Refusal
from server.calls.halt import unless_changed
from server.calls.reading import check_bytes
from server.calls.request_context import Call
from server.convert.encoded_decision import answer
from server.observability import tracing
from server.observability.metrics import DecisionMetrics
from server.observability.profile import span
from server.portfolios.day_loss import DayLossMonitor
from server.portfolios.portfolio_state import PortfolioState
from server.sizing.decision_write import stamped, transaction
from server.sizing.engine import SizingEngine
from server.sizing.request import SizingCall, SizingRequest
from server.sizing.sized_request import SizedRequest
from storage.crash import crash_point
from storage.errors import VersionConflict
from storage.postgres import requests
from storage.postgres.commit import DecisionWrite
from storage.postgres.group_commit import GroupCommitter
from storage.postgres.pool import Database

ATTEMPTS_MAX = 16
"""A commit that keeps finding newer versions is given up after this many."""


class SizingCoordinator:
    """Sizes portfolios and records what it decides."""

    def __init__(
        self,
        engine: SizingEngine,
        database: Database,
        committer: GroupCommitter,
        on_events: Callable[[], None] = lambda: None,
        metrics: DecisionMetrics | None = None,
    ) -> None:
        """`on_events` is called after each commit that wrote events; `metrics` counts decisions."""
        self._metrics = metrics or DecisionMetrics(CollectorRegistry())
        self._on_events = on_events
        self._engine = engine
        self._database = database
        self._committer = committer
        self._days = DayLossMonitor(database, engine.gatherer.states)
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def size(self, call: Call, asked: SizingCall) -> bytes:
        """The answer, in the form that is stored, as far as its caller reads it."""
        if asked.request_id is None:
            return asked.view(await self._unrecorded(call, asked))
        return await self._recorded(call, asked, asked.request_id)

    async def _unrecorded(self, call: Call, asked: SizingCall) -> bytes:
        solved = await unless_changed(
            lambda: self._states(call, asked.parts, is_recorded=False),
            lambda states: self._solved(call, asked, states),
        )
        return answer([stamped(item) for item in solved])

    async def _recorded(self, call: Call, asked: SizingCall, request_id: UUID) -> bytes:
        parts, digest = asked.parts, hashlib.sha256(asked.content).digest()
        for _ in range(ATTEMPTS_MAX):
            async with self._turn(call.tenant_id, parts):
                try:
                    with tracing.part("gather"):
                        states = await self._states(call, parts, is_recorded=True)
                    solved = await self._solved(call, asked, states)
                except Refusal:
                    # The state may have changed since the first answer; a retry gets that one.
                    stored = await self._stored(call, asked, request_id, digest)
                    if stored is None:
                        raise
                    self._metrics.repeated()
                    return asked.view(stored)
                crash_point("compute")
                with span("commit: what is written"):
                    write = transaction(call, asked, request_id, digest, states, solved)
                    mine = asked.view(write.request.response)
                    check_bytes(len(mine), call.bytes_max)
                try:
                    with tracing.part("commit"), span("commit: transaction"):
                        result = await self._committer.commit(write, deadline_s=call.left_s)
                except BaseException as error:
                    self._forget(call, states)  # nobody knows whether it was written
                    if isinstance(error, VersionConflict):
                        self._metrics.conflicted()
                        continue
                    raise
                if result.is_replay or any(
                    part.breaches or part.high_water_mark is not None for part in write.portfolios
                ):
                    self._forget(call, states)
                else:
                    self._take_in(call, parts, states, write)
                self._on_events()
                if result.is_replay:
                    self._metrics.repeated()
                    return asked.view(result.response)
                for item in solved:
                    self._metrics.decided(item)
                return mine
        raise Refusal(
            grpc.StatusCode.ABORTED,
            "CONTENDED",
            f"what the decision is computed from kept changing during {ATTEMPTS_MAX} attempts",
            retry_after_s=0.1,
        )

    async def _states(
        self, call: Call, parts: Sequence[SizingRequest], *, is_recorded: bool
    ) -> list[PortfolioState]:
        with span("gather: portfolio state"):
            states = [await self._state(call, part) for part in parts]
            return [
                await self._days.checked(call, state, part.strategy_id, is_recorded=is_recorded)
                for part, state in zip(parts, states, strict=True)
            ]

    async def _state(self, call: Call, request: SizingRequest) -> PortfolioState:
        state = await self._engine.gatherer.states.portfolio(
            call.tenant_id, request.portfolio_id, request.strategy_id
        )
        expected, actual = request.expected_portfolio_version, state.portfolio.version
        if expected is not None and expected != actual:
            raise Refusal(
                grpc.StatusCode.ABORTED,
                "VERSION_CONFLICT",
                f"portfolio {request.portfolio_id!r} is at version {actual}, not {expected}",
                metadata={"expected": str(expected), "actual": str(actual)},
            )
        return state

    async def _solved(
        self, call: Call, asked: SizingCall, states: Sequence[PortfolioState]
    ) -> list[SizedRequest]:
        with tracing.part("compute"):
            if asked.is_for_several:
                return await self._engine.solve_together(call, asked.parts, states)
            return [await self._engine.solve(call, asked.parts[0], states[0])]

    async def _stored(
        self, call: Call, asked: SizingCall, request_id: UUID, digest: bytes
    ) -> bytes | None:
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            found = await requests.find(connection, call.tenant_id, request_id)
        return None if found is None else found.answer_to(asked.method, digest)

    def _take_in(
        self,
        call: Call,
        parts: Sequence[SizingRequest],
        states: Sequence[PortfolioState],
        write: DecisionWrite,
    ) -> None:
        for part, state, written in zip(parts, states, write.portfolios, strict=True):
            self._engine.gatherer.states.recorded(
                call.tenant_id, part.strategy_id, state, written.reservation, written.equity
            )

    def _forget(self, call: Call, states: Sequence[PortfolioState]) -> None:
        """A commit changes its portfolios, and with a group what others see of it."""
        if any(state.group_version is not None for state in states):
            self._engine.gatherer.states.changed(call.tenant_id)
        else:
            ids = {state.portfolio.portfolio_id for state in states}
            self._engine.gatherer.states.changed(call.tenant_id, ids)

    @asynccontextmanager
    async def _turn(self, tenant_id: str, parts: Sequence[SizingRequest]) -> AsyncIterator[None]:
        """The turn of every portfolio of a request, taken in one order."""
        async with AsyncExitStack() as stack:
            for portfolio_id in sorted({part.portfolio_id for part in parts}):
                key = (tenant_id, portfolio_id)
                lock = self._turns.get(key)
                if lock is None:
                    lock = self._turns[key] = asyncio.Lock()
                await stack.enter_async_context(lock)
            yield
