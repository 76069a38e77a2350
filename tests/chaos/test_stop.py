"""R7: a replica told to stop under load."""

import asyncio

import asyncpg
import grpc
import pytest

from tests.chaos.accounts import Account, Callers, Counts, settle
from tests.chaos.cluster import Cluster, Replica
from tests.chaos.report import Figure

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

EXIT_S_MAX = 15.0


async def test_a_replica_told_to_stop_finishes_what_it_admitted(
    cluster: Cluster, callers: Callers, seeds: range, record: list[Counts], figure: Figure
) -> None:
    seconds, n_refused = [], 0
    for seed in seeds:
        leaving, staying = cluster.replicas[1], cluster.replicas[0]
        cluster.heal()
        portfolios = [f"stop-{seed}-{i}" for i in range(16)]
        account = Account(portfolios)
        await callers.set_up(staying.address, portfolios)
        load = [
            asyncio.create_task(_caller(callers, account, p, leaving, staying)) for p in portfolios
        ]
        await asyncio.sleep(1.5)
        took = await asyncio.to_thread(leaving.terminate)
        await asyncio.gather(*load)
        assert account.answers
        assert took <= EXIT_S_MAX, f"took {took:.1f} s to stop"
        await _check_nothing_admitted_failed(cluster, account)
        seconds.append(took)
        n_refused += len(account.failures)
        record.append(await settle("stopped under load", cluster, account))
    figure(
        "R7",
        f"{len(seconds)} stops by SIGTERM under load: 0 admitted calls failed, {n_refused} that "
        f"came later were told UNAVAILABLE; exit after {max(seconds):.1f} s at most",
    )


async def _caller(
    callers: Callers, account: Account, portfolio: str, leaving: Replica, staying: Replica
) -> None:
    """Calls until refused, then asks the other replica instead; what fails is not sent again."""
    replica = leaving
    while leaving.is_running:
        if not await callers.call(account, callers.request(portfolio), replica.address):
            replica = staying


async def _check_nothing_admitted_failed(cluster: Cluster, account: Account) -> None:
    """A call that failed came too late and was told to try again; nothing of it is stored."""
    codes = {failure.code for failure in account.failures}
    assert codes == {grpc.StatusCode.UNAVAILABLE}, account.failures[-1]
    told = [line for line in cluster.replicas[1].log().splitlines() if "calls_cut_off=" in line]
    assert told[-1].endswith("calls_cut_off=0"), told[-1]
    connection = await asyncpg.connect(cluster.dsn)
    stored = await connection.fetch(
        "SELECT request_id FROM decision WHERE request_id = ANY($1::uuid[])",
        [failure.request_id for failure in account.failures],
    )
    await connection.close()
    assert not stored, f"{len(stored)} admitted calls were committed and not answered"
