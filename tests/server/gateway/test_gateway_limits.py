"""What strangers may take of the gateway: time, bytes, and an answer that is read."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from server.gateway.app import GatewaySettings, gateway
from server.gateway.bodies import BodyLimits
from server.gateway.patience import LimitedProtocol

LIST = "/positionsizing.v1.PortfolioService/ListPortfolios"
NOBODY = "127.0.0.1:9"


class Sent:
    """A request whose body comes in pieces; None is one that never comes."""

    def __init__(self, pieces: Sequence[bytes | None], **headers: str) -> None:
        self._left = list(pieces)
        self._headers = {"host": "127.0.0.1", "content_type": "application/json"} | headers
        self.status, self.told = 0, b""
        self.headers: dict[str, str] = {}

    @property
    def unread(self) -> int:
        return len(self._left)

    @property
    def reason(self) -> str:
        details = json.loads(self.told)["details"]
        return next(d["debug"]["reason"] for d in details if d["type"] == "google.rpc.ErrorInfo")

    async def receive(self) -> dict[str, Any]:
        piece = self._left.pop(0) if self._left else b""
        if piece is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": piece, "more_body": bool(self._left)}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            self.told += message.get("body", b"")

    async def to(self, app: Starlette) -> "Sent":
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": LIST,
            "raw_path": LIST.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
            "headers": [
                (name.replace("_", "-").encode(), value.encode())
                for name, value in self._headers.items()
            ],
        }
        await app(scope, self.receive, self.send)
        return self


@pytest.fixture
def app_of() -> Callable[..., Starlette]:
    def made(**limits: Any) -> Starlette:
        return gateway(
            lambda: grpc.aio.insecure_channel(NOBODY),
            GatewaySettings("127.0.0.1", body=BodyLimits(**limits)),
        )

    return made


async def test_a_body_that_does_not_come_is_given_up(app_of: Callable[..., Starlette]) -> None:
    sent = await Sent([b"{", None]).to(app_of(seconds_max=0.1))
    assert (sent.status, sent.reason) == (408, "DEADLINE")


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 413), ({"content_type": "text/plain"}, 415), ({"origin": "https://evil.example"}, 403)],
)
async def test_what_is_refused_is_read_to_its_end_so_that_the_answer_is_read(
    app_of: Callable[..., Starlette], headers: dict[str, str], status: int
) -> None:
    sent = await Sent([b" " * 1000] * 50, **headers).to(app_of(bytes_max=1500))
    assert (sent.status, sent.unread) == (status, 0)


async def test_a_body_without_end_is_not_read_to_its_end(app_of: Callable[..., Starlette]) -> None:
    sent = await Sent([b" " * (8 << 20)] * 20).to(app_of())
    assert sent.status == 413
    assert sent.unread > 5, "64 MiB and no more"


async def test_bodies_of_all_share_their_room_and_give_it_back(
    app_of: Callable[..., Starlette],
) -> None:
    app = app_of(seconds_max=2.0, all_bytes_max=2500)
    waiting = [asyncio.create_task(Sent([b" " * 1000, None]).to(app)) for _ in range(2)]
    await asyncio.sleep(0.05)
    third = await Sent([b" " * 1000, b"[]"]).to(app)
    assert (third.status, third.reason, third.headers["retry-after"]) == (503, "OVERLOADED", "1")
    assert {(await one).status for one in waiting} == {408}
    after = await Sent([b" " * 1000, b"[]"]).to(app)
    assert (after.status, after.reason) == (400, "UNDECODABLE")


class Impatient(LimitedProtocol):
    head_s = 0.3


@pytest.mark.parametrize(
    "begins", [b"", b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGE"]
)
async def test_a_connection_is_closed_whose_request_does_not_begin(begins: bytes) -> None:
    async def answer(request: Any) -> Response:
        del request
        return Response("ok")

    app = Starlette(routes=[Route("/", answer)])
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=Impatient, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(begins)
    began = time.monotonic()
    read = await asyncio.wait_for(reader.read(), 20.0)
    assert time.monotonic() - began >= 0.2
    assert read.startswith(b"HTTP/1.1 200") == begins.startswith(b"GET")
    writer.close()
    server.should_exit = True
    await serving
