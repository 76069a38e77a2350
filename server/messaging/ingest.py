"""Inputs that come by Pulsar topic instead of by call: the same handlers, each event once.

The event's id is taken into the inbox in the transaction that does the work. What can't be done
goes to the dead-letter topic with its reason; a sizing request that goes there is also answered,
by SignalsRefused, so that who sent it need not wait for sizes that never come.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import grpc
from google.protobuf.message import DecodeError, Message
from positionsizing.v1 import events_pb2

from server.auth.identity import topic
from server.calls.errors import Refusal, refusal_of
from server.calls.request_context import Call, first_delivery
from server.convert.names import with_usual_ids
from server.observability import tracing
from server.observability.usage import Usage
from server.portfolios import four_eyes
from server.services.condition import ConditionService
from server.services.feature import FeatureService
from server.services.history import HistoryService
from server.services.market import MarketService
from server.services.parameter import ParameterService
from server.services.portfolio import PortfolioService
from server.services.sizing import SizingService
from storage.errors import DuplicateEvent, NotFound, Unavailable
from storage.events.backoff import Backoff
from storage.events.consumer import Handler, Refused
from storage.events.ports import InMessage
from storage.postgres import outbox
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database

SCHEMA_VERSION = "1"
DEADLINE_S = 30.0
"""For one attempt. Nobody holds a line open, so it is longer than a caller's."""

_WAITS = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
_MAY_PASS = {"CONTENDED", "VERSION_CONFLICT", "DEADLINE"}
"""Reasons that are worth another attempt, though not any number of them."""
_BACKOFF = Backoff(0.2, 3.0)

_Method = Callable[[Call, Any], Awaitable[Any]]
_METHODS = {
    "signals": "SizePositions",
    "fills": "SettleDecision",
    "portfolio-state": "SetHoldings",
    "limits": "SetLimits",
    "risk-budgets": "SetParameters",
    "market-data": "PutMarketSnapshot",
    "correlations": "PutMatrix",
    "histories": "PutHistory",
    "features": "PutFeatures",
    "conditions": "PutCondition",
}
"""Of the contract, that each topic stands for."""


class Intake:
    """A handler for each incoming topic, and the answer to requests that are given up."""

    def __init__(
        self,
        services: Mapping[str, object],
        database: Database,
        tenant_id: str,
        usage: Usage,
    ) -> None:
        self._tenant_id = tenant_id
        self._usage = usage
        self._database = database
        sizing, portfolio = services["SizingService"], services["PortfolioService"]
        market, parameter = services["MarketService"], services["ParameterService"]
        assert isinstance(sizing, SizingService)
        assert isinstance(portfolio, PortfolioService)
        assert isinstance(market, MarketService)
        assert isinstance(parameter, ParameterService)
        history = services["HistoryService"]
        assert isinstance(history, HistoryService)
        condition = services["ConditionService"]
        assert isinstance(condition, ConditionService)
        feature = services["FeatureService"]
        assert isinstance(feature, FeatureService)
        methods: dict[str, tuple[type[Message], _Method]] = {
            "signals": (events_pb2.SignalsSubmitted, sizing.size_positions),
            "fills": (events_pb2.FillsReported, sizing.settle_decision),
            "portfolio-state": (events_pb2.PortfolioStateUpdated, portfolio.set_holdings),
            "limits": (events_pb2.LimitsUpdated, portfolio.set_limits),
            "risk-budgets": (events_pb2.RiskBudgetUpdated, parameter.set_parameters),
            "market-data": (events_pb2.MarketDataUpdated, market.put_market_snapshot),
            "correlations": (events_pb2.CorrelationsUpdated, market.put_matrix),
            "histories": (events_pb2.HistoryUpdated, history.put_history),
            "features": (events_pb2.FeaturesUpdated, feature.put_features),
            "conditions": (events_pb2.ConditionUpdated, condition.put_condition),
        }
        self.handlers: dict[str, Handler] = {
            topic: self._handler(*method) for topic, method in methods.items()
        }

    def _handler(self, kind: type[Message], method: _Method) -> Handler:
        """Hands the request inside an event to a service."""

        async def handle(message: InMessage) -> None:
            request, started = self._read(kind, message), time.monotonic()

            def count(*, is_ok: bool) -> None:
                identity = topic(self._tenant_id, message.topic)
                seconds = time.monotonic() - started
                self._usage.count(identity, _METHODS[message.topic], request, seconds, is_ok=is_ok)

            try:
                with tracing.request(message.topic, parent=message.trace_id) as trace:
                    call = self._call(message, trace.traceparent)
                    await method(call, request)
            except DuplicateEvent:
                return
            except Exception as error:
                if getattr(error, "reason", "") == four_eyes.REQUIRED:
                    return count(is_ok=False)  # it has become a proposal
                failure = _failure(error)
                if failure is error:
                    raise
                if isinstance(failure, Refused):  # any other is tried again
                    count(is_ok=False)
                raise failure from error
            count(is_ok=True)

        return handle

    async def given_up(self, message: InMessage, error: Exception) -> None:
        """Answers a sizing request that is on the dead-letter topic, once; waits for the database.

        In the portfolio's own stream, so that it comes in the order of its other events.
        """
        if message.topic != "signals":
            return
        try:
            request = self._read(events_pb2.SignalsSubmitted, message)
        except Refused:
            return  # unreadable, so there is nobody to answer
        n_failures = 0
        while True:
            try:
                return await self._answer(message, _refused(request, error))
            except DuplicateEvent:
                return
            except Unavailable:
                await asyncio.sleep(_BACKOFF.delay_s(n_failures, random.Random()))
                n_failures += 1

    async def _answer(self, message: InMessage, refused: events_pb2.SignalsRefused) -> None:
        payload, call = refused.SerializeToString(), self._call(message)
        event = NewEvent(
            "position-sized", "SignalsRefused", lambda _: payload, trace_id=call.trace_id
        )
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await first_delivery(connection, call)
            try:
                await outbox.append(connection, call.tenant_id, refused.portfolio_id, [event])
            except NotFound:
                await outbox.append(connection, call.tenant_id, "", [event])

    def _read(self, kind: type[Message], message: InMessage) -> Any:
        """The request in a message, with the event's id where it needs one and has none."""
        _check_properties(message, self._tenant_id, kind.DESCRIPTOR.name)
        try:
            event: Any = kind.FromString(message.payload)
        except DecodeError as error:
            raise Refused("UNDECODABLE", f"the payload is no {kind.DESCRIPTOR.name}") from error
        if not event.HasField("request"):  # an empty one would take all limits of the firm away
            raise Refused("MISSING", "request: must be given")
        request = event.request
        with_usual_ids(request)
        if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
            request.request_id = str(UUID(message.event_id))
        if "validate_only" in request.DESCRIPTOR.fields_by_name:
            request.validate_only = False
        return request

    def _call(self, message: InMessage, traceparent: str = "") -> Call:
        return Call(
            identity=topic(self._tenant_id, message.topic),
            deadline=time.monotonic() + DEADLINE_S,
            trace_id=traceparent or message.trace_id,
            event=(message.topic, _inbox_id(message)),
        )


