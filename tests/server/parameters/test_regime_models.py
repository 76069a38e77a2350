"""Regime models through the RPC: what they predict moves condition rules and volatility targets."""

from math import sqrt
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import (
    condition_service_pb2,
    parameter_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
)
from positionsizing.v1 import volatility_service_pb2 as pb

from tests.server.market.test_volatility_models import (
    DAYS,
    EDGE,
    days_ago,
    new_portfolio,
    put_day,
    put_model,
)
from tests.server.support.service_client import Client, new_id, refusal, sizing_request

RETURNS = (0.004, -0.012, -0.031, 0.018, -0.025, 0.002)
PREDICTED = (0.1549478891, 0.1864152887, 0.9373830771, 0.9276455433, 0.9477788801, 0.8378070218)
DEVIATION = 0.0185970704


@pytest.fixture
def client(own_client: Client) -> Client:
    """A service of the test's own, whose only market is the one that the test tells."""
    return own_client


def two(**given: Any) -> pb.RegimeSwitching:
    """The turbulent regime first: the service sorts them."""
    regimes = [pb.Regime(mean=-0.0010, deviation=0.020), pb.Regime(mean=0.0006, deviation=0.008)]
    return pb.RegimeSwitching(
        **{"regimes": regimes, "transition": [0.95, 0.05, 0.02, 0.98], **given}
    )


PRICES = [20.0 * float(np.exp(total)) for total in np.cumsum((0.0, *RETURNS))]


async def observed(client: Client, condition_id: str) -> list[float]:
    request = condition_service_pb2.ListConditionsRequest()
    listed = (await client.condition.ListConditions(request)).conditions
    return [item.value for item in listed if item.condition_id == condition_id]


async def test_a_predicted_regime_moves_a_condition_rule(client: Client) -> None:
    portfolio_id, name = await new_portfolio(client), new_id("turbulence")
    own = two(condition_id=name, condition_instrument_id="I0")
    model_id = new_id("regimes")
    await put_day(client, DAYS, PRICES[:1])
    await put_day(client, DAYS - 1, PRICES[1:2])
    await put_model(client, model_id=model_id, regimes=own, observations_min=1, band=0.0)
    assert await observed(client, name) == pytest.approx(PREDICTED[:1], abs=1e-9)
    rule = parameter_service_pb2.ConditionRule(
        name="storm", condition_id=name, enter=0.7, leave=0.3, multiplier=0.5
    )
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(
                condition_rules=parameter_service_pb2.ConditionRules(rules=[rule]),
                volatility_target=5.0,
                volatility_model=model_id,
                kelly_fraction=1.0,
            ),
        )
    )
    decisions = []
    for day, predicted in enumerate(PREDICTED[1:], 2):
        await put_day(client, DAYS - day, PRICES[day : day + 1])
        await put_day(client, DAYS - day - 0.2, [99.0])  # the same day again moves nothing
        assert await observed(client, name) == pytest.approx([predicted], abs=1e-9)
        decisions.append(await client.size(sizing_request(portfolio_id, ["I0"], EDGE)))
    conditions = [
        next(a for a in d.adjustments if a.source == sizing_pb2.ADJUSTMENT_SOURCE_CONDITION)
        for d in decisions
    ]
    assert [item.multiplier for item in conditions] == [1.0, 0.5, 0.5, 0.5, 0.5]
    said = await client.volatility.GetVolatility(
        pb.GetVolatilityRequest(model_id=model_id, instrument_ids=["I0", "I1"])
    )
    assert said.regime_probability[0] == pytest.approx(PREDICTED[-1], abs=1e-9)
    assert said.volatility[0] == pytest.approx(DEVIATION * sqrt(252.0), rel=1e-8)
    assert decisions[-1].sizes.annual_volatility[0] == said.volatility[0]

    compared = await client.volatility.RebuildVolatility(
        pb.RebuildVolatilityRequest(model_id=model_id, validate_only=True)
    )
    assert compared.different_count == 0
    await put_day(client, 0.5, [0.5])
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decisions[-1].decision_id)
    )
    assert replay.lots_equal
    assert list(replay.replayed.adjustments) == list(decisions[-1].adjustments)


