"""R8: the kill switch under load, on every replica, with sessions stalled and beyond capacity."""

import asyncio
import os
import random
import time

import asyncpg
import grpc
import pytest
from positionsizing.v1 import portfolio_service_pb2, portfolio_service_pb2_grpc, types_pb2

from tests.chaos.accounts import Account, Callers, Counts, settle
from tests.chaos.cluster import OPTIONS, Cluster
from tests.chaos.report import Figure

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

N_HALTS = int(os.environ.get("CHAOS_HALTS", "4"))
HALT_MS_MAX = float(os.environ.get("CHAOS_HALT_MS", "inf"))
"""Asserted by `make chaos` alone: timings decide no other test."""
CALLERS = {"at 6 callers a replica": 6, "beyond capacity": 48}
QUIET_S = 1.0


@pytest.mark.parametrize("load", CALLERS)
async def test_no_decision_is_committed_after_a_halt_is_acknowledged(
    load: str, cluster: Cluster, callers: Callers, record: list[Counts], figure: Figure
) -> None:
    rng = random.Random(load)
    portfolios = [f"halt-{CALLERS[load]}-{i}" for i in range(3 * CALLERS[load])]
    account = Account(portfolios)
    addresses = [replica.address for replica in cluster.replicas]
    await callers.set_up(addresses[0], portfolios)
    ended = asyncio.Event()
    work = [
        asyncio.create_task(_size(callers, account, portfolio, addresses[i % 3], ended))
        for i, portfolio in enumerate(portfolios)
    ]
    seconds, n_late, n_moved = [], 0, 0
    database = await asyncpg.connect(cluster.dsn)
    async with grpc.aio.insecure_channel(addresses[0], OPTIONS) as channel:
        switch = portfolio_service_pb2_grpc.PortfolioServiceStub(channel)
        for _ in range(N_HALTS):
            before = await _n_decisions(database)
            await asyncio.sleep(rng.uniform(0.5, 1.5))
            began = time.monotonic()
            await _set(switch, types_pb2.TRADING_STATE_HALTED)
            seconds.append(time.monotonic() - began)
            at_halt = await _n_decisions(database)
            await asyncio.sleep(QUIET_S)
            n_late += await _n_decisions(database) - at_halt
            n_moved += at_halt - before
            await _set(switch, types_pb2.TRADING_STATE_ACTIVE)
    ended.set()
    await asyncio.gather(*work)
    await database.close()
    milliseconds = sorted(1000 * each for each in seconds)
    p99 = milliseconds[min(len(milliseconds) - 1, int(0.99 * len(milliseconds)))]
    figure(
        "R8",
        f"{N_HALTS} halts of the firm {load}: acknowledged in {p99:.0f} ms (p99), "
        f"{n_late} decisions committed after the acknowledgement",
    )
    assert n_moved > 0, "nothing was sized between the halts, so nothing was tested"
    assert n_late == 0
    assert p99 <= HALT_MS_MAX
    record.append(await settle(f"halted {load}", cluster, account))


async def _size(
    callers: Callers, account: Account, portfolio: str, address: str, ended: asyncio.Event
) -> None:
    while not ended.is_set():
        await callers.call(account, callers.request(portfolio), address)
        await asyncio.sleep(0.01)


async def _set(
    switch: portfolio_service_pb2_grpc.PortfolioServiceStub,
    state: types_pb2.TradingState.ValueType,
) -> None:
    request = portfolio_service_pb2.SetTradingStateRequest(trading_state=state, reason="chaos")
    async with asyncio.timeout(60):
        while True:
            try:
                await switch.SetTradingState(request, timeout=30)
                return
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.05)


async def _n_decisions(database: asyncpg.Connection) -> int:
    return int(await database.fetchval("SELECT count(*) FROM decision"))
