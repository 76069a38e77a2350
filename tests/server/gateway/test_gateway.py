"""A real gateway in front of a real server: JSON in, JSON out, errors with their details."""

import asyncio
import base64
import contextlib
import http.client
import json
import re
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.rpc import error_details_pb2
from positionsizing.v1 import market_service_pb2, portfolio_service_pb2, sizing_service_pb2

from compute.shapes import KernelRegistry
from server.app import App
from server.calls.contract import SERVICES
from server.gateway.app import methods
from storage import embedded
from tests.server.support.credentials import AUDIENCE, ISSUER, Issuer
from tests.server.support.service_client import Client, sizing_request, started

ROOT = Path(__file__).resolve().parents[3]
SIZING = "/positionsizing.v1.SizingService"
PORTFOLIOS = "/positionsizing.v1.PortfolioService"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        return self.detail("google.rpc.ErrorInfo")["debug"]["reason"]

    def detail(self, name: str) -> Any:
        return next(item for item in self.json["details"] if item["type"] == name)


class Gateway:
    """A gateway's address."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def ask(
        self, path: str, content: Any = b"", verb: str = "POST", **headers: str
    ) -> Answer:
        return await asyncio.to_thread(self._ask, path, content, verb, headers)

    def _ask(self, path: str, content: Any, verb: str, given: dict[str, str]) -> Answer:
        headers = {"content-type": "application/json"}
        headers |= {name.replace("_", "-"): value for name, value in given.items()}
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(verb, path, body, headers)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read())


@contextlib.asynccontextmanager
async def gateway_for(port: int, *options: str) -> AsyncIterator[Gateway]:
    """A gateway in a process of its own, for the server on a port."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server.cli", "gateway", "--port", "0"),
        *("--address", f"127.0.0.1:{port}", *options),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        found = re.match(r"gateway at http://[^ ]*:(\d+) for", line)
        assert found, line
        yield Gateway(int(found[1]))
    finally:
        process.terminate()
        await process.wait()


@pytest_asyncio.fixture(scope="module")
async def gateway(app: App) -> AsyncIterator[Gateway]:
    async with gateway_for(app.port) as running:
        yield running


def as_json(message: Any) -> Any:
    return json_format.MessageToDict(message)


async def test_a_call_says_what_grpc_says(client: Client, gateway: Gateway) -> None:
    portfolio_id = await client.ready()
    request = sizing_request(portfolio_id)
    answer = await gateway.ask(f"{SIZING}/SizePositions", as_json(request))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    told = json_format.ParseDict(answer.json, sizing_service_pb2.SizePositionsResponse())
    assert told.decision == await client.size(request), "the retry over gRPC gets the same"
    snake = json_format.MessageToDict(request, preserving_proto_field_name=True)
    assert (await gateway.ask(f"{SIZING}/SizePositions", snake)).json == answer.json


async def test_binary_messages_pass_as_they_are(client: Client, gateway: Gateway) -> None:
    portfolio_id = await client.ready()
    request = sizing_request(portfolio_id)
    answer = await gateway.ask(
        f"{SIZING}/SizePositions", request.SerializeToString(), content_type="application/proto"
    )
    assert answer.headers["content-type"] == "application/proto"
    told = sizing_service_pb2.SizePositionsResponse.FromString(answer.body)
    assert told.decision == await client.size(request)


async def test_an_error_keeps_its_code_reason_and_fields(client: Client, gateway: Gateway) -> None:
    portfolio_id = await client.ready()
    request = sizing_request(portfolio_id)
    request.all_or_nothing = True
    request.signals.win_probability[2] = 1.5
    answer = await gateway.ask(f"{SIZING}/SizePositions", as_json(request))
    assert answer.status == 400
    assert answer.json["code"] == "invalid_argument"
    assert answer.reason == "OUT_OF_RANGE"
    bad = answer.detail("google.rpc.BadRequest")
    assert bad["debug"]["fieldViolations"][0]["field"] == "signals.win_probability[2]"
    packed = base64.b64decode(bad["value"] + "=" * (-len(bad["value"]) % 4))
    field = error_details_pb2.BadRequest.FromString(packed).field_violations[0].field
    assert field == "signals.win_probability[2]"

    answer = await gateway.ask(f"{PORTFOLIOS}/GetPortfolio", {"portfolioId": "nobody"})
    assert (answer.status, answer.json["code"]) == (404, "not_found")
    request = sizing_request(await client.ready())
    await client.size(request)
    request.strategy_id = "other"
    answer = await gateway.ask(f"{SIZING}/SizePositions", as_json(request))
    assert (answer.status, answer.json["code"]) == (409, "aborted")


