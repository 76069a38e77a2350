"""What is sized live, day after day, is what a backtest of the same days holds (B11.9)."""

from uuid import uuid4

import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
)
from positionsizing.v1 import simulation_service_pb2 as pb

from compute.simulate.backtest import run
from compute.waterfall.kernels import just_in_time
from server.convert.backtest_setting import setting_of
from server.convert.simulation import price_history
from tests.server.simulation.test_backtests import LONG_S
from tests.server.support.service_client import Client, new_id

DAYS, NAMES, CASH = 6, 5, 1e5


def signals_of(names: list[str], rng: np.random.Generator) -> sizing_pb2.SignalBatch:
    """Bets on either side, some without an edge."""
    n = len(names)
    return sizing_pb2.SignalBatch(
        instrument_ids=names,
        side=rng.choice([1, 2], n),
        win_probability=rng.uniform(0.45, 0.65, n),
        payoff=rng.uniform(0.02, 0.1, n),
        loss_fraction=rng.uniform(0.02, 0.1, n),
        confidence=rng.uniform(0.5, 1.0, n),
    )


async def live_day(
    client: Client, portfolio_id: str, told: sizing_pb2.SignalBatch, price: np.ndarray
) -> None:
    """Sizes at the close, and has all of it filled at that price."""
    names = list(told.instrument_ids)
    columns = {"volatility": [0.3] * NAMES, "average_daily_volume": [1e6] * NAMES}
    snapshot = await client.put_market(
        instrument_ids=names, price=price, sector=["A"] * NAMES, **columns
    )
    request = sizing_service_pb2.SizePositionsRequest(
        request_id=str(uuid4()),
        portfolio_id=portfolio_id,
        signals=told,
        market_snapshot_id=snapshot,
    )
    decision = await client.size(request)
    lots = list(decision.sizes.trade_lots)
    traded = [i for i, lot in enumerate(lots) if lot]
    fills = sizing_service_pb2.Fills(
        instrument_ids=[names[i] for i in traded],
        lots=[lots[i] for i in traded],
        price=[price[i] for i in traded],
    )
    await client.sizing.SettleDecision(
        sizing_service_pb2.SettleDecisionRequest(
            request_id=str(uuid4()), decision_id=decision.decision_id, fills=fills, close=True
        )
    )


@pytest.mark.parametrize("seed", [1, 2])
async def test_days_that_were_live_are_the_same_lots_in_a_backtest(
    client: Client, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    names = [new_id("live") for _ in range(NAMES)]
    dates = [f"2026-03-0{day + 1}" for day in range(DAYS)]
    close = np.array([20.0, 50.0, 80.0, 100.0, 9.0]) * np.cumprod(
        1.0 + 0.03 * rng.standard_normal((DAYS, NAMES)), axis=0
    )
    limits = limits_pb2.Limits(
        weight_max=0.3, leverage_max=1.2, net_weight_max=0.5, allow_short=True, allow_flip=True
    )
    parameters = parameter_service_pb2.SizingParameters(kelly_fraction=0.4)
    portfolio_id = await client.put_portfolio(CASH)
    await client.portfolio.SetLimits(
        portfolio_service_pb2.SetLimitsRequest(
            scope=portfolio_service_pb2.Scope(portfolio_id=portfolio_id), limits=limits
        )
    )
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )
    every, held, cash = sizing_pb2.SignalBatch(), [], []
    for row in close[:-1]:
        told = signals_of(names, rng)
        every.MergeFrom(told)
        await live_day(client, portfolio_id, told, row)
        found = (
            await client.portfolio.GetPortfolio(
                portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
            )
        ).portfolio
        quantity = dict(zip(found.holdings.instrument_ids, found.holdings.quantity, strict=True))
        held.append([quantity.get(name, 0.0) for name in names])
        cash.append(found.cash)
    setting = pb.BacktestSetting(
        name="live",
        given=pb.GivenSignals(dates=np.repeat(dates[:-1], NAMES).tolist(), signals=every),
        parameters=parameters,
        limits=limits,
        fill_at=pb.FILL_AT_SAME_CLOSE,
        cash=CASH,
    )
    prices = pb.PriceTable(dates=dates, instrument_ids=names, close=close.ravel())
    history = price_history(prices)
    backtest = run(history, setting_of(setting, 0, history), just_in_time())
    assert backtest.units is not None
    held_then = np.round(np.diff(np.vstack([np.zeros(NAMES), held]), axis=0)).astype(int)
    assert np.abs(held_then).sum() > 1000, "something was traded"
    # Orders of a session are filled in it: the units of its close are those before, here.
    np.testing.assert_array_equal(backtest.units[1:], held)
    request = pb.RunBacktestRequest(prices=prices, settings=[setting])
    (result,) = (await client.simulation.RunBacktest(request, timeout=LONG_S)).results
    np.testing.assert_allclose(result.cash[1:], cash, rtol=1e-12)
