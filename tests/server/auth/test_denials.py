"""Whoever has no valid credential learns nothing, from no method, whatever is asked."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from positionsizing.v1 import explanation_service_pb2 as explanation
from positionsizing.v1 import portfolio_service_pb2 as portfolio
from positionsizing.v1 import sizing_service_pb2 as sizing
from positionsizing.v1 import types_pb2

from compute.shapes import KernelRegistry
from server.app import App
from server.auth.access import SCOPES
from server.auth.keys import new_key
from server.auth.roles import ROLES
from server.calls.contract import SERVICES
from server.calls.rpc import _Endpoint
from storage import embedded
from storage.postgres import credentials, tenants
from tests.fixtures_postgres import create_database
from tests.server.support.credentials import AUDIENCE, ISSUER, Issuer
from tests.server.support.service_client import Client, refusal_of, sizing_request

METHODS = [method for service in SERVICES.values() for method in service.methods]
EVERYTHING = " ".join(SCOPES.values())
UNDECODABLE = b"\xff\xff\xff\xff"
Metadata = tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def dsn(postgres_server: embedded.EmbeddedServer) -> str:
    return create_database(postgres_server, template=embedded.DATABASE)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def closed(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    issuer: Issuer,
    dsn: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[App]:
    """A server that asks for credentials, with a blocked caller and a second tenant."""
    from tests.server.support.service_client import started

    folder = tmp_path_factory.mktemp("closed")
    async with started(
        postgres_server,
        kernels,
        folder,
        dsn=dsn,
        auth="required",
        jwks=str(issuer.write(folder / "keys.json")),
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
    ) as app:
        await block(dsn, "user:mallory", hours=1)
        await until_denied(app, bearer(issuer.token(sub="mallory")))
        yield app


async def block(dsn: str, subject: str, hours: float) -> None:
    connection = await asyncpg.connect(dsn)
    until = datetime.now(UTC) + timedelta(hours=hours)
    await credentials.block(connection, "local", subject, until=until, author="test", reason="test")
    await connection.close()


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


async def call(app: App, path: str, body: bytes, metadata: Metadata) -> tuple[int, bytes]:
    """The code, and the whole status, or the answer where there is one."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
        try:
            answer = await channel.unary_unary(path)(body, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
            assert isinstance(packed, bytes)
            return error.code().value[0], packed
        return 0, answer


GET = "/positionsizing.v1.PortfolioService/ListPortfolios"


async def until_denied(app: App, metadata: Metadata, *, code: int = 16) -> None:
    """Waits until a change in the database has reached the server."""
    for _ in range(200):
        if (await call(app, GET, b"", metadata))[0] == code:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it never did")


def strangers(issuer: Issuer) -> dict[str, Metadata]:
    """Credentials that are worth nothing, all of somebody who could do everything."""
    now = int(time.time())
    everything: dict[str, Any] = {"scope": EVERYTHING}
    good = issuer.token(**everything)
    later = {"iat": now + 900, "nbf": now + 900, "exp": now + 1200}
    return {
        "no header": (),
        "two headers": (*bearer(good), *bearer(good)),
        "no scheme": (("authorization", good),),
        "basic": (("authorization", f"Basic {good}"),),
        "empty": bearer(""),
        "garbage": bearer("a.b.c"),
        "expired": bearer(issuer.token(iat=now - 900, nbf=now - 900, exp=now - 60, **everything)),
        "not yet valid": bearer(issuer.token(**later, **everything)),
        "lives too long": bearer(issuer.token(exp=now + 90_000, **everything)),
        "wrong audience": bearer(issuer.token(aud="another", **everything)),
        "wrong issuer": bearer(issuer.token(iss="https://evil.test", **everything)),
        "no expiry": bearer(issuer.token(exp=None, **everything)),
        "no subject": bearer(issuer.token(sub=None, **everything)),
        "no tenant": bearer(issuer.token(tenant=None, **everything)),
        "unknown tenant": bearer(issuer.token(tenant="nowhere", **everything)),
        "tenant of another kind": bearer(issuer.token(tenant=["local"], **everything)),
        "alg none": bearer(issuer.unsigned(**everything)),
        "HS256 with the public key": bearer(issuer.confused(**everything)),
        "unknown kid": bearer(issuer.token("other", **everything)),
        "weak key": bearer(issuer.token("weak", **everything)),
        "key of another": bearer(Issuer().token(**everything)),
        "another type": bearer(issuer.token(header={"typ": "id+jwt"}, **everything)),
        "unknown crit": bearer(issuer.token(header={"crit": ["x"], "x": 1}, **everything)),
        "blocked": bearer(issuer.token(sub="mallory", **everything)),
        "no such api key": bearer(new_key().text),
    }


async def test_strangers_are_denied_everywhere_in_the_same_words(
    closed: App, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[str] = []
    monkeypatch.setattr(_Endpoint, "_decode", lambda *a: reached.append("decode"))
    answers = set()
    for method in METHODS:
        for name, metadata in strangers(issuer).items():
            code, status = await call(closed, path_of(method), UNDECODABLE, metadata)
            assert code == 16, (method.name, name)
            answers.add(status)
    assert len(answers) == 1, "one answer, whatever is wrong"
    assert reached == []
    parsed = status_pb2.Status.FromString(answers.pop())
    assert "expired" not in parsed.message


def path_of(method: MethodDescriptor) -> str:
    assert method.containing_service is not None
    return f"/{method.containing_service.full_name}/{method.name}"


async def test_without_the_scope_nothing_is_read(closed: App, issuer: Issuer) -> None:
    """With every other scope, and a body that can't be decoded."""
    from server.auth.access import load

    table = load(SERVICES.values())
    for method in METHODS:
        path = path_of(method)
        others = " ".join(set(SCOPES.values()) - table[path].scopes)
        code, _ = await call(closed, path, UNDECODABLE, bearer(issuer.token(scope=others)))
        assert code == 7, method.name


def spoiled(method: MethodDescriptor, path: tuple[str, ...], portfolio_id: str) -> bytes:
    """A request about a portfolio that is invalid in every number and text beside it."""
    request = GetMessageClass(method.input_type)()
    message: Any = request
    for part in path[:-1]:
        message = getattr(message, part)
        if hasattr(message, "add"):
            message = message.add()
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated or field.containing_oneof is not None:
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, "no id!")
        elif field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64):
            setattr(message, field.name, -1)
        elif field.type == FieldDescriptor.TYPE_DOUBLE:
            setattr(message, field.name, float("nan"))
    setattr(message, path[-1], portfolio_id)
    return request.SerializeToString()


