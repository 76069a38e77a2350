"""The gateway's framed forms, byte by byte: gRPC-Web and Connect's streams.

That clients of others understand them is held in `tests/clients/test_web.py`.
"""

import asyncio
import base64
import contextlib
import http.client
import json
import time
from urllib.parse import unquote

import pytest
from google.rpc import error_details_pb2, status_pb2
from positionsizing.v1 import portfolio_service_pb2, simulation_service_pb2

from server.app import App
from tests.server.gateway.test_gateway import PORTFOLIOS, SIZING, Answer, Gateway, gateway_for
from tests.server.gateway.test_gateway import gateway as gateway  # the fixture
from tests.server.jobs.test_jobs import workers
from tests.server.simulation.test_backtests import momentum, table
from tests.server.support.service_client import Client

LIST = f"{PORTFOLIOS}/ListPortfolios"
FOLLOW = "/positionsizing.v1.SimulationService/FollowSimulation"
WEB, TEXT = "application/grpc-web+proto", "application/grpc-web-text"
STREAM = "application/connect+proto"
STREAM_JSON = "application/connect+json"


def framed(message: bytes, flags: int = 0) -> bytes:
    return bytes([flags]) + len(message).to_bytes(4, "big") + message


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """Flags and content of each frame."""
    found = []
    while body:
        size = int.from_bytes(body[1:5], "big")
        assert len(body) >= 5 + size
        found.append((body[0], body[5 : 5 + size]))
        body = body[5 + size :]
    return found


def trailers(content: bytes) -> dict[str, str]:
    assert content.endswith(b"\r\n")
    return dict(line.split(": ", 1) for line in content.decode("ascii").splitlines())


async def told(gateway: Gateway, path: str, body: bytes, media: str = WEB) -> dict[str, str]:
    """The trailers of a call by gRPC-Web that has no answer."""
    answer = await gateway.ask(path, body, content_type=media)
    assert (answer.status, answer.headers["content-type"]) == (200, media)
    ((flags, content),) = frames(answer.body)
    assert flags == 0x80
    return trailers(content)


@pytest.mark.parametrize("media", [WEB, "application/grpc-web", TEXT, f"{TEXT}+proto"])
async def test_a_call_by_grpc_web_has_its_answer_and_then_its_end(
    client: Client, gateway: Gateway, media: str
) -> None:
    portfolio_id = await client.put_portfolio(1e6)
    request = portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    body, is_text = framed(request.SerializeToString()), "text" in media
    answer = await gateway.ask(
        f"{PORTFOLIOS}/GetPortfolio",
        base64.b64encode(body) if is_text else body,
        content_type=media,
    )
    assert (answer.status, answer.headers["content-type"]) == (200, media)
    # Frames are encoded one by one, each with its own padding, as PROTOCOL-WEB.md allows.
    content = answer.body
    if is_text:
        parts = content.replace(b"=", b"= ").replace(b"= =", b"==").split()
        content = b"".join(base64.b64decode(part) for part in parts)
    (flags, message), (last, end) = frames(content)
    assert (flags, last) == (0, 0x80)
    assert trailers(end) == {"grpc-status": "0"}
    found = portfolio_service_pb2.GetPortfolioResponse.FromString(message)
    assert found == await client.portfolio.GetPortfolio(request)


async def test_an_error_by_grpc_web_is_in_its_trailers_with_its_details(gateway: Gateway) -> None:
    request = portfolio_service_pb2.GetPortfolioRequest(portfolio_id="Zürich 100 %")
    found = await told(gateway, f"{PORTFOLIOS}/GetPortfolio", framed(request.SerializeToString()))
    assert found["grpc-status"] == "3"
    assert "Z%C3%BCrich 100 %25" in found["grpc-message"]
    packed = found["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
    assert unquote(found["grpc-message"]) == status.message
    reason = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(reason)
    assert reason.reason == "BAD_FORMAT"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no frame"),
        (b"\0\0\0", "no frame"),
        (framed(b"", 1), "compressed"),
        (framed(b"", 0x80), "one frame"),
        (framed(b"abc")[:-1], "one frame: its length is 3, 2 follow"),
        (framed(b"abc") + b"d", "one frame"),
        (framed(b"") * 2, "one frame"),
        (b"\0\xff\xff\xff\xff", "one frame"),
    ],
)
async def test_a_body_that_is_not_one_frame_is_refused(
    gateway: Gateway, body: bytes, says: str
) -> None:
    found = await told(gateway, LIST, body)
    assert found["grpc-status"] == "3"
    assert says in unquote(found["grpc-message"])
    stream = await gateway.ask(FOLLOW, body, content_type=STREAM_JSON)
    ((flags, end),) = frames(stream.body)
    assert (stream.status, flags) == (200, 2)
    assert says in json.loads(end)["error"]["message"]


