"""Sizing that counts: decided, recorded with its reservation and its event, then answered.

    gather -> solve -> commit at the versions gathered -> answer the bytes that were stored

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
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from positionsizing.v1 import sizing_service_pb2 as pb
from prometheus_client import CollectorRegistry

from server import tracing
from server.convert.names import uuid
from server.day_loss import DayLossMonitor
from server.decision_write import answer, stamped, transaction
from server.errors import Refusal, invalid, invalid_fields
from server.halt import unless_changed
from server.metrics import DecisionMetrics
from server.portfolio_state import PortfolioState
from server.prepared_request import SizedRequest
from server.profile import span
from server.reading import check_bytes, mask_violations, read_answer, without_mask
from server.request_context import Call
from server.sizing_engine import SizingEngine
from storage.crash import crash_point
from storage.errors import VersionConflict
from storage.postgres import requests
from storage.postgres.commit import DecisionWrite
from storage.postgres.group_commit import GroupCommitter
from storage.postgres.pool import Database

ATTEMPTS_MAX = 16
"""A commit that keeps finding newer versions is given up after this many."""

PORTFOLIOS_MAX = 256


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
        self._days = DayLossMonitor(database, engine.states)
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def size_positions(self, call: Call, request: pb.SizePositionsRequest) -> bytes:
        """The answer to SizePositions, in the form that is stored."""
        self._engine.check(request)
        mask = _mask(request)
        request = without_mask(request)
        if request.validate_only:
            return read_answer(await self._unrecorded(call, request, [request]), mask)
        request_id = uuid(request.request_id, "request_id")
        return await self._recorded(call, "SizePositions", request_id, request, [request], mask)

    async def size_portfolios(self, call: Call, request: pb.SizePortfoliosRequest) -> bytes:
        """The answer to SizePortfolios, in the form that is stored."""
        parts = _parts(request)
        for position, part in enumerate(parts):
            self._engine.check(part, f"requests[{position}].")
        mask = _mask(request)
        request = without_mask(request)
        if request.validate_only:
            return read_answer(await self._unrecorded(call, request, parts), mask)
        request_id = uuid(request.request_id, "request_id")
        return await self._recorded(call, "SizePortfolios", request_id, request, parts, mask)

    async def _unrecorded(
        self, call: Call, whole: Message, parts: Sequence[pb.SizePositionsRequest]
    ) -> bytes:
        solved = await unless_changed(
            lambda: self._states(call, parts, is_recorded=False),
            lambda states: self._solve_all(call, whole, parts, states),
        )
        return answer([stamped(item) for item in solved])

    async def _recorded(
        self,
        call: Call,
        method: str,
        request_id: UUID,
        whole: Message,
        parts: Sequence[pb.SizePositionsRequest],
        mask: FieldMask,
    ) -> bytes:
        content = whole.SerializeToString(deterministic=True)
        digest = hashlib.sha256(content).digest()
        for _ in range(ATTEMPTS_MAX):
            async with self._turn(call.tenant_id, parts):
                try:
                    with tracing.part("gather"):
                        states = await self._states(call, parts, is_recorded=True)
                    solved = await self._solve_all(call, whole, parts, states)
                except Refusal:
                    # The state may have changed since the first answer; a retry gets that one.
                    stored = await self._stored(call, method, request_id, digest)
                    if stored is None:
                        raise
                    self._metrics.repeated()
                    return read_answer(stored, mask)
                crash_point("compute")
                with span("commit: what is written"):
                    write = transaction(call, method, request_id, content, digest, states, solved)
                    mine = read_answer(write.request.response, mask)
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
                    return read_answer(result.response, mask)
                for item in solved:
                    self._metrics.decided(item)
                return mine
        raise Refusal(
            grpc.StatusCode.ABORTED,
            "CONTENDED",
            f"the portfolio kept changing during {ATTEMPTS_MAX} attempts",
            retry_after_s=0.1,
        )

    async def _states(
        self, call: Call, parts: Sequence[pb.SizePositionsRequest], *, is_recorded: bool
    ) -> list[PortfolioState]:
        with span("gather: portfolio state"):
            states = [await self._state(call, part) for part in parts]
            return [
                await self._days.checked(call, state, part.strategy_id, is_recorded=is_recorded)
                for part, state in zip(parts, states, strict=True)
            ]

    async def _state(self, call: Call, request: pb.SizePositionsRequest) -> PortfolioState:
        state = await self._engine.states.portfolio(
            call.tenant_id, request.portfolio_id, request.strategy_id
        )
        if request.HasField("expected_portfolio_version"):
            expected, actual = request.expected_portfolio_version, state.portfolio.version
            if expected != actual:
                raise Refusal(
                    grpc.StatusCode.ABORTED,
                    "VERSION_CONFLICT",
                    f"portfolio {request.portfolio_id!r} is at version {actual}, not {expected}",
                    metadata={"expected": str(expected), "actual": str(actual)},
                )
        return state

    async def _solve_all(
        self,
        call: Call,
        whole: Message,
        parts: Sequence[pb.SizePositionsRequest],
        states: Sequence[PortfolioState],
    ) -> list[SizedRequest]:
        with tracing.part("compute"):
            return await self._solved(call, whole, parts, states)

    async def _solved(
        self,
        call: Call,
        whole: Message,
        parts: Sequence[pb.SizePositionsRequest],
        states: Sequence[PortfolioState],
    ) -> list[SizedRequest]:
        if whole is parts[0]:
            return [await self._engine.solve(call.tenant_id, parts[0], states[0], call)]
        return await self._engine.solve_together(call.tenant_id, parts, states, call)

    async def _stored(
        self, call: Call, method: str, request_id: UUID, digest: bytes
    ) -> bytes | None:
        async with self._database.connection(deadline_s=call.left_s) as connection:
            found = await requests.find(connection, call.tenant_id, request_id)
        return None if found is None else found.answer_to(method, digest)

    def _take_in(
        self,
        call: Call,
        parts: Sequence[pb.SizePositionsRequest],
        states: Sequence[PortfolioState],
        write: DecisionWrite,
    ) -> None:
        for part, state, written in zip(parts, states, write.portfolios, strict=True):
            self._engine.states.recorded(
                call.tenant_id, part.strategy_id, state, written.reservation, written.equity
            )

    def _forget(self, call: Call, states: Sequence[PortfolioState]) -> None:
        """A commit changes its portfolios, and with a group what others see of it."""
        if any(state.group_version is not None for state in states):
            self._engine.states.changed(call.tenant_id)
        else:
            ids = {state.portfolio.portfolio_id for state in states}
            self._engine.states.changed(call.tenant_id, ids)

    @asynccontextmanager
    async def _turn(
        self, tenant_id: str, parts: Sequence[pb.SizePositionsRequest]
    ) -> AsyncIterator[None]:
        """The turn of every portfolio of a request, taken in one order."""
        async with AsyncExitStack() as stack:
            for portfolio_id in sorted({part.portfolio_id for part in parts}):
                key = (tenant_id, portfolio_id)
                lock = self._turns.get(key)
                if lock is None:
                    lock = self._turns[key] = asyncio.Lock()
                await stack.enter_async_context(lock)
            yield


def _mask(request: pb.SizePositionsRequest | pb.SizePortfoliosRequest) -> FieldMask:
    if found := list(mask_violations(request.read_mask)):
        raise invalid_fields(found)
    return request.read_mask


def _parts(request: pb.SizePortfoliosRequest) -> list[pb.SizePositionsRequest]:
    """The parts of a call for several portfolios; raises `Refusal` where they can't go together."""
    parts = list(request.requests)
    if not 1 <= len(parts) <= PORTFOLIOS_MAX:
        text = f"has {len(parts)} entries; 1 to {PORTFOLIOS_MAX} are accepted"
        raise invalid("requests", "OUT_OF_RANGE", text)
    seen: set[str] = set()
    for position, part in enumerate(parts):
        path = f"requests[{position}]"
        if part.portfolio_id in seen:
            text = f"{part.portfolio_id!r} is given twice"
            raise invalid(f"{path}.portfolio_id", "DUPLICATE", text)
        seen.add(part.portfolio_id)
        for name in ("request_id", "validate_only"):
            if getattr(part, name):
                raise invalid(f"{path}.{name}", "NOT_APPLICABLE", "is set on the whole call only")
        if part.HasField("read_mask"):
            raise invalid(f"{path}.read_mask", "NOT_APPLICABLE", "is set on the whole call only")
    return parts
