"""What rules would have done to parameters at past times: from what is recorded until then."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import condition_service_pb2, sizing_pb2
from positionsizing.v1 import parameter_service_pb2 as pb

from tests.server.market.test_volatility_models import (
    client,
    days_ago,
    new_portfolio,
    put_day,
    put_model,
)
from tests.server.support.service_client import Client, new_id, refusal, sizing_request

__all__ = ["client"]

NEW_YEAR = datetime(2024, 1, 1, 15, tzinfo=UTC)
"""A Monday, 10:00 in New York."""
EDGE = {"win_probability": [0.6], "payoff": [1.0]}


def day(number: float) -> Timestamp:
    time = Timestamp()
    time.FromDatetime(NEW_YEAR + timedelta(days=number))
    return time


async def simulate(
    client: Client, portfolio_id: str, days: int, parameters: Any = None, **given: Any
) -> pb.SimulateParametersResponse:
    return await client.parameter.SimulateParameters(
        pb.SimulateParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameters,
            **{"start_time": day(0), "end_time": day(days - 1), **given},
        )
    )


async def observe(client: Client, condition_id: str, at: float, value: float) -> None:
    seen = condition_service_pb2.Condition(
        condition_id=condition_id, value=value, as_of_time=day(at)
    )
    await client.condition.PutCondition(condition_service_pb2.PutConditionRequest(condition=seen))


def storm(condition_id: str, **given: Any) -> pb.ConditionRules:
    rule = {"name": "storm", "enter": 0.7, "leave": 0.3, "multiplier": 0.5, "dwell": 3, **given}
    return pb.ConditionRules(rules=[pb.ConditionRule(condition_id=condition_id, **rule)])


P = (0.1, 0.3, 0.55, 0.72, 0.68, 0.5, 0.45, 0.31, 0.29, 0.6, 0.75, 0.74, 0.2)
APPLIES = (0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1)
"""Of the observations P, with dwell 3: worked out by hand."""


async def observed(client: Client, values: Sequence[float] = P) -> str:
    name = new_id("turbulence")
    for number, value in enumerate(values):
        await observe(client, name, number - 0.1, value)
    return name


async def test_a_rule_on_past_conditions_with_hysteresis(client: Client) -> None:
    portfolio_id, name = await new_portfolio(client), await observed(client)
    tried = pb.SizingParameters(
        kelly_fraction=0.8, condition_rules=storm(name, stale_multiplier=1.0)
    )
    answer = await simulate(client, portfolio_id, len(P), tried)
    assert list(answer.kelly_fraction) == [0.4 if applies else 0.8 for applies in APPLIES]
    stored = await client.parameter.GetParameters(pb.GetParametersRequest())
    assert set(answer.kelly_fraction_stored) == {stored.parameters.kelly_fraction}
    (rule,) = answer.rules
    assert (rule.source, rule.name) == (sizing_pb2.ADJUSTMENT_SOURCE_CONDITION, "storm")
    assert list(rule.multiplier) == [0.5 if applies else 1.0 for applies in APPLIES]
    assert rule.binding_count == sum(APPLIES)
    assert "0.72" in rule.explanation
    untouched = await client.parameter.GetParameters(
        pb.GetParametersRequest(portfolio_id=portfolio_id)
    )
    assert not untouched.parameters.HasField("condition_rules")


async def test_no_time_sees_what_came_after_it(client: Client) -> None:
    portfolio_id = await new_portfolio(client)
    name, model_id = new_id("turbulence"), new_id("ewma")
    for number in range(6):
        await observe(client, name, number - 0.1, P[number])
        await client.put_market(as_of_time=day(number - 0.2))
    await put_model(client, model_id=model_id, observations_min=1)
    tried = pb.SizingParameters(
        kelly_fraction=0.8,
        condition_rules=storm(name),
        drawdown_floor=0.5,
        volatility_target=0.1,
        volatility_model=model_id,
        schedule=pb.Schedule(
            rows=[pb.ScheduleRow(name="fridays", time_zone="UTC", weekdays=[5], multiplier=0.7)]
        ),
    )
    path = [pb.EquityPoint(time=day(n - 0.3), equity=e) for n, e in enumerate((5, 6, 4, 5, 4, 7))]
    given: dict[str, Any] = {"instrument_ids": ["I0"]}
    before = await simulate(client, portfolio_id, 6, tried, equity=path, **given)
    for number, value in ((6, 1e9), (7, 0.99), (8, -1e9)):
        await observe(client, name, number - 0.1, value)
        await client.put_market(as_of_time=day(number - 0.2), price=[1e9 * number] * 8)
        path.append(pb.EquityPoint(time=day(number - 0.3), equity=1e9))
    after = await simulate(client, portfolio_id, 9, tried, equity=path, **given)
    assert list(after.kelly_fraction[:6]) == list(before.kelly_fraction)
    assert list(after.equity[:6]) == list(before.equity) == [5, 6, 4, 5, 4, 7]
    for ours, theirs in zip(before.rules, after.rules, strict=True):
        assert ours.name == theirs.name
        assert list(theirs.multiplier[:6]) == list(ours.multiplier)
    for column in ("edge_multiplier", "volatility", "weight_max"):
        ours, theirs = (list(getattr(a.lines[0], column)) for a in (before, after))
        assert theirs[:6] == ours, column
    assert after.lines[0].volatility[8] > before.lines[0].volatility[5]


async def test_drawdowns_follow_the_path_that_is_given(client: Client) -> None:
    portfolio_id = await new_portfolio(client)
    path = [pb.EquityPoint(time=day(n), equity=e) for n, e in ((1, 100.0), (2, 125.0), (4, 100.0))]
    tried = pb.SizingParameters(kelly_fraction=1.0, drawdown_floor=0.5)
    answer = await simulate(client, portfolio_id, 6, tried, equity=path)
    assert list(answer.equity) == [0.0, 100.0, 125.0, 125.0, 100.0, 100.0]
    expected = [1.0, 0.5, 0.5, 0.5, 1.0 - 0.5 * 1.25, 1.0 - 0.5 * 1.25]
    assert list(answer.kelly_fraction) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("floor", "exposures", "left"),
    [
        (
            {"drawdown_floor": 0.8},
            [80.0, 83.2, 49.92, 19.968, 26.35776],
            [104, 95.68, 88.192, 89.78944, 82.9364224],
        ),
        (
            {"equity_floor": 80.0},
            [80.0, 96.0, 57.6, 23.04, 30.4128],
            [104, 94.4, 85.76, 87.6032, 79.695872],
        ),
    ],
)
async def test_the_cushion_may_count_several_times_d7_16_and_d7_17(
    client: Client, floor: dict[str, float], exposures: list[float], left: list[float]
) -> None:
    """Cushion times 4 over 0.8 of the highest, and over 80 whatever the highest; unlevered."""
    portfolio_id = await new_portfolio(client)
    wealth = [100.0]
    for exposure, change in zip(exposures, (0.05, -0.10, -0.15, 0.08, -0.26), strict=True):
        wealth.append(wealth[-1] + exposure * change)
    assert wealth[1:] == pytest.approx(left, abs=1e-9)
    path = [pb.EquityPoint(time=day(n), equity=e) for n, e in enumerate(wealth)]
    tried = pb.SizingParameters(kelly_fraction=1.0, drawdown_multiplier=4.0, **floor)  # type: ignore[arg-type]
    answer = await simulate(client, portfolio_id, 5, tried, equity=path)
    staked = [f * e for f, e in zip(answer.kelly_fraction, answer.equity, strict=True)]
    assert staked == pytest.approx(exposures, abs=1e-9)


async def test_drawdowns_of_recorded_decisions_and_times_after_versions(client: Client) -> None:
    portfolio_id = await new_portfolio(client)
    await client.put_market()
    first = await client.size(sizing_request(portfolio_id, ["I0"], EDGE))
    floor = pb.SizingParameters(kelly_fraction=1.0, drawdown_floor=0.5)
    now = Timestamp()
    now.GetCurrentTime()
    answer = await client.parameter.SimulateParameters(
        pb.SimulateParametersRequest(
            portfolio_id=portfolio_id, parameters=floor, start_time=now, end_time=now
        )
    )
    assert list(answer.equity) == [first.summary.equity]
    assert list(answer.kelly_fraction) == pytest.approx([0.5])
    for fraction, when in ((0.6, 0.5), (0.3, 2.5)):
        await client.parameter.SetParameters(
            pb.SetParametersRequest(
                portfolio_id=portfolio_id,
                parameters=pb.SizingParameters(kelly_fraction=fraction),
                effective_time=day(when),
            )
        )
    stored = await simulate(client, portfolio_id, 4)
    general = (await client.parameter.GetParameters(pb.GetParametersRequest())).parameters
    assert list(stored.kelly_fraction) == [general.kelly_fraction, 0.6, 0.6, 0.3]
    assert stored.kelly_fraction == stored.kelly_fraction_stored


async def test_lines_have_their_rules_and_volatilities(client: Client) -> None:
    portfolio_id, model_id = await new_portfolio(client), new_id("ewma")
    await put_day(client, 4, [20.0], volatility=[0.3] + [0.1] * 7)
    await put_day(client, 3, [22.0], volatility=[0.3] + [0.1] * 7)
    await put_day(client, 2, [21.0], volatility=[0.3] + [0.1] * 7)
    await put_model(client, model_id=model_id, observations_min=2, band=0.0)
    row = pb.ScheduleRow(name="earnings", time_zone="UTC", multiplier=0.25, instrument_ids=["I1"])
    tried = pb.SizingParameters(
        volatility_target=0.2, volatility_model=model_id, schedule=pb.Schedule(rows=[row])
    )
    answer = await client.parameter.SimulateParameters(
        pb.SimulateParametersRequest(
            portfolio_id=portfolio_id,
            parameters=tried,
            start_time=days_ago(4.5),
            end_time=days_ago(1.5),
            instrument_ids=["I0", "I1", "NOWHERE"],
        )
    )
    said = (await client.volatility.GetVolatility(_of(model_id, "I0"))).volatility[0]
    first, second, third = answer.lines
    assert said > 0.3
    assert list(first.volatility) == [0.0, 0.3, 0.3, said]
    assert list(first.weight_max) == [0.0, 0.2 / 0.3, 0.2 / 0.3, 0.2 / said]
    assert list(second.volatility) == [0.0, 0.1, 0.1, 0.1]
    assert [list(line.edge_multiplier) for line in answer.lines] == [
        [1.0] * 4,
        [0.25] * 4,
        [1.0] * 4,
    ]
    assert list(third.volatility) == [0.0] * 4


def _of(model_id: str, *names: str) -> Any:
    from positionsizing.v1 import volatility_service_pb2

    return volatility_service_pb2.GetVolatilityRequest(model_id=model_id, instrument_ids=names)


async def test_as_told_counts_from_when_the_service_knew(client: Client) -> None:
    portfolio_id, name = await new_portfolio(client), await observed(client, [0.9, 0.9])
    tried = pb.SizingParameters(
        kelly_fraction=0.8, condition_rules=storm(name, stale_multiplier=0.25)
    )
    by_time = await simulate(client, portfolio_id, 2, tried)
    assert list(by_time.kelly_fraction) == [0.4, 0.4]
    then = await simulate(client, portfolio_id, 2, tried, as_told=True)
    assert list(then.kelly_fraction) == [0.2, 0.2]
    assert "never been observed" in then.rules[0].explanation


async def test_what_is_refused(client: Client) -> None:
    portfolio_id = await new_portfolio(client)

    async def refused(**given: Any) -> Any:
        request = {"portfolio_id": portfolio_id, "start_time": day(0), "end_time": day(1), **given}
        return await refusal(
            client.parameter.SimulateParameters(pb.SimulateParametersRequest(**request))
        )

    assert (await refused(portfolio_id="")).fields.keys() == {"portfolio_id"}
    assert (await refused(portfolio_id="nobody")).reason == "PORTFOLIO_NOT_FOUND"
    assert (await refused(start_time=day(2))).fields == {"start_time": "OUT_OF_RANGE"}
    assert (await refused(step={"seconds": 1})).fields == {"step": "TOO_MANY"}
    assert (await refused(step={"nanos": 1})).fields == {"step": "OUT_OF_RANGE"}
    assert (await refused(end_time=day(40_000))).fields.keys() == {"end_time"}
    wrong = pb.SizingParameters(kelly_fraction=3.0)
    assert "parameters.kelly_fraction" in (await refused(parameters=wrong)).fields
    twice = [pb.EquityPoint(time=day(0), equity=1.0)] * 2
    assert (await refused(equity=twice)).fields == {"equity[1].time": "OUT_OF_ORDER"}
    nothing = [pb.EquityPoint(time=day(0), equity=float("nan"))]
    assert (await refused(equity=nothing)).fields == {"equity[0].equity": "NOT_FINITE"}
    assert (await refused(instrument_ids=["A", "A"])).fields == {"instrument_ids[1]": "DUPLICATE"}
    unknown = pb.SizingParameters(volatility_model="nobody", volatility_target=0.1)
    found = await refused(parameters=unknown, instrument_ids=["I0"])
    assert found.reason == "VOLATILITY_MODEL_NOT_FOUND"
