"""Sizing that counts: decided, recorded with its reservation and its event, then answered.

    gather -> solve -> commit at the versions gathered -> answer the bytes that were stored

A commit that finds newer versions computes again from them. Requests on one portfolio take turns
inside a process, so that they rarely meet there; across processes the versions decide. The same
request id is answered with the stored bytes, also when the state has changed since.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID
from weakref import WeakValueDictionary

import asyncpg
import grpc
import numpy as np
from google.protobuf.message import Message
from positionsizing.v1 import events_pb2, types_pb2
from positionsizing.v1 import sizing_service_pb2 as pb

from compute.parameters import EffectiveParameters
from server import record
from server.convert import decision as decision_convert
from server.convert.columns import encoder
from server.convert.names import timestamp, uuid
from server.convert.parameters import seconds
from server.decisions import Solver
from server.errors import Refusal, invalid
from server.problem import Solved
from server.state import PortfolioState
from storage.errors import VersionConflict
from storage.identifiers import uuid7
from storage.postgres import inbox, requests
from storage.postgres.commit import DecisionWrite, PortfolioWrite
from storage.postgres.decisions import Decision, Lines
from storage.postgres.group_commit import GroupCommitter
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database
from storage.postgres.requests import Request
from storage.postgres.reservations import NewReservation

ATTEMPTS_MAX = 16
"""A commit that keeps finding newer versions is given up after this many."""

PORTFOLIOS_MAX = 256


@dataclass(frozen=True)
class Call:
    """Who asks, until when, and for which trace."""

    tenant_id: str
    author: str
    deadline: float
    """On the monotonic clock."""
    trace_id: str = ""
    event: tuple[str, str] | None = None
    """Topic and id of the event that asks; None for a call over gRPC."""

    @property
    def left_s(self) -> float:
        """Seconds that remain. Raises `Refusal` where none do."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE", "the time is over")
        return left


class DuplicateEvent(Exception):
    """The event that asks has been taken in before; its work is done."""


async def first_delivery(connection: asyncpg.Connection, call: Call) -> None:
    """Takes the call's event into the inbox, in the transaction that does its work.

    Raises `DuplicateEvent` where it is there already. Calls over gRPC pass.
    """
    if call.event is None:
        return
    topic, event_id = call.event
    if not await inbox.receive(connection, call.tenant_id, topic, event_id):
        raise DuplicateEvent(event_id)