@pytest.mark.parametrize(
    ("content", "reason", "field"),
    [
        ({"portfolioId": "a", "weightMax": 1}, "UNKNOWN_FIELD", "weightMax"),
        ({"limits": {"weight_maximum": 0.1}}, "UNKNOWN_FIELD", "limits.weight_maximum"),
        ({"signals": {"edge": [1]}}, "UNKNOWN_FIELD", "signals.edge"),
        ({"portfolioId": 3}, "BAD_FORMAT", "portfolio_id"),
        ({"method": "KELLY"}, "UNKNOWN_VALUE", "method"),
        ({"signals": {"side": ["SIDE_LONG", "LONG"]}}, "UNKNOWN_VALUE", "signals.side[1]"),
        ({"signals": {"side": "SIDE_LONG"}}, "BAD_FORMAT", "signals.side"),
        ({"signals": {"payoff": [0.1] * 5 + ["a", 0.1]}}, "BAD_FORMAT", "signals.payoff[5]"),
        (b'{"signals": {"payoff": [0.1, 1e400]}}', "BAD_FORMAT", "signals.payoff[1]"),
        ({"signals": [1]}, "BAD_FORMAT", "signals"),
        ({"reservationTtl": "a day"}, "BAD_FORMAT", "reservation_ttl"),
        ({"limits": {"groups": [{}, {"sector": 1}]}}, "BAD_FORMAT", "limits.groups[1].sector"),
        ({"validateOnly": "yes"}, "BAD_FORMAT", "validate_only"),
        (b'{"portfolioId": "a", "portfolioId": "b"}', "UNDECODABLE", None),
        ({"portfolioId": "a", "portfolio_id": "a"}, "DUPLICATE", "portfolio_id"),
        (
            {"signals": {"payoff": [1], "winProbability": [0.6], "win_probability": [0.6]}},
            "DUPLICATE",
            "signals.win_probability",
        ),
        (
            {"limits": {"groups": [{}, {"net_weight_max": 1, "netWeightMax": 1}]}},
            "DUPLICATE",
            "limits.groups[1].net_weight_max",
        ),
        (b"{", "UNDECODABLE", None),
        (b"[1]", "UNDECODABLE", None),
        (b"\xff\xfe", "UNDECODABLE", None),
        (b"[" * 100_000, "UNDECODABLE", None),
        (b"[]", "UNDECODABLE", None),
        (b" null", "UNDECODABLE", None),
        (b"0", "UNDECODABLE", None),
        (b'{"signals":' * 50_000, "UNDECODABLE", None),
    ],
)
async def test_json_that_is_no_request_is_refused(
    gateway: Gateway, content: Any, reason: str, field: str | None
) -> None:
    answer = await gateway.ask(f"{SIZING}/SizePositions", content)
    assert (answer.status, answer.json["code"], answer.reason) == (400, "invalid_argument", reason)
    if field is not None:
        bad = answer.detail("google.rpc.BadRequest")["debug"]["fieldViolations"]
        assert [item["field"] for item in bad] == [field]


async def test_what_would_be_right_is_told(gateway: Gateway) -> None:
    answer = await gateway.ask(f"{SIZING}/SizePositions", {"signals": {"side": ["LONG"]}})
    assert answer.json["message"] == (
        'signals.side[0]: is "LONG"; it must be one of SIDE_LONG, SIDE_SHORT'
    )
    answer = await gateway.ask(f"{SIZING}/ListDecisions", {"create_time_from": "yesterday"})
    assert answer.json["message"].startswith('create_time_from: is "yesterday"; it must be a time')


async def test_what_is_wrong_is_told_in_words_about_the_body(gateway: Gateway) -> None:
    path = f"{PORTFOLIOS}/ListPortfolios"
    for content in (b"[]", b"null", b'"a"'):
        answer = await gateway.ask(path, content)
        assert answer.json["message"] == "the body is not a JSON object"
    answer = await gateway.ask(path, b'{"a":' * 50_000)
    assert "recursion" not in answer.json["message"]
    assert answer.status == 400
    assert (await gateway.ask(path, b"")).status == 200
    assert (await gateway.ask(path, b" {}")).status == 200
    assert (await gateway.ask(path, b"\xef\xbb\xbf{}")).status == 200  # as some editors save it
    for content, words in (
        (b'{"pageSize": 1, "pageSize": 2}', "duplicate key pageSize"),
        (b"{'pageSize': 1}", "Expecting property name enclosed in double quotes"),
    ):
        message = (await gateway.ask(path, content)).json["message"]
        assert message.startswith(f"the body is no JSON: {words}")
        assert not message.endswith(".")


@pytest.mark.parametrize(
    ("path", "content", "field", "other"),
    [
        (
            "GetLimits",
            {"scope": {"groupId": "a", "portfolioId": "b"}},
            "scope.portfolio_id",
            "group_id",
        ),
        (
            "GetLimits",
            {"scope": {"strategy_id": "a", "portfolio_id": "b"}},
            "scope.strategy_id",
            "portfolio_id",
        ),
    ],
)
async def test_fields_of_which_one_may_be_given_are_named(
    gateway: Gateway, path: str, content: Any, field: str, other: str
) -> None:
    answer = await gateway.ask(f"{PORTFOLIOS}/{path}", content)
    assert (answer.status, answer.reason) == (400, "AMBIGUOUS")
    assert answer.json["message"] == f"{field}: is given beside {other}: give one of them"


