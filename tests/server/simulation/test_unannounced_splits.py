"""Splits that nobody announced, in backtests and searches: refused over gRPC until confirmed."""

from datetime import UTC, datetime, timedelta

import grpc
import numpy as np
import pytest
from positionsizing.v1 import history_service_pb2, job_service_pb2
from positionsizing.v1 import simulation_service_pb2 as pb

from tests.server.simulation.test_backtests import LONG_S, momentum, table
from tests.server.support.service_client import Client, new_id, refusal

Request = pb.RunBacktestRequest | pb.TuneParametersRequest


def split_table(sessions: int = 30, split_on: int = 12) -> pb.PriceTable:
    """Closes of two names, those of the second halved from a session on."""
    random = np.random.default_rng(3)
    closes = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.01, (sessions, 2)), axis=0))
    closes[split_on:, 1] /= 2.0
    made = pb.PriceTable(dates=table(sessions).dates, instrument_ids=["A", "B"])
    made.close.extend(closes.ravel())
    return made


def backtest(prices: pb.PriceTable, mode: pb.BacktestMode) -> pb.RunBacktestRequest:
    return pb.RunBacktestRequest(prices=prices, settings=[momentum("all", 0.5, 5)], mode=mode)


def search(prices: pb.PriceTable) -> pb.TuneParametersRequest:
    return pb.TuneParametersRequest(
        prices=prices,
        setting=momentum("all", 0.5, 5),
        ranges=[pb.TunedRange(field="parameters.kelly_fraction", low=0.1, high=1.0)],
        trials=16,
        segments=3,
    )


async def answered(client: Client, request: Request) -> object:
    if isinstance(request, pb.TuneParametersRequest):
        return await client.simulation.TuneParameters(request, timeout=LONG_S)
    return await client.simulation.RunBacktest(request, timeout=LONG_S)


@pytest.mark.parametrize(
    "asked",
    [
        backtest(split_table(), pb.BACKTEST_MODE_EXACT),
        backtest(split_table(), pb.BACKTEST_MODE_FAST),
        search(split_table(100)),
    ],
    ids=["exact", "fast", "tune"],
)
async def test_a_split_is_announced_or_confirmed_or_refused(client: Client, asked: Request) -> None:
    path = f"prices.close[{12 * 2 + 1}]"
    error = await refusal(answered(client, asked))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields == {path: "PRICE_JUMP"}
    for part in (
        "'B'",
        asked.prices.dates[12],
        asked.prices.dates[11],
        f"{asked.prices.close[25]:g}",
        f"{asked.prices.close[23]:g}",
        "confirm_prices",
        "prices.split",
    ):
        assert part in error.message
    asked.confirm_prices = True
    unannounced = await answered(client, asked)
    asked.confirm_prices = False
    asked.prices.split.extend([1.0] * len(asked.prices.close))
    asked.prices.split[25] = 2.0
    announced = await answered(client, asked)
    assert announced != unannounced


async def test_prices_of_a_stored_universe_that_jump_are_named_by_it(client: Client) -> None:
    prices, universe = split_table(), new_id("universe")
    days = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in prices.dates]
    history = history_service_pb2.History(
        universe_id=universe,
        instrument_ids=prices.instrument_ids,
        kind=history_service_pb2.HISTORY_KIND_PRICES,
        values=prices.close,
    )
    for day in days:
        history.observation_times.add().FromDatetime(day)
    history.known_time.FromDatetime(days[-1] + timedelta(hours=1))
    await client.history.PutHistory(history_service_pb2.PutHistoryRequest(history=history))
    asked = backtest(prices, pb.BACKTEST_MODE_FAST)
    asked.universe_id = universe
    error = await refusal(client.simulation.RunBacktest(asked, timeout=LONG_S))
    assert error.fields == {"universe_id": "PRICE_JUMP"}
    assert f"'B' on {prices.dates[12]}" in error.message
    job = job_service_pb2.StartJobRequest(run_backtest=asked)
    assert (await refusal(client.jobs.StartJob(job))).fields == {
        "run_backtest.universe_id": "PRICE_JUMP"
    }
    asked.confirm_prices = True
    answer = await client.simulation.RunBacktest(asked, timeout=LONG_S)
    assert len(answer.dates) == 30