async def test_lines_are_sized_by_the_mixture_that_is_predicted(client: Client) -> None:
    """Kelly of the mixture, straight from the predicted probability of the filter."""
    portfolio_id, model_id = await new_portfolio(client), new_id("regimes")
    for day, price in enumerate(PRICES[:2]):
        await put_day(client, DAYS - day, [price])
    await put_model(client, model_id=model_id, regimes=two(), observations_min=1)
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(kelly_fraction=0.1),
        )
    )
    returns = [0.003, -0.002, 0.0006, -0.0010]
    edge = {
        "regime_model_id": model_id,
        "regime_instrument_id": "I0",
        "regime_expected_return": returns,
        "regime_volatility": [0.02, 0.05, 0.008, 0.020],
        "win_probability": [],
        "payoff": [],
    }
    request = sizing_request(portfolio_id, ["I1", "I2"], edge)
    decision = await client.size(request)
    p = np.array([1.0 - PREDICTED[0], PREDICTED[0]])
    told = decision.regimes
    assert (told.model_id, list(told.lines)) == (model_id, [0, 1])
    assert list(told.probability) == pytest.approx([*p, *p], abs=1e-9)
    raw = decision.waterfall.stages[0].weight
    for line, deviation in enumerate(([0.02, 0.05], [0.008, 0.020])):
        mean = np.array(returns[2 * line : 2 * line + 2])
        m = p @ mean
        v = p @ (np.array(deviation) ** 2 + mean**2) - m**2
        assert raw[line] == pytest.approx(m / v, rel=1e-8)
        assert raw[line] < p @ (mean / np.array(deviation) ** 2), "never a mean of stakes"
    own = {**edge, "regime_instrument_id": ""}  # of each its own
    both = await client.size(sizing_request(portfolio_id, ["I0", "NEW"], own))
    assert {error.line for error in both.line_errors} == {1}
    assert list(both.regimes.lines) == [0]

    for day, price in enumerate(PRICES[2:], 2):  # the storm comes; what was decided stays
        await put_day(client, DAYS - day, [price])
    later = await client.size(sizing_request(portfolio_id, ["I1", "I2"], edge))
    assert later.regimes.probability[1] == pytest.approx(PREDICTED[-1], abs=1e-9)
    assert raw[0] > 0.0 >= later.waterfall.stages[0].weight[0]  # what is reserved stays as it is
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    assert replay.replayed.regimes == decision.regimes

    async def wrong(**given: Any) -> Any:
        return await refusal(client.size(sizing_request(portfolio_id, ["I1", "I2"], given)))

    unnamed = {key: value for key, value in edge.items() if key != "regime_model_id"}
    source = [sizing_pb2.EDGE_SOURCE_REGIMES] * 2
    assert (await wrong(**unnamed, edge_source=source)).fields == {
        "signals.regime_model_id": "MISSING"
    }
    assert (await wrong(**{**edge, "regime_expected_return": returns[:3]})).fields == {
        "signals.regime_expected_return": "LENGTH_MISMATCH"
    }
    unknown = await wrong(**{**edge, "regime_model_id": "nowhere"})
    assert unknown.code.name == "NOT_FOUND"
    plain = new_id("ewma")
    await put_model(client, model_id=plain)
    assert (await wrong(**{**edge, "regime_model_id": plain})).reason == "WRONG_MODEL_KIND"


