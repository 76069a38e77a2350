"""Histories whose every instrument has left the market before they end."""

import pytest
from positionsizing.v1 import limits_pb2
from positionsizing.v1 import simulation_service_pb2 as pb

from tests.server.support.service_client import Client, refusal

DAYS = [f"2021-03-{day:02d}" for day in range(1, 13)]
CLOSE = [100.0, 101.0, 99.0, 98.0, 97.0, 96.0]
LONG_S = 600.0


def request(mode: int, sessions: int) -> pb.RunBacktestRequest:
    setting = pb.BacktestSetting(
        volatility_forecast=pb.VolatilityForecastStrategy(premium=0.01, sessions=2),
        limits=limits_pb2.Limits(weight_max=0.5),
    )
    close = (CLOSE + [0.0] * 6)[:sessions]
    table = pb.PriceTable(dates=DAYS[:sessions], instrument_ids=["X"], close=close)
    return pb.RunBacktestRequest(prices=table, settings=[setting], mode=mode)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [pb.BACKTEST_MODE_EXACT, pb.BACKTEST_MODE_FAST])
@pytest.mark.parametrize("sessions", [7, 12])
async def test_the_only_instrument_is_closed_where_it_ends_and_cash_is_left(
    client: Client, mode: int, sessions: int
) -> None:
    asked = request(mode, sessions)
    asked.delistings.add(instrument_id="X", date=DAYS[6], price=50.0)
    answer = await client.simulation.RunBacktest(asked, timeout=LONG_S)
    (result,) = answer.results
    units = (result.equity[5] - result.cash[5]) / CLOSE[5]
    assert units > 0.0
    assert result.delisted_positions == 1
    left = result.cash[5] + units * 50.0
    assert list(result.equity[6:]) == pytest.approx([left] * (sessions - 6), rel=1e-12)


async def test_sessions_without_any_close_before_the_end_are_refused(client: Client) -> None:
    asked = request(pb.BACKTEST_MODE_FAST, 12)
    refused = await refusal(client.simulation.RunBacktest(asked, timeout=LONG_S))
    assert refused.fields == {"prices.close[6]": "PRICES_END"}
    asked.delistings.add(instrument_id="X", date=DAYS[8], price=50.0)
    refused = await refusal(client.simulation.RunBacktest(asked, timeout=LONG_S))
    assert refused.fields == {"prices.close[6]": "MISSING"}
