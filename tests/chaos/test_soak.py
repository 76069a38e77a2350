"""R11: steady load for long; memory and descriptors must not creep. Only by `make chaos`."""

import asyncio
import os
import time

import numpy as np
import pytest

from tests.chaos.accounts import Account, Callers, Counts, settle
from tests.chaos.cluster import Cluster
from tests.chaos.report import Figure

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

SOAK_S = float(os.environ.get("CHAOS_SOAK_S", "0"))
# 1 MiB an hour can't be told from noise in ten minutes; this much could.
SLOPE_MIB_PER_H_MAX = 60.0


@pytest.mark.skipif(SOAK_S < 60, reason="CHAOS_SOAK_S is not set: `make chaos` sets it to 600")
async def test_memory_and_descriptors_stay_flat(
    cluster: Cluster, callers: Callers, record: list[Counts], figure: Figure
) -> None:
    portfolios = [f"soak-{i}" for i in range(12)]
    account = Account(portfolios)
    addresses = [replica.address for replica in cluster.replicas]
    await callers.set_up(addresses[0], portfolios)
    end = time.monotonic() + SOAK_S

    async def caller(place: int) -> None:
        while time.monotonic() < end:
            request = callers.request(portfolios[place])
            await callers.until_answered(account, request, [addresses[place % 3]])
            await asyncio.sleep(0.02)

    load = [asyncio.create_task(caller(place)) for place in range(12)]
    samples: list[tuple[float, list[tuple[float, int]]]] = []
    while time.monotonic() < end:
        await asyncio.sleep(5)
        samples.append((time.monotonic(), [replica.usage() for replica in cluster.replicas]))
    await asyncio.gather(*load)
    warm = samples[len(samples) // 3 :]
    hours = np.array([moment for moment, _ in warm]) / 3600
    for place, replica in enumerate(cluster.replicas):
        memory = np.array([usage[place][0] for _, usage in warm])
        descriptors = [usage[place][1] for _, usage in warm]
        slope = float(np.polyfit(hours, memory, 1)[0])
        figure(
            "R11",
            f"{replica.name} under load for {SOAK_S:.0f} s: {memory[-1]:.0f} MiB, "
            f"{slope:+.1f} MiB/h; descriptors {min(descriptors)} to {max(descriptors)}",
        )
        assert slope < SLOPE_MIB_PER_H_MAX
        assert max(descriptors) - min(descriptors) <= 16
    record.append(await settle(f"soak of {SOAK_S:.0f} s", cluster, account))
