"""Volatility models through the RPC: snapshots move them, sizes shrink, replays need none."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import exp, log, sqrt
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import (
    corporate_action_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)
from positionsizing.v1 import volatility_service_pb2 as pb

from tests.server.support.service_client import INSTRUMENTS, Client, new_id, refusal, sizing_request

EDGE = {"win_probability": [0.6], "payoff": [1.0]}
DAYS = 40
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
"""Of a day that is over; all times are whole days before it."""


@pytest.fixture
def client(own_client: Client) -> Client:
    """A service of the test's own, whose only market is the one that the test tells."""
    return own_client


async def new_portfolio(client: Client) -> str:
    portfolio_id = await client.put_portfolio()
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=1.0, leverage_max=3.0)
    return portfolio_id


def days_ago(days: float) -> Timestamp:
    time = Timestamp()
    time.FromDatetime(NOON - timedelta(days=days))
    return time


async def put_day(client: Client, days: float, price: Sequence[float], **columns: Any) -> str:
    """Prices of the test instruments, the first ones as given, the others unchanged."""
    every = [*price, *[50.0] * (len(INSTRUMENTS) - len(price))]
    return await client.put_market(
        as_of_time=days_ago(days), price=every, **{"volatility": [], **columns}
    )


async def put_model(client: Client, **given: Any) -> pb.PutVolatilityModelResponse:
    model = pb.VolatilityModel(**{"model_id": new_id("ewma"), **given})
    return await client.volatility.PutVolatilityModel(
        pb.PutVolatilityModelRequest(model=model, start_time=days_ago(DAYS + 0.5))
    )


async def use(client: Client, portfolio_id: str, model_id: str, **given: Any) -> None:
    parameters = parameter_service_pb2.SizingParameters(volatility_model=model_id, **given)
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )


def prices_of(seed: int, deviation: float) -> list[float]:
    changes = np.random.default_rng(seed).normal(0.0, deviation, DAYS)
    return [20.0 * exp(total) for total in np.cumsum(changes)]


def ewma(prices: Sequence[float], half_life: float) -> float:
    """Annual volatility, straight from its definition as a weighted mean."""
    squares = [log(b / a) ** 2 for a, b in pairwise(prices)]
    weights = [0.5 ** (k / half_life) for k in range(len(squares))]
    total = sum(w * s for w, s in zip(weights, reversed(squares), strict=True))
    return sqrt(252.0 * total / sum(weights))


async def test_a_target_takes_the_volatility_that_snapshots_showed(client: Client) -> None:
    portfolio_id = await new_portfolio(client)
    calm, wild = prices_of(1, 0.005), prices_of(2, 0.04)
    for day in range(DAYS - 5):
        await put_day(client, DAYS - day, (calm[day], wild[day]))
    model_id = new_id("ewma")
    built = await put_model(client, model_id=model_id, band=0.0, half_life=10.0)
    assert built.state.period_count == DAYS - 5
    for day in range(DAYS - 5, DAYS):
        snapshot_id = await put_day(client, DAYS - day, (calm[day], wild[day]))
    await use(client, portfolio_id, model_id, volatility_target=0.05, kelly_fraction=1.0)

    said = await client.volatility.GetVolatility(
        pb.GetVolatilityRequest(model_id=model_id, instrument_ids=["I1", "I0", "none"])
    )
    assert list(said.instrument_ids) == ["I1", "I0"]
    expected = [ewma(wild, 10.0), ewma(calm, 10.0)]
    assert list(said.volatility) == pytest.approx(expected, rel=1e-9)
    assert said.state.market_snapshot_id == snapshot_id
    assert said.state.version == 1 + 5

    signals = {"win_probability": [0.6] * 2, "payoff": [1.0] * 2}
    decision = await client.size(sizing_request(portfolio_id, ["I0", "I1"], signals))
    stages = {stage.stage: list(stage.weight) for stage in decision.waterfall.stages}
    weights = stages[types_pb2.SIZING_STAGE_VOLATILITY_TARGET]
    kelly = min(0.2, 0.05 / expected[1])
    assert weights == pytest.approx([kelly, 0.05 / expected[0]], rel=1e-9)
    assert list(decision.sizes.annual_volatility) == pytest.approx(expected[::-1], rel=1e-9)
    assert decision.versions.volatility_state == f"{model_id}@6"
    (item,) = decision.adjustments
    assert item.source == sizing_pb2.ADJUSTMENT_SOURCE_VOLATILITY
    assert item.multiplier == pytest.approx(0.05 / expected[0] / 0.2, rel=1e-9)
    assert item.is_binding
    assert "'I1' most" in item.explanation

    await put_day(client, 0.0, (calm[-1], 3.0 * wild[-1]))  # the model moves on
    await put_model(client, model_id=model_id, half_life=1.0)
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    assert replay.weight_difference_max == 0.0
    assert list(replay.replayed.adjustments) == list(decision.adjustments)
    assert list(replay.replayed.sizes.annual_volatility) == list(decision.sizes.annual_volatility)
    later = await client.size(sizing_request(portfolio_id, ["I0", "I1"], signals))
    assert later.sizes.annual_volatility[1] > 2.0 * expected[0]
    stages = {stage.stage: list(stage.weight) for stage in later.waterfall.stages}
    assert stages[types_pb2.SIZING_STAGE_VOLATILITY_TARGET][1] < 0.5 * weights[1]