def _check_properties(message: InMessage, tenant_id: str, event_type: str) -> None:
    """What a message says of itself. Raises `Refused`."""
    if message.tenant_id != tenant_id:
        raise Refused("UNKNOWN_TENANT", f"tenant {message.tenant_id[:128]!r} is not served here")
    if message.event_type != event_type:
        text = f"event_type is {message.event_type[:128]!r}, not {event_type!r}"
        raise Refused("WRONG_EVENT_TYPE", text)
    version = message.properties.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        text = f"schema_version is {version[:40]!r}; this release reads {SCHEMA_VERSION!r}"
        raise Refused("UNKNOWN_SCHEMA_VERSION", text)
    try:
        UUID(message.event_id)
    except ValueError:
        text = f"event_id is {message.event_id[:50]!r}; it must be a UUID"
        raise Refused("BAD_EVENT_ID", text) from None


def _inbox_id(message: InMessage) -> str:
    """What an event is remembered by.

    A request that was refused has had its answer, and a second delivery gets no other. Published
    again from the dead-letter topic it is a new attempt; its request id still works only once.
    """
    event_id = str(UUID(message.event_id))
    letter = message.properties.get("dead_letter_message_id", "")
    return f"{event_id}/{letter[:128]}" if letter and message.topic == "signals" else event_id


def _failure(error: Exception) -> Exception:
    """What a failure means to the consumer: wait, try again a few times, or give it up."""
    refusal = refusal_of(error)
    if refusal is None or refusal.reason in _MAY_PASS:
        return error
    if refusal.code in _WAITS:
        return Unavailable(refusal.message)
    return Refused(refusal.reason, refusal.message)


def _refused(request: Any, error: Exception) -> events_pb2.SignalsRefused:
    """The answer to a request that was given up for an error as `_failure` made it."""
    cause = error.__cause__
    refusal = refusal_of(cause if isinstance(cause, Exception) else error)
    if refusal is None and isinstance(error, Refused):  # by the consumer itself
        refusal = Refusal(grpc.StatusCode.ABORTED, error.reason, str(error))
    if refusal is None:
        text = "an unexpected error; the service's log has the details"
        refusal = Refusal(grpc.StatusCode.INTERNAL, "INTERNAL", text)
    return events_pb2.SignalsRefused(
        request_id=request.request_id,
        portfolio_id=request.portfolio_id,
        code=refusal.code.name,
        reason=refusal.reason,
        message=refusal.message[:500],
    )