async def test_a_service_that_is_away_is_told_with_a_reason_and_when_to_come_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with gateway_for(port) as alone:
        answer = await alone.ask(f"{PORTFOLIOS}/ListPortfolios", {})
    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert answer.reason == "SERVICE_AWAY"
    assert answer.headers["retry-after"] == "1"


async def test_what_is_no_call_is_refused(gateway: Gateway) -> None:
    path = f"{PORTFOLIOS}/ListPortfolios"
    assert (await gateway.ask(path, {})).status == 200
    assert (await gateway.ask(f"{PORTFOLIOS}/DropPortfolios", {})).status == 404
    assert (await gateway.ask("/grpc.health.v1.Health/Watch", {})).status == 404
    assert (await gateway.ask(path, verb="GET")).status == 405
    assert (await gateway.ask(path, {}, content_type="text/plain")).status == 415
    assert (await gateway.ask(path, b"", content_encoding="gzip")).status == 415
    assert (await gateway.ask(path, {}, connect_timeout_ms="soon")).status == 400
    large = await gateway.ask(path, b" " * (17 << 20))
    assert (large.status, large.reason) == (413, "TOO_LARGE")
    assert (await gateway.ask(path, {}, origin="https://evil.example")).status == 403
    assert (await gateway.ask(path, {}, host="evil.example")).status == 403
    assert (await gateway.ask(path, {}, origin=f"http://127.0.0.1:{gateway.port}")).status == 200
    late = await gateway.ask(f"{PORTFOLIOS}/ListPortfolios", {}, connect_timeout_ms="0")
    assert (late.status, late.json["code"]) == (504, "deadline_exceeded")


async def test_probes_say_whether_it_lives_and_whether_the_server_serves(
    gateway: Gateway,
) -> None:
    for path in ("/livez", "/readyz"):
        answer = await gateway.ask(path, verb="GET")
        assert (answer.status, answer.body) == (200, b"ok\n")
    health = await gateway.ask("/grpc.health.v1.Health/Check", {})
    assert health.json == {"status": "SERVING"}
    async with gateway_for(1) as alone:
        assert (await alone.ask("/livez", verb="GET")).status == 200
        assert (await alone.ask("/readyz", verb="GET")).status == 503
        answer = await alone.ask(f"{PORTFOLIOS}/ListPortfolios", {})
        assert (answer.status, answer.json["code"]) == (503, "unavailable")


def test_every_method_of_the_contract_is_there() -> None:
    wanted = {
        f"/{service.full_name}/{method.name}"
        for service in SERVICES.values()
        for method in service.methods
    }
    health = {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List"}
    assert methods().keys() == wanted | health


async def test_a_credential_goes_on_and_an_open_server_is_not_opened(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    app: App,
    tmp_path: Path,
) -> None:
    issuer, path = Issuer(), f"{PORTFOLIOS}/ListPortfolios"
    settings = {
        "auth": "required",
        "jwks": str(issuer.write(tmp_path / "keys.json")),
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
    }
    async with (
        started(postgres_server, kernels, tmp_path, **settings) as closed,
        gateway_for(closed.port, "--host", "0.0.0.0") as outside,
    ):
        answer = await outside.ask(path, {})
        assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
        bearer = f"Bearer {issuer.token(tenant='local')}"
        assert (await outside.ask(path, {}, authorization=bearer)).status == 200
    async with gateway_for(app.port, "--host", "0.0.0.0") as outside:
        answer = await outside.ask(path, {}, authorization=bearer)
        assert (answer.status, answer.reason) == (403, "SERVER_IS_OPEN")


async def test_curl_works_as_printed_in_the_guide(client: Client, gateway: Gateway) -> None:
    assert shutil.which("curl"), "curl is needed"
    text = (ROOT / "docs" / "user-guide.md").read_text()
    command = re.search(r"^curl .*?}}'$", text, re.M | re.S)
    assert command, "the guide has a curl command"
    snapshot = market_service_pb2.MarketSnapshot(
        snapshot_id="readme-curl", instrument_ids=["KO"], price=[60.0]
    )
    snapshot.as_of_time.GetCurrentTime()
    await client.market.PutMarketSnapshot(
        market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot)
    )
    await client.put_portfolio(1e6, portfolio_id="demo")
    scope = portfolio_service_pb2.Scope(portfolio_id="demo")
    await client.set_limits(scope, weight_max=0.1)
    process = await asyncio.create_subprocess_shell(
        command[0].replace(":8080", f":{gateway.port}").replace("curl ", "curl -s "),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    decision = json.loads(output)["decision"]
    assert decision["portfolioId"] == "demo"
    assert float(decision["sizes"]["weight"][0]) > 0.0