async def test_the_larger_of_both_volatilities_counts(client: Client) -> None:
    portfolio_id = await new_portfolio(client)
    prices = prices_of(3, 0.01)
    for day in range(DAYS):
        await put_day(client, DAYS - day, (prices[day],))
    model_id = new_id("ewma")
    await put_model(client, model_id=model_id)
    await use(client, portfolio_id, model_id, volatility_target=0.02, kelly_fraction=1.0)
    request = sizing_request(portfolio_id, ["I0"], EDGE, validate_only=True)
    own = (await client.size(request)).sizes.annual_volatility[0]
    assert own == pytest.approx(0.16, abs=0.05)
    for given in (0.05, 0.9):
        await put_day(
            client, 1.0 - given / 10, (prices[-1],), volatility=[given] * len(INSTRUMENTS)
        )
        told = (await client.size(request)).sizes.annual_volatility[0]
        assert told == max(own, given)
    # an instrument with too few returns, and no volatility in the market, is refused
    await client.put_market(
        instrument_ids=["NEW", "I0"],
        price=[10.0, 20.0],
        volatility=[],
        average_daily_volume=[],
        sector=[],
    )
    signals = {"win_probability": [0.6] * 2, "payoff": [1.0] * 2}
    decision = await client.size(
        sizing_request(portfolio_id, ["NEW", "I0"], signals, validate_only=True)
    )
    assert [error.reason for error in decision.line_errors] == ["MISSING_VOLATILITY"]
    assert decision.sizes.lots[1] > 0


async def test_doubled_late_and_halted_observations(client: Client) -> None:
    prices = prices_of(4, 0.01)
    model_id = new_id("ewma")
    await put_model(client, model_id=model_id, observations_min=2)
    ask = pb.GetVolatilityRequest(model_id=model_id, instrument_ids=["I0"])
    for day in (0, 1, 2, 4):
        await put_day(client, DAYS - day, (prices[day],))
    before = await client.volatility.GetVolatility(ask)
    halted = [True] + [False] * (len(INSTRUMENTS) - 1)
    await put_day(client, DAYS - 4, (9999.0,))  # the same day again
    await put_day(client, DAYS - 3, (prices[3],))  # a day that has gone by
    await put_day(client, DAYS - 5, (9999.0,), halted=halted)
    after = await client.volatility.GetVolatility(ask)
    assert list(after.volatility) == list(before.volatility)
    assert (after.return_count[0], after.state.late_count) == (3, 1)

    request = pb.RebuildVolatilityRequest(
        model_id=model_id, start_time=days_ago(DAYS + 0.5), validate_only=True
    )
    compared = await client.volatility.RebuildVolatility(request)
    assert compared.first_different
    assert (await client.volatility.GetVolatility(ask)).volatility == before.volatility
    request.validate_only = False
    rebuilt = await client.volatility.RebuildVolatility(request)
    assert rebuilt.state.late_count == 0
    again = await client.volatility.RebuildVolatility(request)
    assert again.different_count == 0
    assert not again.first_different


