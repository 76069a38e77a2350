"""Reference numbers of volatilities from bars and from fits, asked of a running service."""

from math import sqrt
from typing import Any

import numpy as np
import pytest
from arch.data import sp500
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import history_service_pb2
from positionsizing.v1 import volatility_service_pb2 as pb
from service_client import INSTRUMENTS, Client, new_id
from test_range_volatility import put_bar
from test_volatility_fits import fit
from test_volatility_models import put_model

WEEK = [  # open, high, low, close of five days; the close before is 99.5
    (100.0, 102.0, 99.0, 101.0),
    (101.5, 103.0, 100.0, 100.5),
    (100.2, 103.1, 99.8, 102.6),
    (102.8, 103.5, 100.5, 101.2),
    (101.0, 102.2, 99.7, 101.8),
]


async def test_a_week_of_bars_d7_8(own_client: Client) -> None:
    """Equal weights but for what a half-life of 1000 days leaves of them."""
    await put_bar(own_client, 6, (99.2, 100.0, 99.0, 99.5))
    for place, bar in enumerate(WEEK):
        await put_bar(own_client, 5 - place, bar)
    kinds: list[tuple[int, dict[str, Any], float]] = [
        (pb.RANGE_ESTIMATOR_PARKINSON, {"session_only": True}, 3.103044514e-4),
        (pb.RANGE_ESTIMATOR_GARMAN_KLASS, {"session_only": True}, 3.478453328e-4),
        (pb.RANGE_ESTIMATOR_GARMAN_KLASS, {}, 3.610764174e-4),
        (pb.RANGE_ESTIMATOR_ROGERS_SATCHELL, {"session_only": True}, 3.412280000e-4),
        (pb.RANGE_ESTIMATOR_YANG_ZHANG, {}, 3.448898759e-4),
    ]
    for estimator, more, variance in kinds:
        model_id = new_id("week")
        own = pb.RangeModel(estimator=estimator, **more)  # type: ignore[arg-type]
        await put_model(
            own_client, model_id=model_id, range=own, half_life=1000.0, observations_min=1
        )
        ask = pb.GetVolatilityRequest(model_id=model_id, instrument_ids=INSTRUMENTS[:1])
        said = await own_client.volatility.GetVolatility(ask)
        assert said.estimate[0] == pytest.approx(sqrt(252 * variance), rel=1e-3), estimator


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (pb.VOLATILITY_FIT_GARCH, (0.101899, 0.0, 0.885263, 0.017744)),
        (pb.VOLATILITY_FIT_GJR_GARCH, (0.0, 0.179711, 0.892149, 0.020151)),
    ],
    ids=["GARCH", "GJR"],
)
async def test_twenty_years_of_an_index_d7_6(
    client: Client, kind: int, table: tuple[float, ...]
) -> None:
    """The S&P 500, 1999 to 2018; the table begins its variances elsewhere."""
    index = sp500.load()["Adj Close"]
    closes = index.to_numpy()
    universe_id = new_id("index")
    part = history_service_pb2.History(
        universe_id=universe_id,
        kind=history_service_pb2.HISTORY_KIND_PRICES,
        instrument_ids=["A"],
        observation_times=[Timestamp(seconds=int(t.timestamp())) for t in index.index],
        values=closes.tolist(),
    )
    await client.history.PutHistory(history_service_pb2.PutHistoryRequest(history=part))
    answer = await fit(client, universe_id, kind)
    garch = answer.model.garch
    alpha, gamma, beta, omega = table
    assert (garch.alpha, garch.gamma, garch.beta) == pytest.approx((alpha, gamma, beta), abs=3e-4)
    left = 1.0 - garch.alpha - garch.gamma / 2 - garch.beta
    daily = 1e4 * garch.long_run_volatility**2 / 252  # in percent, as the table has it
    assert daily * left == pytest.approx(omega, abs=3e-4)
    assert (answer.return_count, answer.converged) == (len(closes) - 1, True)
    if kind == pb.VOLATILITY_FIT_GJR_GARCH:
        assert answer.held_out_loss < answer.held_out_loss_exponential
    assert np.isfinite(answer.held_out_loss)
