"""Binds services to gRPC: decoding, the caller's identity and deadline, errors, bytes as they are.

Handlers are built from the service descriptors, so an answer that is already encoded (a stored one)
leaves byte for byte. A handler is a coroutine method named as in the contract, in snake case, that
takes a `Call` and the request and returns a message or bytes; of a method that is answered by a
stream, an asynchronous generator of messages, or of None where there is nothing new.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from server.auth.closed import Peer
from server.auth.gate import Gate
from server.auth.identity import Identity
from server.calls.admission import Admission, Ticket
from server.calls.batching import late
from server.calls.errors import Refusal, invalid, refusal_of
from server.calls.reading import bytes_receivable, check_bytes
from server.calls.request_context import Call
from server.convert.names import with_usual_ids
from server.observability import profile, tracing
from server.observability.telemetry import Telemetry
from server.observability.tracing import Trace
from server.observability.usage import Usage
from storage.errors import is_foreign_cancellation

_log = structlog.get_logger(__name__)

URGENT = frozenset({"SetTradingState", "GetTradingState"})
"""Methods that are never refused for overload."""

STREAM_S = 86400.0
"""A stream whose caller names no deadline ends by then."""

Handler = Callable[[Call, Any], Any]
"""An awaitable answer, or an asynchronous iterator of answers."""


def bind(
    server: grpc.aio.Server,
    service: ServiceDescriptor,
    implementation: object,
    *,
    gate: Gate,
    deadline_default_s: float,
    admission: Admission,
    telemetry: Telemetry,
    usage: Usage,
    bytes_max: int,
) -> None:
    """Adds every method of `service`, served by `implementation`, to the server."""
    handlers: dict[str, Any] = {}
    for method in service.methods:
        handler = getattr(implementation, _snake(method.name))
        endpoint = _Endpoint(
            method, handler, gate, deadline_default_s, admission, telemetry, usage, bytes_max
        )
        if method.server_streaming:
            handlers[method.name] = grpc.unary_stream_rpc_method_handler(
                endpoint.stream, request_deserializer=None, response_serializer=_encode
            )
            continue
        handlers[method.name] = grpc.unary_unary_rpc_method_handler(
            endpoint.serve,
            request_deserializer=None,
            response_serializer=_encode,
        )
    generic = grpc.method_handlers_generic_handler(service.full_name, handlers)
    server.add_generic_rpc_handlers((generic,))


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _encode(answer: Message | bytes) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _stopping() -> Refusal:
    text = "the service is stopping; ask another replica"
    return Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING", text, retry_after_s=0.5)


class _Endpoint:
    """One method: identity, access, deadline and errors around its handler."""

    def __init__(
        self,
        method: MethodDescriptor,
        handler: Handler,
        gate: Gate,
        deadline_default_s: float,
        admission: Admission,
        telemetry: Telemetry,
        usage: Usage,
        bytes_max: int,
    ) -> None:
        self._bytes_max = bytes_max
        self._name = method.name
        self._handler = handler
        self._message = GetMessageClass(method.input_type)
        self._gate = gate
        assert method.containing_service is not None
        self._access = gate.access[f"/{method.containing_service.full_name}/{method.name}"]
        self._deadline_default_s = deadline_default_s
        self._admission = admission
        self._telemetry = telemetry
        self._usage = usage

    async def serve(self, data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        metadata = dict(context.invocation_metadata() or ())
        parent = str(metadata.get("traceparent", ""))
        with tracing.request(self._name, parent=parent) as trace, profile.begun(metadata) as found:
            answer = await self._answered(data, context, trace)
        if found is not None:
            context.set_trailing_metadata(((profile.ANSWER, found.encoded()),))
        return answer

    async def _answered(
        self, data: bytes, context: grpc.aio.ServicerContext[Any, Any], trace: Trace
    ) -> Any:
        started = time.monotonic()
        code = "OK"
        ticket: Ticket | None = None
        known: tuple[Identity, Message] | None = None
        try:
            given_s = context.time_remaining()
            left_s = self._deadline_default_s if given_s is None else given_s
            ticket = self._admission.enter(left_s, is_urgent=self._name in URGENT)
            with profile.span("admit: identity, decoding, access"):
                identity, request = known = self._checked(data, context)
            call = self._call(identity, started + left_s, context, ticket, trace)
            async with asyncio.timeout(
                None if given_s is not None else left_s
            ):  # else gRPC ends it
                with profile.span("answer"):
                    answer = _encode(await self._handler(call, request))
            check_bytes(len(answer), call.bytes_max)
            return answer
        except (Exception, asyncio.CancelledError) as error:
            code = "CANCELLED"
            refusal = self._told(error)
            code = refusal.code.name
            await self._abort(context, refusal)
        finally:
            if ticket is not None:
                self._admission.leave(ticket)
            trace.ended(code)
            self._count(known, code, time.monotonic() - started)

    async def stream(
        self, data: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Message | bytes]:
        """A method that is answered by many messages.

        It is let in as others are, and counts as a call until its first message: then it waits for
        news, and the service may stop meanwhile. Its latency is that of the first message.
        """
        started = first = time.monotonic()
        code = "OK"
        ticket: Ticket | None = None
        known: tuple[Identity, Message] | None = None
        try:
            given_s = context.time_remaining()
            left_s = STREAM_S if given_s is None else given_s
            ticket = self._admission.enter(left_s)
            identity, request = known = self._checked(data, context)
            call = self._call(identity, started + left_s, context, ticket, Trace())
            async for message in self._handler(call, request):
                if ticket is not None:
                    self._admission.leave(ticket)
                    ticket, first = None, time.monotonic()
                if message is not None:
                    yield message
                if self._admission.is_draining:
                    raise _stopping()
        except (Exception, asyncio.CancelledError) as error:
            code = "CANCELLED"
            refusal = self._told(error)
            code = refusal.code.name
            await self._abort(context, refusal)
        finally:
            if ticket is not None:
                self._admission.leave(ticket)
            self._count(known, code, max(first - started, 0.0))

    def _count(self, known: tuple[Identity, Message] | None, code: str, seconds: float) -> None:
        """known: who asked and for what, None where that was not found out."""
        self._telemetry.answered(self._name, code, seconds)
        if known is not None:
            identity, request = known
            self._usage.count(identity, self._name, request, seconds, is_ok=code == "OK")

    def _checked(
        self, data: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> tuple[Identity, Message]:
        """Who asks, and for what, where that is allowed. Raises `Refusal`."""
        identity = self._identity(context)
        request = self._decode(data)
        self._gate.check(self._access, identity, request)
        return identity, request

    def _told(self, error: BaseException) -> Refusal:
        """What a call is ended with. Raises the error where the call itself was cancelled."""
        if isinstance(error, asyncio.CancelledError) and not is_foreign_cancellation(error):
            raise error
        return self._refusal(error)

    async def _abort(self, context: grpc.aio.ServicerContext[Any, Any], refusal: Refusal) -> None:
        self._telemetry.refused(refusal.reason)
        if refusal.retry_after_s is not None:
            pushback = str(int(refusal.retry_after_s * 1000))
            context.set_trailing_metadata((("grpc-retry-pushback-ms", pushback),))
        await context.abort_with_status(rpc_status.to_status(refusal.status()))

    def _identity(self, context: grpc.aio.ServicerContext[Any, Any]) -> Identity:
        peer = Peer(context.auth_context(), self._access)
        return self._gate.identify(context.invocation_metadata(), peer)

    def _decode(self, data: bytes) -> Message:
        try:
            request = self._message.FromString(data)
        except DecodeError as error:
            text = "is not a message of this method"
            raise invalid("request", "UNDECODABLE", text) from error
        with_usual_ids(request)
        return request

    def _call(
        self,
        identity: Identity,
        deadline: float,
        context: grpc.aio.ServicerContext[Any, Any],
        ticket: Ticket,
        trace: Trace,
    ) -> Call:
        metadata = dict(context.invocation_metadata() or ())
        return Call(
            identity,
            deadline,
            trace.traceparent,
            bytes_max=bytes_receivable(metadata, self._bytes_max),
            caller=f"{identity.tenant_id} {identity.subject} {context.peer()}",
            ticket=ticket,
        )

    def _refusal(self, error: BaseException) -> Refusal:
        known = late() if isinstance(error, TimeoutError) else refusal_of(error)
        if known is not None:
            return known
        _log.error("unexpected error", method=self._name, exc_info=error)
        return Refusal(
            grpc.StatusCode.INTERNAL, "INTERNAL", "an unexpected error; the log has the details"
        )
