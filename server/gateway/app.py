"""The gateway: takes JSON over HTTP, calls the server over gRPC, and answers JSON.

It owns no credential: what is in `authorization` goes on to the server, which alone decides. It is
for programs: a page of another origin gets no answer, as no header allows one.
"""

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from server.contract import SERVICES
from server.gateway import connect
from server.gateway.connect import Refused, WireError
from server.hosts import is_loopback

JSON, PROTO = "application/json", "application/proto"
TIMEOUT_DEFAULT_S, TIMEOUT_MAX_S = 30.0, 600.0
RECEIVE_LIMIT = "sizing-max-response-bytes"
_PASSED = ("authorization", "traceparent", "tracestate", RECEIVE_LIMIT)
"""Headers that go on to the server as metadata."""
_SAFE = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
_OPEN = "the server behind answers strangers: the gateway may then listen on loopback only"


@dataclass(frozen=True)
class GatewaySettings:
    """How a gateway works; `host` is where it listens."""

    host: str
    body_bytes_max: int = 16 << 20
    answer_bytes_max: int = 64 << 20


def methods() -> dict[str, MethodDescriptor]:
    """Every method that can be called, by path: all unary ones of the contract, and health."""
    health = health_pb2.DESCRIPTOR.services_by_name["Health"]
    return {
        f"/{service.full_name}/{method.name}": method
        for service in (*SERVICES.values(), health)
        for method in service.methods
        if not (method.client_streaming or method.server_streaming)
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

    return Starlette(
        lifespan=lifespan,
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
        try:
            return await self._call(request)
        except WireError as error:
            headers = dict(_SAFE)
            if error.retry_after_s is not None:
                headers["retry-after"] = str(math.ceil(error.retry_after_s))
            return Response(error.body, error.http_status, headers=headers, media_type=JSON)
        except ClientDisconnect:
            return Response(status_code=499)

    async def _call(self, request: Request) -> Response:
        self._check_origin(request)
        method = self._methods.get(request.url.path)
        if method is None:
            text = f"there is no method {request.url.path}"
            raise Refused(
                grpc.StatusCode.UNIMPLEMENTED, "NO_SUCH_METHOD", text, http_status=404
            ).error()
        media = _media(request)
        timeout_s = _timeout(request)
        content = await self._body(request)
        if media == JSON:
            message = connect.parse(content, GetMessageClass(method.input_type)())
            content = message.SerializeToString()
        metadata = [(name, request.headers[name]) for name in _PASSED if name in request.headers]
        if RECEIVE_LIMIT not in request.headers:
            metadata.append((RECEIVE_LIMIT, str(self._settings.answer_bytes_max)))
        try:
            await self._check_closed()
            answer = await self._rpc(request.url.path, content, timeout_s, metadata)
        except grpc.aio.AioRpcError as error:
            raise connect.of_rpc(error) from error
        if media == JSON:
            answer = connect.render(_decoded(method, answer))
        return Response(answer, headers=_SAFE, media_type=media)

    async def _rpc(
        self, path: str, content: bytes, timeout_s: float, metadata: list[tuple[str, str]]
    ) -> bytes:
        assert self.channel is not None, "called while the application runs"
        call: Any = self.channel.unary_unary(path)
        answer: bytes = await call(content, timeout=timeout_s, metadata=metadata)
        return answer

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
        is_foreign = origin is not None and origin.partition("://")[2] != host
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if is_foreign or (is_loopback(self._settings.host) and not is_loopback(name)):
            text = "pages of other origins are not answered"
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, "FOREIGN_ORIGIN", text).error()

    async def _body(self, request: Request) -> bytes:
        """The body, counted while it is read."""
        most, pieces, size = self._settings.body_bytes_max, [], 0
        async for piece in request.stream():
            size += len(piece)
            if size > most:
                text = f"the body is larger than {most} bytes"
                raise Refused(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE", text, http_status=413
                ).error()
            pieces.append(piece)
        return b"".join(pieces)


def _media(request: Request) -> str:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity")
    if given in (JSON, PROTO) and encoding == "identity":
        return given
    text = f"send content-type {JSON} or {PROTO}, not compressed"
    code = grpc.StatusCode.INVALID_ARGUMENT
    raise Refused(code, "UNSUPPORTED_CONTENT", text, http_status=415).error()


def _timeout(request: Request) -> float:
    """Seconds until the deadline that the caller sets (`connect-timeout-ms`)."""
    given: Mapping[str, str] = request.headers
    if (text := given.get("connect-timeout-ms")) is None:
        return TIMEOUT_DEFAULT_S
    if not (text.isascii() and text.isdecimal() and 1 <= len(text) <= 10):
        words = "connect-timeout-ms must be a number of milliseconds"
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_FORMAT", words).error()
    return min(int(text) / 1000, TIMEOUT_MAX_S)


def _decoded(method: MethodDescriptor, answer: bytes) -> Any:
    try:
        return GetMessageClass(method.output_type).FromString(answer)
    except DecodeError as error:
        text = "the server's answer can't be decoded: is it of another release?"
        raise Refused(grpc.StatusCode.INTERNAL, "UNDECODABLE", text).error() from error
