"""Inputs that come by Pulsar topic instead of by call: the same handlers, each event once.

Sizing requests and fills are idempotent by their request id, market data by its id; the others by
the event's id, which is taken into the inbox in the transaction that does the work. A sizing
request that is refused for good is answered by SignalsRefused; what can't be read, or any other
refusal, goes to the dead-letter topic with its reason.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from positionsizing.v1 import events_pb2

from server.call import Call, DuplicateEvent, first_delivery
from server.desk import Desk
from server.errors import Refusal
from server.services.market import MarketService
from server.services.parameter import ParameterService
from server.services.portfolio import PortfolioService
from server.services.sizing import SizingService
from storage.errors import NotFound, Unavailable
from storage.events.consumer import Handler, Refused
from storage.events.ports import InMessage
from storage.postgres import outbox
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database

_RETRYABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}

_Method = Callable[[Call, Any], Awaitable[Any]]


def handlers(
    services: Mapping[str, object],
    desk: Desk,
    database: Database,
    tenant_id: str,
    deadline_s: float,
) -> dict[str, Handler]:
    """A handler for each incoming topic."""
    sizing, portfolio = services["SizingService"], services["PortfolioService"]
    market, parameter = services["MarketService"], services["ParameterService"]
    assert isinstance(sizing, SizingService)
    assert isinstance(portfolio, PortfolioService)
    assert isinstance(market, MarketService)
    assert isinstance(parameter, ParameterService)
    methods: dict[str, tuple[type[Message], _Method]] = {
        "portfolio-state": (events_pb2.PortfolioStateUpdated, portfolio.set_holdings),
        "limits": (events_pb2.LimitsUpdated, portfolio.set_limits),
        "risk-budgets": (events_pb2.RiskBudgetUpdated, parameter.set_parameters),
        "market-data": (events_pb2.MarketDataUpdated, market.put_market_snapshot),
        "correlations": (events_pb2.CorrelationsUpdated, market.put_matrix),
        "fills": (events_pb2.FillsReported, sizing.settle_decision),
    }
    intake = _Intake(tenant_id, deadline_s, database)
    made = {topic: intake.handler(*method) for topic, method in methods.items()}
    made["signals"] = intake.signals(desk)
    return made


class _Intake:
    """What all handlers share: reading the message and saying what its failure means."""

    def __init__(self, tenant_id: str, deadline_s: float, database: Database) -> None:
        self._tenant_id = tenant_id
        self._deadline_s = deadline_s
        self._database = database

    def handler(self, kind: type[Message], method: _Method) -> Handler:
        """Hands the request inside an event to a service."""

        async def handle(message: InMessage) -> None:
            request = self._read(kind, message)
            try:
                await method(self._call(message), request)
            except DuplicateEvent:
                return
            except Refusal as refusal:
                raise _failure(refusal) from refusal

        return handle

    def signals(self, desk: Desk) -> Handler:
        """Sizes a request; the answer is the event that recording it writes."""

        async def handle(message: InMessage) -> None:
            request = self._read(events_pb2.SignalsSubmitted, message)
            if not request.request_id:
                request.request_id = message.event_id
            request.validate_only = False
            try:
                await desk.size_positions(self._call(message), request)
            except (Refusal, NotFound) as error:
                refusal = error if isinstance(error, Refusal) else _unknown(error)
                if refusal.code in _RETRYABLE:
                    raise _failure(refusal) from error
                await self._refuse(message, request, refusal)

        return handle

    def _read(self, kind: type[Message], message: InMessage) -> Any:
        if message.tenant_id != self._tenant_id:
            raise Refused("UNKNOWN_TENANT", f"tenant {message.tenant_id!r} is not served here")
        if message.event_type != kind.DESCRIPTOR.name:
            text = f"event_type is {message.event_type!r}, not {kind.DESCRIPTOR.name!r}"
            raise Refused("WRONG_EVENT_TYPE", text)
        try:
            event: Any = kind.FromString(message.payload)
        except DecodeError as error:
            raise Refused("UNDECODABLE", f"the payload is no {kind.DESCRIPTOR.name}") from error
        return event.request

    def _call(self, message: InMessage) -> Call:
        return Call(
            tenant_id=self._tenant_id,
            author=f"topic:{message.topic}",
            deadline=time.monotonic() + self._deadline_s,
            trace_id=message.trace_id,
            event=(message.topic, message.event_id),
        )

    async def _refuse(self, message: InMessage, request: Any, refusal: Refusal) -> None:
        """Answers a request that can never succeed, once."""
        payload = events_pb2.SignalsRefused(
            request_id=request.request_id,
            portfolio_id=request.portfolio_id,
            code=refusal.code.name,
            reason=refusal.reason,
            message=refusal.message,
        ).SerializeToString()
        call = self._call(message)
        event = NewEvent(
            "position-sized", "SignalsRefused", lambda _: payload, trace_id=message.trace_id
        )
        try:
            async with self._database.transaction(deadline_s=self._deadline_s) as connection:
                await first_delivery(connection, call)
                await outbox.append(connection, call.tenant_id, "", [event])
        except DuplicateEvent:
            return


def _unknown(error: NotFound) -> Refusal:
    return Refusal(grpc.StatusCode.NOT_FOUND, error.reason, str(error))


def _failure(refusal: Refusal) -> Exception:
    """What a refusal means to the consumer: wait for better times, or give the message up."""
    if refusal.code in _RETRYABLE:
        return Unavailable(refusal.message)
    return Refused(refusal.reason, refusal.message)