class Desk:
    """Sizes portfolios and records what it decides."""

    def __init__(
        self,
        solver: Solver,
        database: Database,
        committer: GroupCommitter,
        on_events: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_events` is called after each commit that wrote events."""
        self._on_events = on_events
        self._solver = solver
        self._database = database
        self._committer = committer
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def size_positions(self, call: Call, request: pb.SizePositionsRequest) -> bytes:
        """The answer to SizePositions, in the form that is stored."""
        self._solver.check(request)
        if request.validate_only:
            solved = await self._solve(call, request)
            return _answer([_stamped(solved)])
        request_id = uuid(request.request_id, "request_id")
        return await self._recorded(call, "SizePositions", request_id, request, [request])

    async def size_portfolios(self, call: Call, request: pb.SizePortfoliosRequest) -> bytes:
        """The answer to SizePortfolios, in the form that is stored."""
        parts = _parts(request)
        for position, part in enumerate(parts):
            self._solver.check(part, f"requests[{position}].")
        if request.validate_only:
            solved = await self._solve_all(call, parts)
            return _answer([_stamped(item) for item in solved])
        request_id = uuid(request.request_id, "request_id")
        return await self._recorded(call, "SizePortfolios", request_id, request, parts)

    async def _recorded(
        self,
        call: Call,
        method: str,
        request_id: UUID,
        whole: Message,
        parts: Sequence[pb.SizePositionsRequest],
    ) -> bytes:
        content = whole.SerializeToString(deterministic=True)
        digest = hashlib.sha256(content).digest()
        for _ in range(ATTEMPTS_MAX):
            async with self._turn(call.tenant_id, parts):
                try:
                    states = [await self._state(call, part) for part in parts]
                    solved = await self._solve_all(call, parts, states)
                except Refusal:
                    # The state may have changed since the first answer; a retry gets that one.
                    stored = await self._stored(call, method, request_id, digest)
                    if stored is None:
                        raise
                    return stored
                write = _write(call, method, request_id, content, digest, states, solved)
                try:
                    result = await self._committer.commit(write, deadline_s=call.left_s)
                except VersionConflict:
                    continue
                finally:
                    self._forget(call, states)
                self._on_events()
                return result.response
        raise Refusal(
            grpc.StatusCode.ABORTED,
            "CONTENDED",
            f"the portfolio kept changing during {ATTEMPTS_MAX} attempts",
            retry_after_s=0.1,
        )

    async def _state(self, call: Call, request: pb.SizePositionsRequest) -> PortfolioState:
        state = await self._solver.states.portfolio(
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

    async def _solve(self, call: Call, request: pb.SizePositionsRequest) -> Solved:
        state = await self._state(call, request)
        return await self._solver.solve(call.tenant_id, request, state, call.left_s)

    async def _solve_all(
        self,
        call: Call,
        parts: Sequence[pb.SizePositionsRequest],
        states: Sequence[PortfolioState] | None = None,
    ) -> list[Solved]:
        if states is None:
            states = [await self._state(call, part) for part in parts]
        if len(parts) == 1:
            return [await self._solver.solve(call.tenant_id, parts[0], states[0], call.left_s)]
        return await self._solver.solve_together(call.tenant_id, parts, states, call.left_s)

    async def _stored(
        self, call: Call, method: str, request_id: UUID, digest: bytes
    ) -> bytes | None:
        async with self._database.connection(deadline_s=call.left_s) as connection:
            found = await requests.find(connection, call.tenant_id, request_id)
        return None if found is None else found.answer_to(method, digest)

    def _forget(self, call: Call, states: Sequence[PortfolioState]) -> None:
        """A commit changes its portfolios, and with a group what others see of it."""
        if any(state.group_version is not None for state in states):
            self._solver.states.changed(call.tenant_id)
        else:
            ids = {state.portfolio.portfolio_id for state in states}
            self._solver.states.changed(call.tenant_id, ids)

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
    return parts


def _stamped(solved: Solved) -> bytes:
    solved.head.create_time.CopyFrom(timestamp(datetime.now(UTC)))
    return solved.encoded()


# The same field holds the decision of SizePositions and the decisions of SizePortfolios.
_ANSWER = encoder(pb.SizePositionsResponse.DESCRIPTOR)
_EVENT = encoder(events_pb2.PositionSized.DESCRIPTOR)
assert (
    pb.SizePortfoliosResponse.DECISIONS_FIELD_NUMBER
    == pb.SizePositionsResponse.DECISION_FIELD_NUMBER
)


def _answer(decisions: Sequence[bytes]) -> bytes:
    """The encoded answer to either method, from encoded decisions."""
    return b"".join(_ANSWER.message("decision", decision) for decision in decisions)


def _write(
    call: Call,
    method: str,
    request_id: UUID,
    content: bytes,
    digest: bytes,
    states: Sequence[PortfolioState],
    solved: Sequence[Solved],
) -> DecisionWrite:
    """Everything that one transaction will hold, the answer among it."""
    now = datetime.now(UTC)
    parts, encoded = [], []
    for state, item in zip(states, solved, strict=True):
        part, decision = _portfolio_write(call, request_id, state, item, now)
        parts.append(part)
        encoded.append(decision)
    return DecisionWrite(
        tenant_id=call.tenant_id,
        request=Request(request_id, method, digest, content, _answer(encoded)),
        portfolios=tuple(parts),
        expected_tenant_version=states[0].tenant_version,
    )


def _portfolio_write(
    call: Call, request_id: UUID, state: PortfolioState, solved: Solved, now: datetime
) -> tuple[PortfolioWrite, bytes]:
    """What is written for one portfolio, and its decision encoded."""
    message, problem, sizing = solved.head, solved.problem, solved.sizing
    decision_id = uuid7()
    inputs = record.encode(problem.context)
    message.decision_id = str(decision_id)
    message.request_id = str(request_id)
    message.create_time.CopyFrom(timestamp(now))
    message.input_hash = hashlib.sha256(
        inputs + problem.request.SerializeToString(deterministic=True)
    ).hexdigest()
    versions = message.versions
    versions.portfolio_version = state.portfolio.version
    versions.limits_versions = state.limits_versions
    versions.parameters_version = state.parameters_version
    versions.trading_state_version = state.trading_state_version
    versions.group_version = state.group_version or 0
    reservation = _reservation(solved, now, problem.context.parameters)
    if reservation is not None:
        message.reservation_expire_time.CopyFrom(timestamp(reservation.expire_time))

    encoded = solved.encoded()

    def event(sequence: int) -> bytes:
        numbered = events_pb2.PositionSized(portfolio_sequence=sequence)
        return numbered.SerializeToString() + _EVENT.message("decision", encoded)

    sheet = problem.inputs.sheet
    price = sheet.market.price[problem.inputs.index]
    write = PortfolioWrite(
        decision=Decision(
            decision_id=decision_id,
            request_id=request_id,
            kind="SIZING",
            portfolio_id=problem.request.portfolio_id,
            strategy_id=problem.request.strategy_id,
            create_time=now,
            status=types_pb2.SizingStatus.Name(message.status).removeprefix("SIZING_STATUS_"),
            inputs=inputs,
            versions={
                "service": versions.service_version,
                "kernel": versions.kernel,
                "libraries": versions.libraries,
                "market_snapshot_id": versions.market_snapshot_id,
                "limits": versions.limits_versions,
                "parameters": versions.parameters_version,
            },
            lines=Lines(
                instrument_id=problem.ids,
                lots=sizing.lots,
                weight=sizing.weight,
                notional=sizing.quantity * price,
                price=price,
                status=sizing.status,
            ),
        ),
        expected_version=state.portfolio.version,
        group_id=state.portfolio.group_id,
        expected_group_version=state.group_version,
        reservation=reservation,
        events=[NewEvent("position-sized", "PositionSized", event, trace_id=call.trace_id)],
    )
    return write, encoded


def _reservation(
    solved: Solved, now: datetime, parameters: EffectiveParameters
) -> NewReservation | None:
    """What the decision holds until it is settled; None where there is nothing to trade."""
    trade = solved.sizing.trade_lots
    traded = np.flatnonzero(trade)
    if len(traded) == 0:
        return None
    request, inputs = solved.problem.request, solved.problem.inputs
    ttl_s = parameters.reservation_ttl_s
    if request.HasField("reservation_ttl"):
        ttl_s = seconds(request.reservation_ttl)
    market = inputs.sheet.market
    return NewReservation(
        instrument_id=tuple(solved.problem.ids[i] for i in traded),
        trade_lots=trade[traded],
        lot_size=market.lot_size[inputs.index[traded]],
        price=market.price[inputs.index[traded]],
        cash=decision_convert.cash_needed(solved.sizing, inputs)[traded],
        expire_time=now + timedelta(seconds=ttl_s),
    )
