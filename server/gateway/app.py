"""The gateway: takes calls over HTTP, makes them over gRPC, and answers in the form of the call.

It owns no credential: what is in `authorization` goes on to the server, which alone decides. Pages
of other origins than its own get no answer, but of those that it is told.
"""

import contextlib
import json
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from server.calls.contract import SERVICES
from server.gateway import connect, forms, grpc_web
from server.gateway.bodies import Bodies, Body, BodyLimits, drain
from server.gateway.connect import Refused, WireError
from server.gateway.forms import Form
from server.hosts import is_loopback

TIMEOUT_DEFAULT_S, TIMEOUT_MAX_S = 30.0, 600.0
RECEIVE_LIMIT = "sizing-max-response-bytes"
_PASSED = ("authorization", "traceparent", "tracestate", RECEIVE_LIMIT)
"""Headers that go on to the server as metadata."""
_FROM_PAGES = (
    *_PASSED,
    *(connect.TIMEOUT, "connect-protocol-version"),
    *(grpc_web.TIMEOUT, "x-grpc-web", "x-user-agent"),
    "content-type",
)
"""Headers that pages of named origins may send; the last of each protocol say nothing here."""
_SAFE = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
_OPEN = "the server behind answers strangers: the gateway may then listen on loopback only"


@dataclass(frozen=True)
class GatewaySettings:
    """How a gateway works; `host` is where it listens, `origins` whose pages may call."""

    host: str
    origins: tuple[str, ...] = ()
    body: BodyLimits = field(default_factory=BodyLimits)
    answer_bytes_max: int = 64 << 20


def methods() -> dict[str, MethodDescriptor]:
    """Every method that can be called, by path: all of the contract, and health but for watching,
    which never ends and asks for no credential.
    """
    health = health_pb2.DESCRIPTOR.services_by_name["Health"]
    return {
        f"/{service.full_name}/{method.name}": method
        for service in (*SERVICES.values(), health)
        for method in service.methods
        if not (service is health and method.server_streaming)
    }


