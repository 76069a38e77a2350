"""Binds services to gRPC: decoding, the caller's identity and deadline, errors, bytes as they are.

Handlers are built from the service descriptors, so an answer that is already encoded (a stored one)
leaves byte for byte. A handler is a coroutine method named as in the contract, in snake case, that
takes a `Call` and the request and returns a message or bytes.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from server import profile, tracing
from server.admission import Admission, Ticket
from server.auth.gate import Gate
from server.auth.identity import Identity
from server.batching import late
from server.errors import Refusal, invalid, refusal_of
from server.reading import bytes_receivable, check_bytes
from server.request_context import Call
from server.telemetry import Telemetry
from server.tracing import Trace
from storage.errors import is_foreign_cancellation

_log = structlog.get_logger(__name__)

URGENT = frozenset({"SetTradingState", "GetTradingState"})
"""Methods that are never refused for overload."""

Handler = Callable[[Call, Any], Awaitable[Message | bytes]]


def bind(
    server: grpc.aio.Server,
    service: ServiceDescriptor,
    implementation: object,
    *,
    gate: Gate,
    deadline_default_s: float,
    admission: Admission,
    telemetry: Telemetry,
    bytes_max: int,
) -> None:
    """Adds every method of `service`, served by `implementation`, to the server."""
    handlers: dict[str, Any] = {}
    for method in service.methods:
        handler = getattr(implementation, _snake(method.name))
        endpoint = _Endpoint(
            method, handler, gate, deadline_default_s, admission, telemetry, bytes_max
        )
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
        try:
            given_s = context.time_remaining()
            left_s = self._deadline_default_s if given_s is None else given_s
            ticket = self._admission.enter(left_s, is_urgent=self._name in URGENT)
            with profile.span("admit: identity, decoding, access"):
                identity = self._gate.identify(context.invocation_metadata())
                request = self._decode(data)
                self._gate.check(self._access, identity, request)
            call = self._call(identity, started + left_s, context, ticket, trace)
            async with asyncio.timeout(
                None if given_s is not None else left_s
            ):  # else gRPC ends it
                with profile.span("answer"):
                    answer = _encode(await self._handler(call, request))
            check_bytes(len(answer), call.bytes_max)
            return answer
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not is_foreign_cancellation(error):
                code = "CANCELLED"
                raise
            refusal = self._refusal(error)
            code = refusal.code.name
            self._telemetry.refused(refusal.reason)
            if refusal.retry_after_s is not None:
                pushback = str(int(refusal.retry_after_s * 1000))
                context.set_trailing_metadata((("grpc-retry-pushback-ms", pushback),))
            await context.abort_with_status(rpc_status.to_status(refusal.status()))
        finally:
            if ticket is not None:
                self._admission.leave(ticket)
            trace.ended(code)
            self._telemetry.answered(self._name, code, time.monotonic() - started)

    def _decode(self, data: bytes) -> Message:
        try:
            return self._message.FromString(data)
        except DecodeError as error:
            text = "is not a message of this method"
            raise invalid("request", "UNDECODABLE", text) from error

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
