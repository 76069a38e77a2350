"""R7: a replica told to stop under load."""

import asyncio

import asyncpg
import grpc
import pytest
from accounts import Account, Callers, Counts, settle
from cluster import Cluster, Replica

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

EXIT_S_MAX = 15.0


async def test_a_replica_told_to_stop_finishes_what_it_admitted(
    cluster: Cluster, callers: Callers, seeds: range, record: list[Counts]
) -> None:
    for seed in seeds:
        leaving, staying = cluster.replicas[1], cluster.replicas[0]
        cluster.heal()
        portfolios = [f"stop-{seed}-{i}" for i in range(16)]
        account = Account(portfolios)
        await callers.set_up(staying.address, portfolios)
        load = [asyncio.create_task(_caller(callers, account, p, leaving)) for p in portfolios]
        await asyncio.sleep(1.5)
        took = await asyncio.to_thread(leaving.terminate)
        await asyncio.gather(*load)
        assert account.answers
        assert took <= EXIT_S_MAX, f"took {took:.1f} s to stop"
        await _check_nothing_admitted_failed(cluster, account)
        print(
            f"\nstopped in {took:.2f} s; {len(account.answers)} answered, no admitted call failed"
        )
        counts = await settle(f"stopped under load, seed {seed}", cluster, account)
        record.append(counts)


async def _caller(callers: Callers, account: Account, portfolio: str, leaving: Replica) -> None:
    """Calls until the replica takes no more; what fails is not sent again."""
    while leaving.is_running:
        if not await callers.call(account, callers.request(portfolio), leaving.address):
            await asyncio.sleep(0.02)


async def _check_nothing_admitted_failed(cluster: Cluster, account: Account) -> None:
    """A call that failed came too late, and nothing of it is stored.

    UNAVAILABLE is what the service says while it drains; CANCELLED is what gRPC makes of a call
    that arrives while the connection is being closed.
    """
    allowed = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert {failure.code for failure in account.failures} <= allowed, account.failures[-1]
    assert "calls_cut_off=0" in cluster.replicas[1].log().splitlines()[-1]
    connection = await asyncpg.connect(cluster.dsn)
    stored = await connection.fetch(
        "SELECT request_id FROM decision WHERE request_id = ANY($1::uuid[])",
        [failure.request_id for failure in account.failures],
    )
    await connection.close()
    assert not stored, f"{len(stored)} admitted calls were committed and not answered"
