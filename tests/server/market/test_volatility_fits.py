"""FitVolatilityModel: a stored history in, a model out that is stored by nobody but its reader."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import history_service_pb2
from positionsizing.v1 import volatility_service_pb2 as pb

from compute.adapt.fit_garch import fit_garch
from tests.server.support.service_client import Client, new_id, refusal

DAY_S = 86400
START = 1_500_000_000


def day(number: int) -> Timestamp:
    return Timestamp(seconds=START + number * DAY_S)


def two_regimes(count: int, seed: int = 4) -> np.ndarray:
    generator = np.random.default_rng(seed)
    calm = np.repeat(generator.integers(0, 2, count // 50 + 1), 50)[:count]
    return generator.normal(0.0, np.where(calm, 0.008, 0.02))


@pytest.fixture
async def stored(client: Client) -> tuple[str, np.ndarray]:
    """A universe with one instrument's prices, and its log returns."""
    universe_id, returns = new_id("fits"), two_regimes(1100)
    prices = 50.0 * np.exp(np.concatenate([[0.0], np.cumsum(returns)]))
    part = history_service_pb2.History(
        universe_id=universe_id,
        kind=history_service_pb2.HISTORY_KIND_PRICES,
        instrument_ids=["A"],
        observation_times=[day(number) for number in range(len(prices))],
        values=prices.tolist(),
    )
    await client.history.PutHistory(history_service_pb2.PutHistoryRequest(history=part))
    return universe_id, np.diff(np.log(prices))


async def fit(client: Client, universe_id: str, kind: int, **given: Any) -> Any:
    request = pb.FitVolatilityModelRequest(
        **{
            "fit": kind,
            "universe_id": universe_id,
            "instrument_id": "A",
            "base": pb.VolatilityModel(model_id=new_id("fitted"), band=0.2, half_life=30.0),
            **given,
        }
    )
    return await client.volatility.FitVolatilityModel(request)


async def test_a_fit_is_a_proposal_that_can_be_put(client: Client, stored: Any) -> None:
    universe_id, returns = stored
    answer = await fit(client, universe_id, pb.VOLATILITY_FIT_GJR_GARCH)
    expected = fit_garch(returns, asymmetric=True)
    garch = answer.model.garch
    told = (garch.alpha, garch.gamma, garch.beta)
    assert told == pytest.approx((expected.alpha, expected.gamma, expected.beta), rel=1e-6)
    yearly = np.sqrt(252.0 * expected.long_run_variance)
    assert garch.long_run_volatility == pytest.approx(yearly, rel=1e-6)
    assert (answer.return_count, answer.converged) == (1100, True)
    assert (answer.first_time, answer.last_time) == (day(0), day(1100))
    assert answer.held_out_loss > 0.0
    assert answer.held_out_loss_exponential > 0.0
    assert answer.model.band == 0.2
    assert not answer.model.HasField("half_life")
    listed = await client.volatility.ListVolatilityModels(pb.ListVolatilityModelsRequest())
    assert answer.model.model_id not in {item.model.model_id for item in listed.models}
    put = await client.volatility.PutVolatilityModel(
        pb.PutVolatilityModelRequest(model=answer.model)
    )
    assert put.change.version == 1


async def test_a_fit_knows_nothing_after_its_span(client: Client, stored: Any) -> None:
    universe_id, _ = stored
    before = await fit(
        client, universe_id, pb.VOLATILITY_FIT_GARCH, as_of_time=day(400),
        base=pb.VolatilityModel(model_id="same"),
    )  # fmt: skip
    late = history_service_pb2.History(
        universe_id=universe_id,
        kind=history_service_pb2.HISTORY_KIND_PRICES,
        instrument_ids=["A"],
        observation_times=[day(number) for number in range(401, 420)],
        values=[1e9 * (1 + number % 2) for number in range(19)],
    )
    await client.history.PutHistory(history_service_pb2.PutHistoryRequest(history=late))
    after = await fit(
        client, universe_id, pb.VOLATILITY_FIT_GARCH, as_of_time=day(400),
        base=pb.VolatilityModel(model_id="same"),
    )  # fmt: skip
    assert after.SerializeToString(deterministic=True) == before.SerializeToString(
        deterministic=True
    )
    assert before.return_count == 400


async def test_regimes_are_proposed_with_their_condition(client: Client, stored: Any) -> None:
    universe_id, _ = stored
    base = pb.VolatilityModel(model_id=new_id("regimes"))
    base.regimes.condition_id = "turbulence"
    base.regimes.condition_instrument_id = "A"
    answer = await fit(client, universe_id, pb.VOLATILITY_FIT_REGIMES, base=base)
    calm, wild = answer.model.regimes.regimes
    assert (calm.deviation, wild.deviation) == pytest.approx((0.008, 0.02), rel=0.1)
    assert answer.model.regimes.condition_id == "turbulence"
    assert sum(answer.occupancy) == pytest.approx(1.0)
    assert min(answer.duration) > 3.0
    assert not answer.HasField("held_out_loss"), "two thirds are too few to fit"