def gateway(open_channel: Callable[[], grpc.aio.Channel], settings: GatewaySettings) -> Starlette:
    """The application; `open_channel` connects to the server, in the loop that serves."""
    made = _Gateway(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        async with open_channel() as channel:
            made.channel = channel
            yield

    pages = Middleware(
        CORSMiddleware,
        allow_origins=settings.origins,
        allow_methods=["POST"],
        allow_headers=_FROM_PAGES,
        expose_headers=["retry-after"],
    )
    return Starlette(
        lifespan=lifespan,
        middleware=[pages] if settings.origins else [],
        routes=[
            Route("/livez", made.alive, methods=["GET"]),
            Route("/readyz", made.ready, methods=["GET"]),
            Route("/{service}/{method}", made.call, methods=["POST"]),
        ],
    )


class _Gateway:
    """Answers requests; knows by itself only which methods there are."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.channel: grpc.aio.Channel | None = None
        self._settings = settings
        self._methods = methods()
        self._bodies = Bodies(settings.body)
        self._is_closed: bool | None = None
        """Whether the server asks for credentials; None: not known yet."""

    async def alive(self, request: Request) -> Response:
        """This process works."""
        del request
        return Response("ok\n", headers=_SAFE, media_type="text/plain")

    async def ready(self, request: Request) -> Response:
        """The server behind serves."""
        del request
        answer = health_pb2.HealthCheckResponse()
        with contextlib.suppress(grpc.aio.AioRpcError):
            path, content = "/grpc.health.v1.Health/Check", b""
            answer = health_pb2.HealthCheckResponse.FromString(
                await self._rpc(path, content, 2.0, [])
            )
        is_serving = answer.status == health_pb2.HealthCheckResponse.SERVING
        text = "ok\n" if is_serving else "the sizing service does not serve\n"
        status = 200 if is_serving else 503
        return Response(text, status, headers=_SAFE, media_type="text/plain")

    async def call(self, request: Request) -> Response:
        """One call."""
        form = forms.JSON  # of refusals before it is known what the caller speaks
        body = self._bodies.begin()
        try:
            self._check_origin(request)
            method = self._method(request)
            form = _form(request, method)
            return await self._answer(request, method, form, body)
        except WireError as error:
            await drain(request)
            return _refusal(error, form)
        except ClientDisconnect:
            return Response(status_code=499)
        finally:
            body.release()

    def _method(self, request: Request) -> MethodDescriptor:
        if found := self._methods.get(request.url.path):
            return found
        text = f"there is no method {request.url.path}"
        code = grpc.StatusCode.UNIMPLEMENTED
        raise Refused(code, "NO_SUCH_METHOD", text, http_status=404).error()

    async def _answer(
        self, request: Request, method: MethodDescriptor, form: Form, body: Body
    ) -> Response:
        timeout_s = _timeout(request, is_stream=method.server_streaming)
        content = form.read(await body.read(request))
        if form.is_json:
            message = connect.parse(content, GetMessageClass(method.input_type)())
            content = message.SerializeToString()
        metadata = [(name, request.headers[name]) for name in _PASSED if name in request.headers]
        if RECEIVE_LIMIT not in request.headers:
            metadata.append((RECEIVE_LIMIT, str(self._settings.answer_bytes_max)))
        path = request.url.path
        try:
            await self._check_closed()
            if method.server_streaming:
                answers = self._stream(path, content, timeout_s, metadata)
                frames = _frames(answers, method, form)
                return StreamingResponse(frames, headers=_SAFE, media_type=form.media)
            answer = await self._rpc(path, content, timeout_s, metadata)
        except grpc.aio.AioRpcError as error:
            raise connect.of_rpc(error) from error
        written = _written(answer, method, form)
        if form.is_framed:
            written = form.frame(written) + form.last_frame(None)
        return Response(written, headers=_SAFE, media_type=form.media)

    async def _rpc(
        self, path: str, content: bytes, timeout_s: float | None, metadata: list[tuple[str, str]]
    ) -> bytes:
        assert self.channel is not None, "called while the application runs"
        call: Any = self.channel.unary_unary(path)
        answer: bytes = await call(content, timeout=timeout_s, metadata=metadata)
        return answer

    def _stream(
        self, path: str, content: bytes, timeout_s: float | None, metadata: list[tuple[str, str]]
    ) -> AsyncIterable[bytes]:
        assert self.channel is not None, "called while the application runs"
        call: Any = self.channel.unary_stream(path)
        answers: AsyncIterable[bytes] = call(content, timeout=timeout_s, metadata=metadata)
        return answers

    async def _check_closed(self) -> None:
        """A gateway that others reach must not open a server that trusts its own machine."""
        if is_loopback(self._settings.host) or self._is_closed:
            return
        try:
            path = "/positionsizing.v1.PortfolioService/ListPortfolios"
            await self._rpc(path, b"", 5.0, [])
            self._is_closed = False
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise
            self._is_closed = True
        if not self._is_closed:
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, "SERVER_IS_OPEN", _OPEN).error()

    def _check_origin(self, request: Request) -> None:
        """Pages of other origins, and other names of this machine, are turned away."""
        host = request.headers.get("host", "")
        origin = request.headers.get("origin")
        is_named = origin in self._settings.origins
        is_foreign = origin is not None and not is_named and origin.partition("://")[2] != host
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if is_foreign or (is_loopback(self._settings.host) and not is_loopback(name)):
            text = "pages of other origins are not answered"
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, "FOREIGN_ORIGIN", text).error()


def _form(request: Request, method: MethodDescriptor) -> Form:
    if request.headers.get("content-encoding", "identity") != "identity":
        code, text = grpc.StatusCode.INVALID_ARGUMENT, "send the body as it is, not compressed"
        raise Refused(code, "UNSUPPORTED_CONTENT", text, http_status=415).error()
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return forms.form_of(media, is_stream=method.server_streaming)


def _timeout(request: Request, *, is_stream: bool) -> float | None:
    """Seconds until the deadline that the caller sets; streams without one have none."""
    timeout_s: float | None = None if is_stream else TIMEOUT_DEFAULT_S
    for protocol in (grpc_web, connect):
        if (text := request.headers.get(protocol.TIMEOUT)) is not None:
            timeout_s = protocol.timeout_s(text)
    if timeout_s == 0.0:  # gRPC says now that it is too late, now that nobody is there
        text = "the caller gave no time"
        raise Refused(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE", text, http_status=504).error()
    return timeout_s if is_stream or timeout_s is None else min(timeout_s, TIMEOUT_MAX_S)


def _refusal(error: WireError, form: Form) -> Response:
    """An error in the form of the call; frames say it in the last one, under status 200."""
    headers = dict(_SAFE)
    if error.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_s))
    if form.is_framed:
        return Response(form.last_frame(error), headers=headers, media_type=form.media)
    body = json.dumps(error.document).encode()
    return Response(body, error.http_status, headers=headers, media_type=forms.JSON.media)


async def _frames(
    answers: AsyncIterable[bytes], method: MethodDescriptor, form: Form
) -> AsyncIterator[bytes]:
    """A stream of answers as it is written, with how it ended."""
    error: WireError | None = None
    try:
        async for answer in answers:
            yield form.frame(_written(answer, method, form))
    except grpc.aio.AioRpcError as failed:
        error = connect.of_rpc(failed)
    except WireError as failed:
        error = failed
    yield form.last_frame(error)


def _written(answer: bytes, method: MethodDescriptor, form: Form) -> bytes:
    """An answer of the server in the form of the call, not framed yet."""
    if not form.is_json:
        return answer
    try:
        message = GetMessageClass(method.output_type).FromString(answer)
    except DecodeError as error:
        text = "the server's answer can't be decoded: is it of another release?"
        raise Refused(grpc.StatusCode.INTERNAL, "UNDECODABLE", text).error() from error
    return connect.render(message)