async def test_portfolios_that_are_not_granted_are_denied_alike_there_or_not(
    closed: App, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server.auth.access import load

    everything = bearer(issuer.token(scope=EVERYTHING))
    there = await put_portfolio(closed, everything, "secret-1")
    some = bearer(issuer.token(scope=EVERYTHING, portfolios=["mine", "tech-*"]))
    served: list[str] = []
    monkeypatch.setattr(_Endpoint, "_call", lambda *a: served.append("call"))
    n = 0
    for method in METHODS:
        access = load(SERVICES.values())[path_of(method)]
        if not access.portfolio_path:
            continue
        n += 1
        ids = (there, "made-up", "mine2", "no id!")
        bodies = [spoiled(method, access.portfolio_path, name) for name in ids]
        answers = [await call(closed, path_of(method), body, some) for body in bodies]
        assert {code for code, _ in answers} == {7}, method.name
        assert len({status for _, status in answers}) == 1, method.name
    assert n > 15
    assert served == [], "no handler ran, so no statement did"


async def put_portfolio(app: App, metadata: Metadata, portfolio_id: str) -> str:
    wanted = portfolio.Portfolio(portfolio_id=portfolio_id, base_currency="USD", cash=1e6)
    body = portfolio.CreatePortfolioRequest(portfolio=wanted).SerializeToString()
    path = "/positionsizing.v1.PortfolioService/CreatePortfolio"
    code, status = await call(app, path, body, metadata)
    assert code == 0, status
    return portfolio_id


class _WithToken(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = details.metadata or grpc.aio.Metadata()
        metadata.add("authorization", f"Bearer {self._token}")
        return await continuation(details._replace(metadata=metadata), request)


def client_of(app: App, token: str) -> Client:
    address = f"127.0.0.1:{app.port}"
    return Client(grpc.aio.insecure_channel(address, interceptors=[_WithToken(token)]))


async def test_decisions_and_lists_show_what_is_granted(closed: App, issuer: Issuer) -> None:
    boss = client_of(closed, issuer.token(scope=EVERYTHING))
    names = [await boss.ready() for _ in range(2)]
    decided = [await boss.size(sizing_request(name)) for name in names]
    some = client_of(closed, issuer.token(scope=EVERYTHING, sub="bob", portfolios=[names[0]]))

    listed = await some.sizing.ListDecisions(sizing.ListDecisionsRequest())
    assert [item.decision_id for item in listed.decisions] == [decided[0].decision_id]
    books = await some.portfolio.ListPortfolios(portfolio.ListPortfoliosRequest())
    assert [item.portfolio_id for item in books.portfolios] == [names[0]]
    own = await some.sizing.GetDecision(
        sizing.GetDecisionRequest(decision_id=decided[0].decision_id)
    )
    assert own.decision.portfolio_id == names[0]

    made_up = "01890000-0000-7000-8000-000000000000"
    for decision_id in (decided[1].decision_id, made_up):
        for asked in (
            some.sizing.GetDecision(sizing.GetDecisionRequest(decision_id=decision_id)),
            some.sizing.ReplayDecision(sizing.ReplayDecisionRequest(decision_id=decision_id)),
            some.explanation.CompareDecisions(
                explanation.CompareDecisionsRequest(
                    first_decision_id=own.decision.decision_id, second_decision_id=decision_id
                )
            ),
            some.explanation.GetLimitLadder(
                explanation.GetLimitLadderRequest(decision_id=decision_id, instrument_id="I0")
            ),
            some.sizing.SettleDecision(
                sizing.SettleDecisionRequest(
                    request_id=made_up, decision_id=decision_id, close=True
                )
            ),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await asked
            refused = refusal_of(error.value)
            assert refused.reason == "DECISION_NOT_FOUND"
            assert refused.message.replace(decision_id, "") == "decision '' does not exist"


async def test_histories_name_the_subject(closed: App, issuer: Issuer) -> None:
    boss = client_of(closed, issuer.token(scope=EVERYTHING))
    name = await boss.put_portfolio()
    changed = await boss.set_limits(portfolio.Scope(portfolio_id=name), weight_max=0.1)
    assert changed.change.author == "user:ann"
    token = issuer.token(scope=EVERYTHING, sub="engine", client_id="engine")
    changed = await client_of(closed, token).set_limits(
        portfolio.Scope(portfolio_id=name), weight_max=0.2
    )
    assert changed.change.author == "service:engine"
    await boss.put_market()
    for client, author in ((boss, "user:ann"), (client_of(closed, token), "service:engine")):
        request = sizing_request(name)
        decided = await client.size(request)
        assert decided.author == author
        stored = await boss.sizing.GetDecision(
            sizing.GetDecisionRequest(decision_id=decided.decision_id)
        )
        assert stored.decision.author == author
        assert (await boss.size(request)).author == author, "whoever repeats it"


async def test_tenants_see_nothing_of_each_other(closed: App, issuer: Issuer, dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await tenants.ensure(connection, "other")
    await connection.close()
    token = issuer.token(tenant="other", scope=EVERYTHING)
    await until_denied(closed, bearer(token), code=0)
    here, there = client_of(closed, issuer.token(scope=EVERYTHING)), client_of(closed, token)
    name = await here.ready()
    decision = await here.size(sizing_request(name))
    listed = await there.portfolio.ListPortfolios(portfolio.ListPortfoliosRequest())
    assert not listed.portfolios
    for asked in (
        there.portfolio.GetPortfolio(portfolio.GetPortfolioRequest(portfolio_id=name)),
        there.sizing.GetDecision(sizing.GetDecisionRequest(decision_id=decision.decision_id)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await asked
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
    same = await there.put_portfolio(portfolio_id=name, cash=5.0)
    mine = await here.portfolio.GetPortfolio(portfolio.GetPortfolioRequest(portfolio_id=same))
    assert mine.portfolio.cash == 1e6


@pytest.mark.parametrize("kid", ["rsa", "ec", "ed"])
async def test_every_kind_of_key_is_accepted(closed: App, issuer: Issuer, kid: str) -> None:
    code, _ = await call(closed, GET, b"", bearer(issuer.token(kid)))
    assert code == 0


async def test_api_keys_work_until_revoked_or_expired(
    closed: App, dsn: str, tmp_path: Path
) -> None:
    made, other = new_key(), new_key()
    connection = await asyncpg.connect(dsn)
    for key, days in ((made, 1), (other, -1)):
        await credentials.create_key(
            connection,
            "local",
            key.key_id,
            hash=key.hash,
            subject="key:engine-1",
            scopes=("sizing.read",),
            portfolios=("*",),
            expire_time=datetime.now(UTC) + timedelta(days=days),
            author="test",
        )
    await until_denied(closed, bearer(made.text), code=0)
    size = "/positionsizing.v1.SizingService/SizePositions"
    assert (await call(closed, size, b"", bearer(made.text)))[0] == 7
    assert (await call(closed, GET, b"", bearer(other.text)))[0] == 16
    changed = made.text[:-1] + ("A" if made.text[-1] != "A" else "B")
    assert (await call(closed, GET, b"", bearer(changed)))[0] == 16
    await credentials.revoke_key(connection, "local", made.key_id)
    await connection.close()
    await until_denied(closed, bearer(made.text))


async def test_a_block_reaches_a_caller_whose_token_is_remembered(
    closed: App, issuer: Issuer, dsn: str
) -> None:
    token = bearer(issuer.token(sub="carl"))
    assert (await call(closed, GET, b"", token))[0] == 0
    await block(dsn, "user:carl", hours=1)
    await until_denied(closed, token)
    await block(dsn, "user:carl", hours=-1)
    await until_denied(closed, token, code=0)


async def test_health_is_open_and_reflection_is_not(closed: App, issuer: Issuer) -> None:
    async def names(metadata: Metadata) -> int:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        answers = [one async for one in stub.ServerReflectionInfo(asked, metadata=metadata)]
        return len(answers[0].list_services_response.service)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{closed.port}") as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await names(())
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert await names(bearer(issuer.token())) > len(SERVICES)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await channel.unary_unary("/no.such/Method")(b"")
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_denials_are_counted_by_reason(closed: App, issuer: Issuer) -> None:
    def count(reason: str) -> float:
        labels = {"reason": reason}
        value = closed.telemetry.registry.get_sample_value("sizing_auth_denied_total", labels)
        assert value is not None
        return value

    before = {name: count(name) for name in ("no_credential", "wrong_audience", "scope")}
    await call(closed, GET, b"", ())
    await call(closed, GET, b"", bearer(issuer.token(aud="x")))
    await call(closed, GET, b"", bearer(issuer.token(scope="sizing.halt")))
    assert {name: count(name) for name in before} == {k: v + 1 for k, v in before.items()}


async def test_who_may_halt_may_reduce_and_lets_nothing_trade_more(
    closed: App, issuer: Issuer
) -> None:
    """The scopes of the role `ops`, and of `risk-officer`."""
    everything = bearer(issuer.token(scope=EVERYTHING))
    book = await put_portfolio(closed, everything, "on-call")
    ops = bearer(issuer.token(scope=" ".join(ROLES["ops"])))
    officer = bearer(issuer.token(scope=" ".join(ROLES["risk-officer"])))
    path = "/positionsizing.v1.PortfolioService/SetTradingState"

    async def put(metadata: Metadata, state: types_pb2.TradingState.ValueType) -> int:
        scope = portfolio.Scope(portfolio_id=book)
        request = portfolio.SetTradingStateRequest(
            scope=scope, trading_state=state, reason="on call"
        )
        return (await call(closed, path, request.SerializeToString(), metadata))[0]

    active, reducing, halted = (
        types_pb2.TRADING_STATE_ACTIVE,
        types_pb2.TRADING_STATE_REDUCING,
        types_pb2.TRADING_STATE_HALTED,
    )
    denied = grpc.StatusCode.PERMISSION_DENIED.value[0]
    told = [await put(ops, state) for state in (reducing, reducing, active, halted, reducing)]
    assert told == [0, 0, denied, 0, denied]
    assert [await put(officer, state) for state in (reducing, active)] == [0, 0]
