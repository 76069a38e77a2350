"""R2 and R3: several replicas on one portfolio, and one request sent many times."""

import asyncio
from collections import Counter

import asyncpg
import pytest

from tests.chaos.accounts import CASH, WEIGHT_MAX, Account, Callers, Counts, settle
from tests.chaos.cluster import Cluster
from tests.chaos.report import Figure

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

ROUNDING = 1e-9


async def test_three_replicas_never_spend_the_same_cash_or_limit(
    cluster: Cluster, callers: Callers, seeds: range, record: list[Counts], figure: Figure
) -> None:
    addresses = [replica.address for replica in cluster.replicas]
    shares = []
    for seed in seeds:
        portfolios = [f"shared-{seed}-{i}" for i in range(2)]
        account = Account(portfolios)
        await callers.set_up(addresses[0], portfolios)
        work = [
            callers.until_answered(
                account,
                callers.request(portfolios[i % 2]),
                addresses[i % 3 :] + addresses[: i % 3],
            )
            for i in range(60)
        ]
        await asyncio.gather(*work)
        record.append(await settle("3 replicas on the same portfolios", cluster, account))
        shares += [await _check_limits(cluster, portfolio) for portfolio in portfolios]
    figure(
        "R2",
        f"{len(shares)} portfolios sized by 3 replicas at once: at most {max(shares):.4%} of cash "
        "or any limit reserved",
    )


async def _check_limits(cluster: Cluster, portfolio: str) -> float:
    """The largest share of a limit in use; nothing is held, so what is reserved is all of it."""
    connection = await asyncpg.connect(cluster.dsn)
    rows = await connection.fetch(
        """SELECT instrument_id, trade_lots_open, lot_size, price, cash_open FROM reservation
        WHERE portfolio_id = $1 AND state = 'OPEN'""",
        portfolio,
    )
    await connection.close()
    notional: Counter[str] = Counter()
    cash = 0.0
    for row in rows:
        columns = (row["instrument_id"], row["trade_lots_open"], row["lot_size"], row["price"])
        for instrument, lots, lot_size, price in zip(*columns, strict=True):
            notional[instrument] += lots * lot_size * price
        cash += sum(row["cash_open"])
    assert notional, "nothing was reserved, so nothing was tested"
    gross = sum(abs(value) for value in notional.values())
    share = max(max(notional.values()) / (WEIGHT_MAX * CASH), gross / CASH, cash / CASH)
    assert share <= 1 + ROUNDING
    assert cash > 0.9 * CASH, "the limits were not reached, so not tested"
    return share


async def test_one_request_sent_64_times_is_one_decision(
    cluster: Cluster, callers: Callers, seeds: range, record: list[Counts], figure: Figure
) -> None:
    addresses = [replica.address for replica in cluster.replicas]
    for seed in seeds:
        portfolio = f"same-{seed}"
        account = Account([portfolio])
        await callers.set_up(addresses[0], [portfolio])
        request = callers.request(portfolio)
        one_by_one = [
            callers.until_answered(account, request, addresses[i % 3 :] + addresses[: i % 3])
            for i in range(64)
        ]
        await asyncio.gather(*one_by_one)
        answers = account.answers[request.request_id]
        assert len(answers) == 64
        assert len(set(answers)) == 1
        counts = await settle("one request 64 times at once", cluster, account)
        assert (counts.stored, counts.received) == (1, 1)
        record.append(counts)
    figure("R3", f"{len(seeds)} x 64 identical requests at once: 1 decision, 64 equal answers each")
