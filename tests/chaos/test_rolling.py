"""R13: replicas replaced one after the other under load, as at an upgrade."""

import asyncio

import pytest
from positionsizing import SERVICE_CONFIG

from tests.chaos.accounts import Account, Callers, Counts, settle
from tests.chaos.cluster import OPTIONS, Cluster
from tests.chaos.report import Figure

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

PORTFOLIOS = 8
DEADLINE_S = 60.0
"""Of a call: repeating it is the channel's part, and a busy machine gets time."""


async def test_a_rolling_restart_under_load_fails_no_call(
    cluster: Cluster, seeds: range, record: list[Counts], figure: Figure
) -> None:
    target = "ipv4:" + ",".join(replica.address for replica in cluster.replicas)
    options = [*OPTIONS, ("grpc.service_config", SERVICE_CONFIG)]
    callers, n_answered = Callers([target], options=options), 0
    try:
        for seed in seeds:
            portfolios = [f"rolling-{seed}-{i}" for i in range(PORTFOLIOS)]
            account, is_over = Account(portfolios), asyncio.Event()
            await callers.set_up(target, portfolios)
            load = [
                asyncio.create_task(_caller(callers, account, name, target, is_over))
                for name in portfolios
            ]
            await _replaced_one_by_one(cluster, account)
            is_over.set()
            await asyncio.gather(*load)
            assert not account.failures, account.failures[0]
            n_answered += len(account.answers)
            record.append(await settle("rolling restart", cluster, account))
    finally:
        await callers.close()
    figure("R13", f"{3 * len(seeds)} replicas restarted under load: 0 of {n_answered} calls failed")


async def _replaced_one_by_one(cluster: Cluster, account: Account) -> None:
    """Each is stopped and started again, and calls are answered between two of them."""
    for replica in cluster.replicas:
        answered = len(account.answers)
        await asyncio.to_thread(replica.terminate)
        await asyncio.to_thread(replica.start)
        while len(account.answers) < answered + PORTFOLIOS:  # noqa: ASYNC110  (a dict tells nobody)
            await asyncio.sleep(0.1)


async def _caller(
    callers: Callers, account: Account, portfolio: str, target: str, is_over: asyncio.Event
) -> None:
    """Calls, each as soon as the one before is answered; none is sent again by hand."""
    while not is_over.is_set():
        await callers.call(account, callers.request(portfolio), target, DEADLINE_S)
