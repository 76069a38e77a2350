"""Quotas in lines: over time nobody has more than the rate, and nothing is too large for ever."""

from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from positionsizing.v1 import portfolio_service_pb2 as portfolio
from positionsizing.v1 import sizing_pb2
from positionsizing.v1 import sizing_service_pb2 as sizing

from compute.shapes import KernelRegistry
from server.auth.access import SCOPES
from server.auth.identity import Identity
from server.auth.quota import BURST_S, Quotas, lines_of
from server.auth.shared_quota import SharedUse
from server.calls.errors import Refusal
from storage import embedded
from storage.errors import Unavailable
from storage.postgres import tenants
from storage.postgres.pool import Database
from tests.fixtures_postgres import create_database
from tests.server.auth.test_denials import client_of
from tests.server.support.credentials import AUDIENCE, ISSUER, Issuer
from tests.server.support.service_client import Client, refusal_of, started

ANN, BOB = (Identity("acme", name, frozenset()) for name in ("ann", "bob"))
RATE = 100.0


def request_of(lines: int) -> sizing.SizePositionsRequest:
    ids = [f"I{i}" for i in range(lines)]
    return sizing.SizePositionsRequest(signals=sizing_pb2.SignalBatch(instrument_ids=ids))


class Clock:
    time = 0.0

    def __call__(self) -> float:
        return self.time


@given(st.lists(st.tuples(st.integers(1, 3000), st.floats(0, 5)), min_size=1, max_size=60))
def test_over_time_nobody_has_more_than_the_rate(asked: list[tuple[int, float]]) -> None:
    clock = Clock()
    quotas = Quotas(RATE, clock)
    taken, last = 0, 0
    for lines, pause in asked:
        clock.time += pause
        try:
            quotas.charge(ANN, request_of(lines))
        except Refusal as refusal:
            assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            wait = refusal.retry_after_s
            assert wait is not None
            clock.time += wait + 1e-6
            quotas.charge(ANN, request_of(lines))  # the advice is right
        taken, last = taken + lines, lines
        assert taken - last <= RATE * (BURST_S + clock.time) + 1e-6
    quotas.charge(BOB, request_of(1))  # another's quota is his own


def test_what_requests_cost() -> None:
    base = request_of(5)
    assert lines_of(base) == 5
    assert lines_of(sizing.SizePortfoliosRequest(requests=[base, base])) == 10
    what_if = sizing.WhatIfRequest(base=base, variations=[sizing.Variation()] * 3)
    assert lines_of(what_if) == 20
    assert lines_of(portfolio.ListPortfoliosRequest()) == 1
    assert lines_of(portfolio.SetTradingStateRequest()) == 0


async def test_a_caller_above_the_quota_is_told_when_to_come(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    issuer = Issuer()
    async with started(
        postgres_server,
        kernels,
        tmp_path,
        dsn=create_database(postgres_server, template=embedded.DATABASE),
        auth="required",
        jwks=str(issuer.write(tmp_path / "keys.json")),
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
        quota_lines_per_s=0.001,
    ) as app:

        def client(name: str) -> Client:
            return client_of(app, issuer.token(sub=name, scope=" ".join(SCOPES.values())))

        ann, bob = client("ann"), client("bob")
        asked = portfolio.ListPortfoliosRequest()
        await ann.portfolio.ListPortfolios(asked)
        with pytest.raises(grpc.aio.AioRpcError) as error:  # it owes 0.99 lines, for 990 s
            await ann.portfolio.ListPortfolios(asked)
        refused = refusal_of(error.value)
        assert (refused.code.name, refused.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
        assert refused.retry_after_s is not None
        assert 0 < refused.retry_after_s < 1000
        await ann.portfolio.SetTradingState(
            portfolio.SetTradingStateRequest(trading_state=3, reason="over quota, and still heard")  # type: ignore[arg-type]
        )
        await bob.portfolio.ListPortfolios(asked)


async def test_long_waits_are_valid_durations() -> None:
    status = Refusal(grpc.StatusCode.UNAVAILABLE, "X", "x", retry_after_s=12.5).status()
    from google.rpc import error_details_pb2

    retry = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(retry)
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (12, 500_000_000)


async def test_servers_on_one_database_share_a_quota(
    postgres_server: embedded.EmbeddedServer,
) -> None:
    """Two servers, each let in by its own bucket at first, both owing what the other let in."""
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    database = await Database.open(dsn)
    async with database.transaction("acme", deadline_s=30) as connection:
        await tenants.ensure(connection, "acme")
    clock = Clock()
    sides = [Quotas(RATE, clock) for _ in range(2)]
    shared = [SharedUse(database, quotas) for quotas in sides]

    async def exchange() -> None:
        for one in (*shared, *shared):  # the second round tells the first what the second used
            await one.exchange()

    for quotas in sides:
        quotas.charge(ANN, request_of(1))
    await exchange()
    full = RATE * BURST_S
    sides[0].charge(ANN, request_of(700))
    sides[1].charge(ANN, request_of(600))
    await exchange()
    left = [quotas._buckets["acme", "ann"].lines for quotas in sides]
    assert left == [full - 1302, full - 1301]  # what was used before they met counts at one
    for quotas, owed in zip(sides, left, strict=True):
        with pytest.raises(Refusal) as refused:
            quotas.charge(ANN, request_of(1))
        assert refused.value.reason == "QUOTA_EXCEEDED"
        assert refused.value.retry_after_s == pytest.approx((0.01 - owed) / RATE, abs=1e-3)
        quotas.charge(BOB, request_of(1))
    clock.time += 3.1  # 310 lines
    sides[0].charge(ANN, request_of(300))
    await exchange()
    with pytest.raises(Refusal):
        sides[1].charge(ANN, request_of(1))  # it knows of the other's 300
    await database.aclose()


async def test_what_could_not_be_told_is_told_the_next_time() -> None:
    class Away:
        def transaction(self, *_: object, **__: object) -> object:
            raise Unavailable("away")

    quotas = Quotas(RATE, Clock())
    quotas.charge(BOB, request_of(5))
    with pytest.raises(Unavailable):
        await SharedUse(Away(), quotas).exchange()  # type: ignore[arg-type]
    quotas.charge(BOB, request_of(2))
    assert quotas.used() == {("acme", "bob"): 7}
