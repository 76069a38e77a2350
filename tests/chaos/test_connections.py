"""R4 and R5: PostgreSQL and Pulsar cut, stalled and slowed down under load."""

import asyncio
import os
import time
from collections.abc import Callable

import asyncpg
import grpc
import pytest

from tests.chaos.accounts import Account, Callers, Counts, settle, until_drained
from tests.chaos.cluster import Cluster
from tests.chaos.proxy import Proxy
from tests.chaos.report import Figure

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

DATABASE_CUT_S = float(os.environ.get("CHAOS_DATABASE_CUT_S", "5"))
EVENTS_CUT_S = float(os.environ.get("CHAOS_EVENTS_CUT_S", "10"))
DEADLINE_S = 2.0
WAYS: dict[str, Callable[[Proxy], None]] = {
    "cut": Proxy.cut,
    "stalled": Proxy.stall,
    "half open": Proxy.halve,
}


@pytest.mark.parametrize("way", WAYS)
async def test_postgresql(
    way: str, cluster: Cluster, callers: Callers, record: list[Counts], figure: Figure
) -> None:
    """Calls fail with UNAVAILABLE by their deadline, nothing half-done; then all is well again."""
    portfolios = [f"database-{way.replace(' ', '-')}-{i}" for i in range(4)]
    account = Account(portfolios)
    addresses = [replica.address for replica in cluster.replicas]
    await callers.set_up(addresses[0], portfolios)
    load = asyncio.create_task(_load(callers, account, addresses, DATABASE_CUT_S + 4.0))
    await asyncio.sleep(1.0)
    WAYS[way](cluster.database)
    await asyncio.sleep(DATABASE_CUT_S)
    n_failed = len(account.failures)
    assert n_failed, "the cut was not felt"
    cluster.database.restore()
    restored = time.monotonic()
    recovery = Account(portfolios)
    request = callers.request(portfolios[0])
    await callers.until_answered(recovery, request, addresses)
    recovered_s = time.monotonic() - restored
    await load
    account.sent |= recovery.sent
    account.answers |= recovery.answers
    codes = {failure.code for failure in account.failures}
    late = max(failure.seconds for failure in account.failures) - DEADLINE_S
    figure(
        "R4",
        f"PostgreSQL {way} for {DATABASE_CUT_S:.0f} s: {len(account.failures)} calls failed, "
        f"{late * 1000:+.0f} ms after the deadline at most; recovered in {recovered_s:.2f} s",
    )
    assert codes <= {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
    }
    record.append(await settle(f"PostgreSQL {way}", cluster, account))
    assert await _connections(cluster) <= 3 * (8 + 4), "connections leaked"


@pytest.mark.parametrize("way", WAYS)
async def test_pulsar(
    way: str, cluster: Cluster, callers: Callers, record: list[Counts], figure: Figure
) -> None:
    """No call fails; events wait and leave when the broker is back."""
    portfolios = [f"events-{way.replace(' ', '-')}-{i}" for i in range(4)]
    account = Account(portfolios)
    addresses = [replica.address for replica in cluster.replicas]
    await callers.set_up(addresses[0], portfolios)
    await until_drained(cluster)
    WAYS[way](cluster.events)
    await _load(callers, account, addresses, EVENTS_CUT_S, timeout_s=10.0)
    cluster.events.restore()
    drained_s = await until_drained(cluster)
    failed = [failure for failure in account.failures if failure.code != grpc.StatusCode.ABORTED]
    figure(
        "R5",
        f"Pulsar {way} for {EVENTS_CUT_S:.0f} s: {len(account.sent)} calls, {len(failed)} failed; "
        f"outbox empty {drained_s:.1f} s after",
    )
    assert not failed
    record.append(await settle(f"Pulsar {way}", cluster, account))


async def test_slow_networks(cluster: Cluster, callers: Callers, record: list[Counts]) -> None:
    portfolios = [f"slow-{i}" for i in range(4)]
    account = Account(portfolios)
    addresses = [replica.address for replica in cluster.replicas]
    await callers.set_up(addresses[0], portfolios)
    cluster.database.delay_s = 0.02
    cluster.events.delay_s = 0.2
    await _load(callers, account, addresses, 3.0, timeout_s=10.0)
    cluster.database.delay_s = cluster.events.delay_s = 0.0
    record.append(await settle("both networks slow", cluster, account))
    assert account.answers


async def _load(
    callers: Callers,
    account: Account,
    addresses: list[str],
    seconds: float,
    timeout_s: float = DEADLINE_S,
) -> None:
    """Four callers, one request at a time each, no retries: every failure counts."""
    end = time.monotonic() + seconds

    async def caller(place: int) -> None:
        portfolio = account.portfolios[place]
        while time.monotonic() < end:
            address = addresses[place % len(addresses)]
            await callers.call(account, callers.request(portfolio), address, timeout_s)
            await asyncio.sleep(0.02)

    await asyncio.gather(*(caller(place) for place in range(4)))


async def _connections(cluster: Cluster) -> int:
    await asyncio.sleep(1.0)
    connection = await asyncpg.connect(cluster.dsn)
    n = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'position-sizing' "
        "AND datname = current_database()"
    )
    await connection.close()
    return int(n)