async def test_a_condition_waits_for_its_instrument_and_yields_to_others(client: Client) -> None:
    name, model_id = new_id("turbulence"), new_id("regimes")
    own = two(condition_id=name, condition_instrument_id="I0")
    await put_model(client, model_id=model_id, regimes=own)
    for day, price in enumerate(PRICES[:3]):
        other = {"instrument_ids": ["OTHER"], "price": [5.0]}
        empty = {"average_daily_volume": [], "sector": [], "volatility": []}
        await client.put_market(**other, **empty, as_of_time=days_ago(DAYS - day + 0.1))
        await put_day(client, DAYS - day, [price])
    assert await observed(client, name) == pytest.approx(PREDICTED[1:2], abs=1e-9)
    by_hand = condition_service_pb2.Condition(condition_id=name, value=0.4)
    await client.condition.PutCondition(
        condition_service_pb2.PutConditionRequest(condition=by_hand)
    )
    await put_day(client, DAYS - 3, PRICES[3:4])
    assert await observed(client, name) == [0.4]
    said = await client.volatility.GetVolatility(
        pb.GetVolatilityRequest(model_id=model_id, instrument_ids=["I0"])
    )
    assert said.regime_probability[0] == pytest.approx(PREDICTED[2], abs=1e-9)


async def test_what_is_wrong_is_told_by_its_path(client: Client) -> None:
    where = "model.regimes"
    for regimes, fields in (
        (two(transition=[1.0]), {f"{where}.transition": "LENGTH_MISMATCH"}),
        (two(transition=[0.9, 0.05, 0.02, 0.98]), {f"{where}.transition": "OUT_OF_RANGE"}),
        (two(transition=[1.0, 0.0, 0.02, 0.98]), {f"{where}.transition[1]": "OUT_OF_RANGE"}),
        (two(regimes=[pb.Regime(deviation=0.01)]), {f"{where}.regimes": "LENGTH_MISMATCH"}),
        (
            two(regimes=[pb.Regime(deviation=0.01), pb.Regime(mean=float("nan"), deviation=2.0)]),
            {
                f"{where}.regimes[1].mean": "NOT_FINITE",
                f"{where}.regimes[1].deviation": "OUT_OF_RANGE",
            },
        ),
        (two(degrees_of_freedom=2.0), {f"{where}.degrees_of_freedom": "OUT_OF_RANGE"}),
        (two(condition_id="x"), {f"{where}.condition_id": "MISSING"}),
        (
            two(condition_id="no such", condition_instrument_id="I0"),
            {f"{where}.condition_id": "BAD_FORMAT"},
        ),
    ):
        assert (await refusal(put_model(client, regimes=regimes))).fields == fields
    both = await refusal(
        put_model(client, regimes=two(), garch=pb.GarchModel(alpha=0.1, beta=0.8), half_life=5.0)
    )
    assert both.fields == {
        "model.half_life": "NOT_APPLICABLE",
        "model.garch": "NOT_APPLICABLE",
    }


async def test_the_umbrella_of_russell_and_norvig_r17(client: Client) -> None:
    """Rain and no rain by what is seen, 0.9 against 0.2: here returns that are as likely.

    What is told is the probability for the next day, 0.3 + 0.4 f of the filtered f.
    """
    dry, rain = 0.01, 0.1
    steep = 1 / dry**2 - 1 / rain**2
    umbrella, none = (sqrt(2 * np.log(ratio * rain / dry) / steep) for ratio in (0.9 / 0.2, 0.125))
    name = new_id("rain")
    own = pb.RegimeSwitching(
        regimes=[pb.Regime(deviation=dry), pb.Regime(deviation=rain)],
        transition=[0.7, 0.3, 0.3, 0.7],
        condition_id=name,
        condition_instrument_id="I0",
    )
    price = 20.0
    await put_day(client, DAYS, [price])
    await put_model(client, model_id=new_id("rain"), regimes=own, observations_min=1)
    filtered = (0.81818182, 0.88335704, 0.19066794, 0.73079400, 0.86733889)
    seen = (umbrella, umbrella, none, umbrella, umbrella)
    for day, (x, f) in enumerate(zip(seen, filtered, strict=True), 1):
        price *= float(np.exp(x))
        await put_day(client, DAYS - day, [price])
        assert await observed(client, name) == pytest.approx([0.3 + 0.4 * f], abs=3e-9)