@pytest.fixture
async def bars(client: Client) -> tuple[str, np.ndarray]:
    """A universe with the bars of one instrument, and these, (T, 4): open, high, low, close."""
    universe_id, generator, price = new_id("bars"), np.random.default_rng(8), 40.0
    rows, level = [], 0.0
    for _ in range(400):
        level = 0.9 * level + 0.3 * generator.standard_normal()
        walk = price * np.exp(np.cumsum(generator.normal(0.0, 0.004 * np.exp(level), 12)))
        rows.append((walk[0], walk.max(), walk.min(), walk[-1]))
        price = walk[-1]
    part = history_service_pb2.History(
        universe_id=universe_id,
        kind=history_service_pb2.HISTORY_KIND_PRICES,
        instrument_ids=["A.open", "A.high", "A.low", "A"],
        observation_times=[day(number) for number in range(len(rows))],
        values=np.array(rows).ravel().tolist(),
    )
    await client.history.PutHistory(history_service_pb2.PutHistoryRequest(history=part))
    return universe_id, np.array(rows)


COLUMNS = pb.BarColumns(
    open_instrument_id="A.open", high_instrument_id="A.high", low_instrument_id="A.low"
)


@pytest.mark.parametrize("kind", [pb.VOLATILITY_FIT_HAR, pb.VOLATILITY_FIT_LOG_HAR])
async def test_regressions_on_bars_are_proposed(client: Client, bars: Any, kind: int) -> None:
    universe_id, rows = bars
    base = pb.VolatilityModel(model_id=new_id("har"), half_life=20.0)
    base.range.estimator = pb.RANGE_ESTIMATOR_PARKINSON
    answer = await fit(client, universe_id, kind, bars=COLUMNS, base=base)
    first, high, low, close = rows.T
    square = np.log(high / low)[1:] ** 2 / (4.0 * np.log(2.0)) + np.log(first[1:] / close[:-1]) ** 2
    x = np.log(square) if kind == pb.VOLATILITY_FIT_LOG_HAR else square
    design = [
        [1.0, x[t], x[t - 4 : t + 1].mean(), x[t - 21 : t + 1].mean()] for t in range(21, 398)
    ]
    expected, *_ = np.linalg.lstsq(np.array(design), x[22:])
    own = answer.model.har
    told = (own.constant, own.daily, own.weekly, own.monthly)
    if (expected >= 0.0).all() or kind == pb.VOLATILITY_FIT_LOG_HAR:
        assert told == pytest.approx(expected, rel=1e-6)
    assert min(answer.held_out_loss, answer.held_out_loss_exponential, answer.r_squared) > 0.0
    assert answer.return_count == 399
    assert answer.model.range.estimator == pb.RANGE_ESTIMATOR_PARKINSON
    put = pb.PutVolatilityModelRequest(model=answer.model)
    assert (await client.volatility.PutVolatilityModel(put)).change.version == 1

    async def refused(**given: Any) -> Any:
        every = {"bars": COLUMNS, "base": base, **given}
        return await refusal(fit(client, universe_id, kind, **every))

    assert (await refused(base=pb.VolatilityModel(model_id="x"))).fields == {
        "base.range": "MISSING"
    }
    assert (await refused(bars=None)).fields.keys() == {
        f"bars.{name}_instrument_id" for name in ("open", "high", "low")
    }
    swapped = pb.BarColumns(
        open_instrument_id="A.open", high_instrument_id="A.low", low_instrument_id="A.high"
    )
    assert (await refused(bars=swapped)).reason == "BARS_OUT_OF_ORDER"
    assert (await refused(as_of_time=day(50))).reason == "TOO_FEW_PERIODS"


async def test_what_is_refused(client: Client, stored: Any) -> None:
    universe_id, _ = stored

    async def refused(kind: int = pb.VOLATILITY_FIT_GARCH, universe: str = "", **given: Any) -> Any:
        return await refusal(fit(client, universe or universe_id, kind, **given))

    assert (await refused(0)).fields == {"fit": "MISSING"}
    assert (await refused(base=None)).fields == {"base": "MISSING"}
    assert (await refused(instrument_id="")).fields == {"instrument_id": "MISSING"}
    assert (await refused(instrument_id="B")).fields == {"instrument_ids[0]": "UNKNOWN_INSTRUMENT"}
    assert (await refused(universe="nowhere")).reason == "HISTORY_NOT_FOUND"
    assert (await refused(regime_count=2)).fields == {"regime_count": "NOT_APPLICABLE"}
    regimes = pb.VOLATILITY_FIT_REGIMES
    assert (await refused(regimes, regime_count=5)).fields.keys() == {"regime_count"}
    assert (await refused(as_of_time=day(50))).reason == "TOO_FEW_PERIODS"
    assert (await refused(regimes, as_of_time=day(500))).reason == "TOO_FEW_PERIODS"
    bars = pb.VolatilityModel(model_id="x", range=pb.RangeModel(estimator=1))
    assert (await refused(base=bars)).fields == {"base.range": "NOT_APPLICABLE"}