async def test_what_is_no_form_of_the_call_is_refused_with_those_that_are(
    gateway: Gateway,
) -> None:
    for path, media, says in (
        (LIST, STREAM_JSON, "one answer has content-type application/json, application/proto,"),
        (FOLLOW, "application/json", "answers has content-type application/connect+json,"),
        (LIST, "application/grpc", "one answer has content-type"),
        (LIST, "", "one answer has content-type"),
    ):
        answer = await gateway.ask(path, b"", content_type=media)
        assert (answer.status, answer.reason) == (415, "UNSUPPORTED_CONTENT")
        assert says in answer.json["message"]
    text = await gateway.ask(LIST, b"!!", content_type=TEXT)
    ((_, end),) = frames(base64.b64decode(text.body))
    assert trailers(end)["grpc-message"] == "the body is not base64"
    for given in ("30", "S", "-1S", "123456789S", "1 S", "1x", ""):
        answer = await gateway.ask(LIST, framed(b""), content_type=WEB, grpc_timeout=given)
        ((_, end),) = frames(answer.body)
        assert "30S" in unquote(trailers(end)["grpc-message"])


async def test_json_in_a_stream_is_read_as_strictly_as_elsewhere(gateway: Gateway) -> None:
    for given, reason in (({"simulate": {}}, "UNKNOWN_FIELD"), ({}, "MISSING")):
        answer = await gateway.ask(
            FOLLOW, framed(json.dumps(given).encode()), content_type=STREAM_JSON
        )
        *_, (flags, end) = frames(answer.body)
        error = json.loads(end)["error"]
        assert (flags, error["code"]) == (2, "invalid_argument")
        assert error["details"][0]["debug"]["reason"] == reason


def minutes_of_work() -> bytes:
    work = simulation_service_pb2.RunBacktestRequest(
        prices=table(700), settings=[momentum("a", 0.5)] * 64
    )
    request = simulation_service_pb2.FollowSimulationRequest(run_backtest=work)
    return framed(request.SerializeToString())


@pytest.mark.parametrize(
    ("media", "header", "says"),
    [
        (WEB, {"grpc_timeout": "2S"}, b"grpc-status: 4\r\n"),
        (STREAM, {"connect_timeout_ms": "2000"}, b'"deadline_exceeded"'),
    ],
)
async def test_a_stream_ends_at_its_deadline_and_says_so(
    gateway: Gateway, media: str, header: dict[str, str], says: bytes
) -> None:
    answer = await gateway.ask(FOLLOW, minutes_of_work(), content_type=media, **header)
    *_, (_, end) = frames(answer.body)
    assert answer.status == 200
    assert says in end


async def test_a_stream_that_its_caller_leaves_ends_its_work(app: App, gateway: Gateway) -> None:
    del app
    before = set(workers())

    def leave_when_it_works() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", FOLLOW, minutes_of_work(), {"content-type": WEB})
            assert connection.getresponse().read(5) == b"\0" * 5, "nothing is known at first"
            while not set(workers()) - before:
                time.sleep(0.05)

    await asyncio.to_thread(leave_when_it_works)
    while set(workers()) - before:  # noqa: ASYNC110  (a process tells nobody)
        await asyncio.sleep(0.05)


async def test_pages_of_named_origins_are_answered_and_no_others(app: App) -> None:
    page = "https://desk.example"
    async with gateway_for(app.port, "--origin", page) as named:

        async def asked(origin: str, headers: str) -> Answer:
            return await named.ask(
                f"{SIZING}/SizePositions",
                verb="OPTIONS",
                origin=origin,
                access_control_request_method="POST",
                access_control_request_headers=headers,
            )

        allowed = await asked(page, "authorization, content-type, x-grpc-web, grpc-timeout")
        assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, page)
        assert "access-control-allow-credentials" not in allowed.headers
        assert (await asked("https://evil.example", "content-type")).status == 400
        assert (await asked(page, "x-other")).status == 400
        answer = await named.ask(LIST, {}, origin=page)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, page)
        assert (await named.ask(LIST, {}, origin="https://evil.example")).status == 403
        assert (await named.ask(LIST, {}, origin="null")).status == 403
