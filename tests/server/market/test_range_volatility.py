"""Range models of volatility through the RPC: bars move them, sizes shrink, replays need none."""

from itertools import pairwise
from math import log, sqrt

import numpy as np
import pytest
from positionsizing.v1 import (
    corporate_action_pb2,
    market_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
)
from positionsizing.v1 import volatility_service_pb2 as pb

from tests.server.market.test_volatility_models import (
    DAYS,
    EDGE,
    new_portfolio,
    put_day,
    put_model,
    use,
)
from tests.server.support.service_client import INSTRUMENTS, Client, new_id, refusal, sizing_request

N = len(INSTRUMENTS)
Bar = tuple[float, float, float, float]


@pytest.fixture
def client(own_client: Client) -> Client:
    """A service of the test's own, whose only market is the one that the test tells."""
    return own_client


def bars_of(seed: int, deviation: float) -> list[Bar]:
    rng, rows, price = np.random.default_rng(seed), [], 20.0
    for _ in range(DAYS):
        walk = price * np.exp(np.cumsum(rng.normal(0.0, deviation / 7.0, 50)))
        rows.append((walk[0], walk.max(), walk.min(), walk[-1]))
        price = float(walk[-1])
    return rows


async def put_bar(client: Client, days: float, bar: Bar) -> str:
    """The bar of the first instrument; the others have none."""
    columns = {
        name: [value] + [0.0] * (N - 1)
        for name, value in zip(("open_price", "high_price", "low_price"), bar, strict=False)
    }
    return await put_day(client, days, (bar[3],), **columns)


def garman_klass(bars: list[Bar], half_life: float) -> float:
    """Annual volatility, straight from the definition, with the gaps."""
    squares = []
    for before, (first, high, low, close) in pairwise(bars):
        session = 0.5 * log(high / low) ** 2 - (2 * log(2) - 1) * log(close / first) ** 2
        squares.append(session + log(first / before[3]) ** 2)
    weights = [0.5 ** (k / half_life) for k in range(len(squares))]
    total = sum(w * s for w, s in zip(weights, reversed(squares), strict=True))
    return sqrt(252.0 * total / sum(weights))


