"""R1: a replica killed at each marked point, over and over, under load."""

import asyncio
import random

import pytest

from storage.crash import CALL_POINTS
from tests.chaos.accounts import Account, Callers, Counts, settle, until_drained
from tests.chaos.cluster import Cluster, Replica
from tests.chaos.report import Figure

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

# Enough portfolios that some fall in the shards of whichever relay is to be killed.
N_PORTFOLIOS = 24


@pytest.mark.parametrize("point", CALL_POINTS)
async def test_killed_at(
    point: str, running_cluster: Cluster, seeds: range, record: list[Counts], figure: Figure
) -> None:
    cluster = running_cluster
    cluster.heal(n_replicas=1)  # the victim is started anew anyway
    survivor, victim = cluster.replicas[0], cluster.replicas[-1]
    for seed in seeds:
        rng = random.Random(f"{point} {seed}")
        portfolios = [f"kill-{point}-{seed}-{i}" for i in range(N_PORTFOLIOS)]
        account = Account(portfolios)
        await asyncio.to_thread(victim.kill)
        setting_up = Callers([survivor.address])
        await setting_up.set_up(survivor.address, portfolios)
        await setting_up.close()
        await until_drained(cluster)
        await asyncio.to_thread(victim.start, f"{point}:{rng.randint(1, 6)}")
        callers = Callers([survivor.address, victim.address], seed)
        await _load_until_dead(callers, account, rng, victim, survivor)
        await callers.close()
        assert account.answers, "killed before any request: nothing was tested"
        record.append(await settle(f"killed at {point}", cluster, account))
    bad = sum(counts.lost + counts.phantom + counts.duplicate for counts in record)
    figure(
        "R1",
        f"kill -9 at {point}, {len(record)} seeds: {sum(c.sent for c in record)} requests, "
        f"{bad} lost, phantom or duplicate; order per portfolio kept",
    )


async def _load_until_dead(
    callers: Callers, account: Account, rng: random.Random, victim: Replica, survivor: Replica
) -> None:
    """Eight callers prefer the victim; what it doesn't answer they ask of the survivor."""

    async def caller(own: list[str]) -> None:
        while victim.is_running:
            request = callers.request(rng.choice(own))
            await callers.until_answered(account, request, [victim.address, survivor.address])
            if rng.random() < 0.2:  # a caller that has lost its answer asks again
                await callers.until_answered(account, request, [survivor.address])

    parts = [account.portfolios[i::8] for i in range(8)]
    await asyncio.wait_for(asyncio.gather(*(caller(part) for part in parts)), 120)
    assert victim.reap() == -9, f"ended by itself: {victim.log()[-2000:]}"
