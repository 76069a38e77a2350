"""R5: servers, database, its sessions and the broker die in any order; then every event leaves."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tests.chaos.accounts import Account, Callers, Counts, settle, until_drained
from tests.chaos.cluster import Cluster
from tests.chaos.report import Figure

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]

N_ACCIDENTS = int(os.environ.get("CHAOS_ACCIDENTS", "4"))
DRAIN_S_MAX = float(os.environ.get("CHAOS_DRAIN_S", "inf"))
"""Asserted by `make chaos` alone: timings decide no other test."""
N_PORTFOLIOS = 24


async def _kill_server(cluster: Cluster, rng: random.Random) -> None:
    replica = rng.choice(cluster.replicas)
    await asyncio.to_thread(replica.kill)
    await asyncio.sleep(rng.uniform(0.0, 2.0))
    replica.launch()


async def _end_sessions(cluster: Cluster, rng: random.Random) -> None:
    del rng
    await _run(
        cluster,
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()""",
    )


async def _crash_database(cluster: Cluster, rng: random.Random) -> None:
    """One of its processes killed: PostgreSQL ends all of them and recovers from its log."""
    del rng
    pid = await _run(
        cluster,
        """SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() LIMIT 1""",
    )
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


async def _kill_broker(cluster: Cluster, rng: random.Random) -> None:
    await asyncio.to_thread(cluster.broker.kill)
    await asyncio.sleep(rng.uniform(0.0, 2.0))
    await asyncio.to_thread(cluster.broker.start)


async def _cut(cluster: Cluster, rng: random.Random) -> None:
    proxy = rng.choice([cluster.database, cluster.events])
    rng.choice([proxy.cut, proxy.stall, proxy.halve])()
    await asyncio.sleep(rng.uniform(0.5, 3.0))
    proxy.restore()


ACCIDENTS: tuple[Callable[[Cluster, random.Random], Awaitable[None]], ...] = (
    *(_kill_server, _kill_server),
    *(_end_sessions, _crash_database, _kill_broker, _cut),
)


async def test_events_leave_whatever_died_in_which_order(
    cluster: Cluster, seeds: range, record: list[Counts], figure: Figure
) -> None:
    drained_s, busy = [], []
    for seed in seeds:
        rng = random.Random(f"mixed {seed}")
        portfolios = [f"mixed-{seed}-{i}" for i in range(N_PORTFOLIOS)]
        account = Account(portfolios)
        addresses = [replica.address for replica in cluster.replicas]
        callers = Callers(addresses, seed)
        await callers.set_up(addresses[0], portfolios)
        ended = asyncio.Event()
        work = [
            asyncio.create_task(_size(callers, account, portfolios[i::6], addresses, rng, ended))
            for i in range(6)
        ]
        before = _n_refused_names(cluster)
        for _ in range(N_ACCIDENTS):
            await rng.choice(ACCIDENTS)(cluster, rng)
            await asyncio.sleep(rng.uniform(0.0, 4.0))
        ended.set()
        await asyncio.gather(*work)
        await asyncio.to_thread(cluster.heal)
        drained_s.append(await until_drained(cluster))
        busy.append(_n_refused_names(cluster) - before)
        await callers.close()
        assert account.answers, "nothing was sized, so nothing was tested"
        record.append(await settle("all kinds of accidents", cluster, account))
    figure(
        "R5",
        f"{len(drained_s)} seeds of {N_ACCIDENTS} accidents to servers, database, sessions, broker "
        f"and networks: outbox empty {max(drained_s):.1f} s after all was back at most; the name "
        f"of a producer was taken {sum(busy)} times, {max(busy)} in one seed",
    )
    assert max(drained_s) <= DRAIN_S_MAX


async def _size(
    callers: Callers,
    account: Account,
    portfolios: list[str],
    addresses: list[str],
    rng: random.Random,
    ended: asyncio.Event,
) -> None:
    while not ended.is_set():
        request = callers.request(rng.choice(portfolios))
        await callers.until_answered(account, request, rng.sample(addresses, 3), patience_s=600.0)
        await asyncio.sleep(0.02)


async def _run(cluster: Cluster, statement: str) -> int | None:
    """Tried until the database, which may be recovering, takes it."""
    async with asyncio.timeout(120):
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                connection = await asyncpg.connect(cluster.dsn)
                try:
                    found: int | None = await connection.fetchval(statement)
                    return found
                finally:
                    await connection.close()
            await asyncio.sleep(0.2)


def _n_refused_names(cluster: Cluster) -> int:
    return sum(replica.log().count("ProducerBusy") for replica in cluster.replicas)