async def test_bars_make_the_volatility_that_sizes_take(client: Client) -> None:
    portfolio_id, bars = await new_portfolio(client), bars_of(5, 0.03)
    model_id = new_id("bars")
    own = pb.RangeModel(estimator=pb.RANGE_ESTIMATOR_GARMAN_KLASS)
    given = {"model_id": model_id, "range": own, "band": 0.0, "half_life": 10.0}
    for day in range(DAYS // 2):
        await put_day(client, DAYS - day + 0.1, (1.0,))  # no bars: no observation
        await put_bar(client, DAYS - day, bars[day])
    built = await put_model(client, **given)
    assert built.state.period_count == DAYS // 2
    for day in range(DAYS // 2, DAYS):
        await put_day(client, DAYS - day + 0.1, (1.0,))
        snapshot_id = await put_bar(client, DAYS - day, bars[day])
    await use(client, portfolio_id, model_id, volatility_target=0.05, kelly_fraction=1.0)

    expected = garman_klass(bars, 10.0)
    ask = pb.GetVolatilityRequest(model_id=model_id, instrument_ids=INSTRUMENTS[:2])
    said = await client.volatility.GetVolatility(ask)
    assert list(said.volatility) == pytest.approx([expected, 0.0], rel=1e-9)
    assert said.state.market_snapshot_id == snapshot_id
    assert said.state.period_count == DAYS

    decision = await client.size(sizing_request(portfolio_id, ["I0"], EDGE))
    assert list(decision.sizes.annual_volatility) == pytest.approx([expected], rel=1e-9)
    (item,) = decision.adjustments
    assert item.source == sizing_pb2.ADJUSTMENT_SOURCE_VOLATILITY
    assert decision.versions.volatility_state == f"{model_id}@{said.state.version}"

    rebuild = pb.RebuildVolatilityRequest(model_id=model_id, validate_only=True)
    compared = await client.volatility.RebuildVolatility(rebuild)
    assert compared.different_count == 0
    assert compared.state.period_count == DAYS
    await put_bar(client, 0.0, (60.0, 90.0, 30.0, 40.0))
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    assert replay.weight_difference_max == 0.0


async def test_a_regression_on_bars_sizes_and_is_replayed_without_it(client: Client) -> None:
    """log-HAR: what 30 bars come to, straight from the definition."""
    portfolio_id, bars = await new_portfolio(client), bars_of(6, 0.03)[:30]
    for day, bar in enumerate(bars):
        await put_bar(client, DAYS - day, bar)
    weights = {"daily": 0.14, "weekly": 0.46, "monthly": 0.32, "constant": -0.6}
    har = pb.HarModel(**weights, logarithmic=True, residual_variance=0.5)
    own = pb.RangeModel(estimator=pb.RANGE_ESTIMATOR_GARMAN_KLASS)
    model_id = new_id("har")
    await put_model(client, model_id=model_id, har=har, range=own, band=0.0)
    ask = pb.GetVolatilityRequest(model_id=model_id, instrument_ids=INSTRUMENTS[:1])

    def expected(seen: list[Bar]) -> float:
        x = []
        for before, (first, high, low, close) in pairwise(seen):
            session = 0.5 * log(high / low) ** 2 - (2 * log(2) - 1) * log(close / first) ** 2
            x.append(log(session + log(first / before[3]) ** 2))
        means = 0.14 * x[-1] + 0.46 * np.mean(x[-5:]) + 0.32 * np.mean(x[-22:])
        return sqrt(252.0 * np.exp(-0.6 + means + 0.25))

    said = await client.volatility.GetVolatility(ask)
    assert said.estimate[0] == pytest.approx(expected(bars), rel=1e-9)
    more = bars_of(6, 0.03)[30]
    await put_bar(client, DAYS - 30, more)
    said = await client.volatility.GetVolatility(ask)
    assert said.volatility[0] == pytest.approx(expected([*bars, more]), rel=1e-9)
    rebuild = pb.RebuildVolatilityRequest(model_id=model_id, validate_only=True)
    assert (await client.volatility.RebuildVolatility(rebuild)).different_count == 0

    await use(client, portfolio_id, model_id, volatility_target=0.05, kelly_fraction=1.0)
    decision = await client.size(sizing_request(portfolio_id, ["I0"], EDGE))
    assert list(decision.sizes.annual_volatility) == pytest.approx([said.volatility[0]])
    own.estimator = pb.RANGE_ESTIMATOR_PARKINSON
    await put_model(client, model_id=model_id, har=har, range=own)
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    assert replay.weight_difference_max == 0.0


async def test_a_split_and_a_dividend_keep_bars_whole(client: Client) -> None:
    await put_bar(client, 1.0, (100.0, 104.0, 98.0, 102.0))
    actions = (
        corporate_action_pb2.CorporateAction(
            instrument_id="I0", split=corporate_action_pb2.Split(new_units=2.0, old_units=1.0)
        ),
        corporate_action_pb2.CorporateAction(
            instrument_id="I0", cash_dividend=corporate_action_pb2.CashDividend(amount=1.0)
        ),
    )
    for number, action in enumerate(actions):
        request_id = f"00000000-0000-0000-0000-00000000000{number}"
        await client.market.ApplyCorporateAction(
            market_service_pb2.ApplyCorporateActionRequest(request_id=request_id, action=action)
        )
    newest = (
        await client.market.GetMarketSnapshot(market_service_pb2.GetMarketSnapshotRequest())
    ).snapshot
    bar = [getattr(newest, f"{name}price")[0] for name in ("open_", "high_", "low_", "")]
    assert bar == [49.0, 51.0, 48.0, 50.0]


async def test_what_is_wrong_with_bars_is_told_by_its_path(client: Client) -> None:
    low, high = [19.0] * N, [60.0] * N
    for columns, fields in (
        ({"open_price": [20.0] * N}, {"high_price": "MISSING", "low_price": "MISSING"}),
        (
            {"open_price": [20.0], "high_price": high, "low_price": low},
            {"open_price": "LENGTH_MISMATCH"},
        ),
        (
            {
                "open_price": [20.0, 0.0, *[20.0] * (N - 2)],
                "high_price": [19.5, *high[1:]],
                "low_price": [19.0, 19.0, 21.0, *low[3:]],
            },
            {
                "open_price[1]": "MISSING",
                "high_price[0]": "OUT_OF_RANGE",
                "low_price[2]": "OUT_OF_RANGE",
            },
        ),
        (
            {"open_price": [float("nan"), *[20.0] * (N - 1)], "high_price": high, "low_price": low},
            {"open_price[0]": "NOT_FINITE"},
        ),
    ):
        refused = await refusal(put_day(client, 1.0, (20.0,) * N, **columns))
        wrong = {f"snapshot.{name}": reason for name, reason in fields.items()}
        assert wrong.items() <= refused.fields.items(), (columns, refused.fields)
    garch = pb.GarchModel(alpha=0.1, beta=0.8)
    yang_zhang = pb.RANGE_ESTIMATOR_YANG_ZHANG
    for model, fields in (
        ({"range": pb.RangeModel()}, {"model.range.estimator": "MISSING"}),
        ({"range": pb.RangeModel(estimator=9)}, {"model.range.estimator": "UNKNOWN_VALUE"}),
        (
            {"range": pb.RangeModel(estimator=yang_zhang), "garch": garch},
            {"model.range.estimator": "NOT_APPLICABLE"},
        ),
        (
            {"range": pb.RangeModel(estimator=yang_zhang, session_only=True)},
            {"model.range.session_only": "NOT_APPLICABLE"},
        ),
        (
            {"range": pb.RangeModel(estimator=yang_zhang, scale_to_returns=True)},
            {"model.range.scale_to_returns": "NOT_APPLICABLE"},
        ),
        ({"har": pb.HarModel(daily=0.5)}, {"model.range": "MISSING"}),
        (
            {"range": pb.RangeModel(estimator=yang_zhang), "har": pb.HarModel(daily=0.5)},
            {"model.range.estimator": "NOT_APPLICABLE"},
        ),
        (
            {
                "range": pb.RangeModel(estimator=pb.RANGE_ESTIMATOR_ROGERS_SATCHELL),
                "har": pb.HarModel(daily=0.5, logarithmic=True),
            },
            {"model.range.estimator": "NOT_APPLICABLE"},
        ),
        (
            {
                "range": pb.RangeModel(estimator=pb.RANGE_ESTIMATOR_PARKINSON),
                "har": pb.HarModel(daily=-0.1, weekly=0.9, residual_variance=1.0),
            },
            {"model.har.daily": "OUT_OF_RANGE", "model.har.residual_variance": "NOT_APPLICABLE"},
        ),
        (
            {
                "range": pb.RangeModel(estimator=pb.RANGE_ESTIMATOR_PARKINSON),
                "har": pb.HarModel(daily=0.5, weekly=0.3, monthly=0.2),
                "half_life": 5.0,
            },
            {"model.har": "NOT_STATIONARY", "model.half_life": "NOT_APPLICABLE"},
        ),
    ):
        assert (await refusal(put_model(client, **model))).fields == fields