async def test_what_is_wrong_is_told_by_its_path(client: Client) -> None:
    garch = pb.GarchModel(alpha=0.2, beta=0.8)
    for model, fields in (
        ({"model_id": ""}, {"model.model_id": "MISSING"}),
        ({"half_life": 0.5}, {"model.half_life": "OUT_OF_RANGE"}),
        ({"band": 30.0}, {"model.band": "OUT_OF_RANGE"}),
        ({"observations_min": 0}, {"model.observations_min": "OUT_OF_RANGE"}),
        ({"periods_per_year": float("nan")}, {"model.periods_per_year": "NOT_FINITE"}),
        ({"sampling_period": {"seconds": 864000}}, {"model.sampling_period": "OUT_OF_RANGE"}),
        ({"garch": garch}, {"model.garch": "NOT_STATIONARY"}),
        ({"garch": pb.GarchModel(alpha=-1.0)}, {"model.garch.alpha": "OUT_OF_RANGE"}),
    ):
        refused = await refusal(put_model(client, **model))
        assert refused.fields == fields, model
    later = pb.PutVolatilityModelRequest(
        model=pb.VolatilityModel(model_id="m"), start_time=days_ago(-3)
    )
    refused = await refusal(client.volatility.PutVolatilityModel(later))
    assert refused.fields == {"start_time": "OUT_OF_RANGE"}
    unknown = pb.GetVolatilityRequest(model_id="none-such")
    assert (
        await refusal(client.volatility.GetVolatility(unknown))
    ).reason == "VOLATILITY_MODEL_NOT_FOUND"
    portfolio_id = await new_portfolio(client)
    await client.put_market()
    await use(client, portfolio_id, "none-such")
    refused = await refusal(client.size(sizing_request(portfolio_id, ["I0"], EDGE)))
    assert refused.reason == "VOLATILITY_MODEL_NOT_FOUND"
    refused = await refusal(use(client, portfolio_id, "no such"))
    assert refused.fields == {"parameters.volatility_model": "BAD_FORMAT"}


async def test_models_are_listed_with_their_defaults(client: Client) -> None:
    model_id = new_id("garch")
    garch = pb.GarchModel(alpha=0.05, beta=0.9)
    await put_model(client, model_id=model_id, garch=garch)
    listed = await client.volatility.ListVolatilityModels(pb.ListVolatilityModelsRequest())
    (entry,) = [item for item in listed.models if item.model.model_id == model_id]
    assert entry.change.version == 1
    assert (entry.model.periods_per_year, entry.model.band) == (252.0, 0.1)
    assert entry.model.sampling_period.seconds == 86400
    assert entry.model.garch.beta == 0.9


async def test_a_split_is_no_return(client: Client) -> None:
    for day in range(DAYS, 0, -1):
        await put_day(client, day, [100.0 + day % 2])
    model_id = new_id("ewma")
    await put_model(client, model_id=model_id)
    ask = pb.GetVolatilityRequest(model_id=model_id, instrument_ids=["I0"])
    [before] = (await client.volatility.GetVolatility(ask)).volatility
    assert 0.1 < before < 0.2  # a percent a day
    action = corporate_action_pb2.CorporateAction(
        instrument_id="I0", split=corporate_action_pb2.Split(new_units=2.0, old_units=1.0)
    )
    await client.market.ApplyCorporateAction(
        market_service_pb2.ApplyCorporateActionRequest(request_id=str(uuid4()), action=action)
    )
    await client.put_market(price=[50.0] * len(INSTRUMENTS))
    [after] = (await client.volatility.GetVolatility(ask)).volatility
    assert after == pytest.approx(before, rel=0.1)
    rebuild = pb.RebuildVolatilityRequest(model_id=model_id, start_time=days_ago(DAYS + 0.5))
    await client.volatility.RebuildVolatility(rebuild)
    assert list((await client.volatility.GetVolatility(ask)).volatility) == [after]


@pytest.mark.parametrize(
    ("garch", "variance"),
    [
        ({"alpha": 0.08, "beta": 0.90}, 1.84196e-4),
        ({"alpha": 0.02, "beta": 0.91, "gamma": 0.10}, 1.3275741295e-4),
        # Exponential weights are what is left where nothing pulls back to the long run.
        ({"alpha": 0.06, "beta": 0.94 - 1e-12}, 1.65347512e-4),
    ],
    ids=["D7.3", "D7.4", "R2"],
)
async def test_reference_paths_of_garch(
    client: Client, garch: dict[str, float], variance: float
) -> None:
    """From a long-run variance of 1e-4: five returns."""
    returns = (0.01, -0.02, 0.015, -0.005, 0.03)
    price = 20.0
    await put_day(client, 10, (price,))
    for day, r in enumerate(returns, 1):
        price *= exp(r)
        await put_day(client, 10 - day, (price,))
    model_id = new_id("garch")
    long_run = sqrt(252 * 1e-4)
    await put_model(
        client,
        model_id=model_id,
        observations_min=1,
        garch=pb.GarchModel(**garch, long_run_volatility=long_run),
    )
    said = await client.volatility.GetVolatility(
        pb.GetVolatilityRequest(model_id=model_id, instrument_ids=["I0"])
    )
    assert said.estimate[0] == pytest.approx(sqrt(252 * variance), rel=1e-9)
