"""Whether the best of several strategies sizes better than none, over gRPC and the command line."""

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import market_service_pb2, portfolio_service_pb2

from compute.simulate.superiority import superiority
from tests.server.cli.test_commands import Sizing, sizing
from tests.server.support.service_client import Client, new_id, refusal, sizing_request

NAMES = ["X", "Y"]
DAYS = 64

__all__ = ["sizing"]


async def snapshots(client: Client, days: int) -> tuple[list[str], np.ndarray]:
    """One a day, the last today; X rises, Y falls."""
    moved = np.random.default_rng(3).normal([0.004, -0.004], 0.02, (days, 2))
    prices = 100.0 * np.exp(np.cumsum(moved, axis=0))
    names = []
    for day, row in enumerate(prices):
        snapshot = market_service_pb2.MarketSnapshot(
            snapshot_id=new_id("compared"), instrument_ids=NAMES, price=row
        )
        as_of = datetime(2026, 1, 1, 21, tzinfo=UTC) + timedelta(days=day)
        snapshot.as_of_time.FromDatetime(as_of)
        await client.market.PutMarketSnapshot(
            market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=True)
        )
        names.append(snapshot.snapshot_id)
    return names, prices[1:] / prices[:-1] - 1.0


async def funded(client: Client) -> str:
    portfolio_id = await client.put_portfolio(1e6)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.3, leverage_max=1.0)
    return portfolio_id


async def size(
    client: Client, portfolio_id: str, strategy: str, day: str, p: list[float]
) -> np.ndarray:
    signals = {"side": [1, 1], "win_probability": p, "payoff": [1.0, 1.0]}
    request = sizing_request(
        portfolio_id, NAMES, signals, market_snapshot_id=day, strategy_id=strategy
    )
    return np.array((await client.size(request)).sizes.weight)


def asked(*portfolios: str, **more: str) -> pb.CompareStrategiesRequest:
    named = [pb.ComparedPortfolio(portfolio_id=name) for name in portfolios]
    return pb.CompareStrategiesRequest(portfolios=named, **more)  # type: ignore[arg-type]


async def test_the_best_of_all_strategies_is_tested_as_the_best_of_so_many(
    client: Client, sizing: Sizing
) -> None:
    """Two strategies of one portfolio on the same days, and one of another on every other day."""
    one, other = await funded(client), await funded(client)
    days, returns = await snapshots(client, DAYS)
    growth = np.zeros((DAYS - 1, 3))
    for t, day in enumerate(days[:-1]):
        tried = [
            (one, "falling", [0.5, 0.6]),
            (one, "rising", [0.6, 0.5]),
            (other, "", [0.55, 0.5]),
        ]
        for place, (portfolio, strategy, p) in enumerate(tried):
            if place < 2 or t % 2 == 0:
                weight = await size(client, portfolio, strategy, day, p)
                moved = returns[t]
                if place == 2:  # valued two days later, at its next decision
                    moved = (1.0 + returns[t : t + 2]).prod(axis=0) - 1.0
                growth[t, place] = np.log1p(weight @ moved)
    request = asked(one, other, end_market_snapshot_id=days[-1])
    answer = await client.analytics.CompareStrategies(request)
    told = [(s.portfolio_id, s.strategy_id, s.decisions) for s in answer.strategies]
    n = DAYS - 1
    assert told == [(one, "falling", n), (one, "rising", n), (other, "", (n + 1) // 2)]
    assert [s.growth for s in answer.strategies] == pytest.approx(growth.sum(axis=0), abs=1e-8)
    assert answer.days == n
    tests = {item.benchmark: item for item in answer.tests}
    assert list(tests) == ["nothing", "full Kelly", "half Kelly", "equal"]
    nothing = tests["nothing"]
    best = int(growth.sum(axis=0).argmax())
    assert (nothing.strategies_compared, nothing.best, nothing.undefined_reason) == (3, best, "")
    wanted = superiority(growth)
    assert (nothing.superior_ability_p, nothing.reality_check_p) == pytest.approx(wanted, abs=2e-3)
    assert nothing.difference.mean == pytest.approx(growth[:, best].mean(), abs=1e-9)
    assert nothing.difference.HasField("low")

    shown = await sizing("performance", one, "--compare", other, "--end", days[-1])
    assert shown.code == 0, shown.err
    for text in ("rising", "falling", "(none)", "half Kelly", f"{n} days", "p = 0."):
        assert text in shown.out
    lines = ("performance", one, "--compare", one, "--strategy", "rising")
    wrong = await sizing(*lines)
    assert wrong.code != 0
    assert "--compare" in wrong.err


async def test_too_few_outcomes_are_an_answer(client: Client, sizing: Sizing) -> None:
    portfolio = await funded(client)
    empty = await client.analytics.CompareStrategies(asked(portfolio))
    assert len(empty.strategies) == 0
    assert {item.undefined_reason for item in empty.tests} == {"TOO_FEW_OUTCOMES"}
    days, _ = await snapshots(client, 4)
    for day in days[:-1]:
        await size(client, portfolio, "rising", day, [0.6, 0.5])
        await asyncio.sleep(0.002)  # times of decisions differ
    request = asked(portfolio, end_market_snapshot_id=days[-1])
    answer = await client.analytics.CompareStrategies(request)
    assert answer.days == 3
    for item in answer.tests:
        assert not item.HasField("superior_ability_p")
        assert not item.HasField("reality_check_p")
        assert item.undefined_reason == "TOO_FEW_OUTCOMES"
        assert item.strategies_compared == 1
        assert item.HasField("best")
    shown = await sizing("performance", portfolio, "--compare", portfolio, "--end", days[-1])
    assert "too few outcomes" in shown.out
    request.create_time_from.CopyFrom(Timestamp(seconds=4102444800))
    later = await client.analytics.CompareStrategies(request)
    assert (later.days, len(later.strategies)) == (0, 0)


async def test_what_is_wrong_is_named(client: Client) -> None:
    portfolio = await funded(client)
    for request, field, reason in (
        (asked(), "portfolios", "OUT_OF_RANGE"),
        (asked(*[f"p{i}" for i in range(65)]), "portfolios", "OUT_OF_RANGE"),
        (asked(portfolio, portfolio), "portfolios[1].portfolio_id", "DUPLICATE"),
        (asked(portfolio, ""), "portfolios[1].portfolio_id", "MISSING"),
        (asked(portfolio, "a b"), "portfolios[1].portfolio_id", "BAD_FORMAT"),
        (asked(portfolio, end_market_snapshot_id="a b"), "end_market_snapshot_id", "BAD_FORMAT"),
    ):
        refused = await refusal(client.analytics.CompareStrategies(request))
        assert list(refused.fields) == [field], field
        assert refused.fields[field] == reason
    refused = await refusal(client.analytics.CompareStrategies(asked(portfolio, "nobodys")))
    assert refused.reason == "PORTFOLIO_NOT_FOUND"
