"""Trades planned over several periods, as a client sees them, against the whole horizon at once."""

from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import (
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from server.cli.render import line_words
from tests.server.limits.test_limits_on_lots import put_matrix
from tests.server.sizing.test_trading_costs import JOINT, METHODS, NONE, Parameters, book, moments
from tests.server.support.service_client import PRICES, Client, refusal, sizing_request

MEANS, VARIANCE, HALF_LIFE = np.array([0.05, 0.02, 0.03]), 0.04, np.array([5.0, 1.5, 0.0])
EQUITY = 1e9


def best(before: np.ndarray, wanted: np.ndarray, rate: float, periods: int) -> np.ndarray:
    """The whole horizon as one linear system per line, gradient 0 in all weights, (H, n)."""
    cost, moves = (1 - rate) / rate**2, np.eye(periods) - np.eye(periods, k=-1)
    system = np.eye(periods) + cost * moves.T @ moves
    out = []
    for w, a, half_life in zip(before, wanted, HALF_LIFE, strict=True):
        left = 2 ** (-1 / half_life) if half_life else 1.0
        right = a * left ** np.arange(periods)
        right[0] += cost * w
        out.append(np.linalg.solve(system, right))
    return np.array(out).T


async def planned(
    client: Client, portfolio_id: str, method: int, **given: Any
) -> sizing_pb2.SizingDecision:
    if method == JOINT:
        matrix_id = await put_matrix(client, "COVARIANCE", VARIANCE * np.eye(8))
        given["covariance_matrix_id"] = matrix_id
    signals = {
        "win_probability": [],
        "payoff": [],
        "expected_return": MEANS,
        "volatility": [VARIANCE**0.5] * 3,
        "edge_half_life_periods": HALF_LIFE,
    }
    names = ["I0", "I1", "I2"]
    return await client.size(sizing_request(portfolio_id, names, signals, method=method, **given))


def path(decision: sizing_pb2.SizingDecision) -> np.ndarray:
    return np.array([period.weight for period in decision.plan.periods])


@METHODS
@pytest.mark.parametrize(("rate", "periods"), [(0.4269641587, 6), (0.1, 20), (0.7, 1)])
async def test_the_plan_is_the_best_of_the_whole_horizon(
    joint_client: Client, method: int, rate: float, periods: int
) -> None:
    portfolio_id = await book(joint_client, 0.5, trade_rate=rate, plan_periods=periods)
    decision = await planned(joint_client, portfolio_id, method)
    before = np.array([0.5, 0.0, 0.0])
    expected = best(before, MEANS / VARIANCE, rate, periods)
    # The optimum itself is found to 1e-6 at most; whole lots of 1e-8 to 2e-7 take the rest.
    np.testing.assert_allclose(path(decision), expected, rtol=0.0, atol=2e-6)
    np.testing.assert_array_equal(path(decision)[0], decision.sizes.weight)
    assert list(decision.plan.periods[0].lots) == list(decision.sizes.lots)
    words = " ".join(line_words(decision, 0))
    assert f"planned: {100 * expected[0, 0]:.2f}% now" in words
    replay = await joint_client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    np.testing.assert_allclose(path(replay.replayed), path(decision), rtol=0.0, atol=1e-12)
    stored = await joint_client.sizing.GetDecision(
        sizing_service_pb2.GetDecisionRequest(decision_id=decision.decision_id)
    )
    assert stored.decision.plan == decision.plan


async def test_a_long_plan_begins_as_one_without_an_end(client: Client) -> None:
    rate = 0.3
    endless = await book(client, 0.5, trade_rate=rate)
    portfolio_id = await book(client, 0.5, trade_rate=rate, plan_periods=250)
    first = await planned(client, endless, types_pb2.SIZING_METHOD_CLOSED_FORM)
    second = await planned(client, portfolio_id, types_pb2.SIZING_METHOD_CLOSED_FORM)
    assert not first.HasField("plan")
    assert len(second.plan.periods) == 250
    assert list(second.sizes.lots) == list(first.sizes.lots)
    half_life = HALF_LIFE[0]
    aim = 1.25 / (1 + (1 - 2 ** (-1 / half_life)) * (1 - rate) / rate)
    assert path(second)[0, 0] == pytest.approx(0.5 + rate * (aim - 0.5), abs=2e-8)
    # The first 20 periods are in whole lots; the others go on from there.
    assert [len(period.lots) for period in second.plan.periods] == [3] * 20 + [0] * 230
    expected = best(np.array([0.5, 0.0, 0.0]), MEANS / VARIANCE, rate, 250)
    np.testing.assert_allclose(path(second), expected, rtol=0.0, atol=2e-6)
    words = " ".join(line_words(second, 0))
    assert "planned inside the limits, in whole lots: 20 of 250 periods" in words


LIMITS = {
    "cap": {"weight_max": 0.62},
    "turnover": {"turnover_max": 0.03},
    "group": {
        "groups": [{"name": "pair", "instrument_ids": ["I0", "I2"], "gross_weight_max": 0.7}]
    },
    "lots and places": {"positions_max": 2, "trade_weight_min": 0.01},
    "a stop": {"stop_risk_max": 0.02},
}


@pytest.mark.parametrize("case", LIMITS)
async def test_each_planned_period_is_the_decision_that_will_be_taken(
    client: Client, case: str
) -> None:
    """From what the one before leaves, with faded edges and a period less, if nothing changes."""
    limits = {"leverage_max": 60.0, "allow_short": True} | LIMITS[case]
    risk = {"stop_risk_max": limits.pop("stop_risk_max", None)}
    given = {name: value for name, value in risk.items() if value is not None}
    rate, periods, prices = 0.3, 6, np.array(PRICES[:3])
    portfolio_id = await book(
        client, 0.5, {"lot_size": [100.0] * 8}, 1e7, trade_rate=rate, plan_periods=periods, **given
    )
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, **limits)
    names, side = ["I0", "I1", "I2"], [types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT] * 2

    def asked(means: np.ndarray) -> Any:
        signals = {
            "side": side[:3],
            "win_probability": [],
            "payoff": [],
            "expected_return": means,
            "volatility": [VARIANCE**0.5] * 3,
            "edge_half_life_periods": HALF_LIFE,
        }
        if given:
            signals["stop_price"] = prices * np.array([0.97, 1.03, 0.97])
        return sizing_request(portfolio_id, names, signals, validate_only=True)

    means = MEANS.copy()
    plan = (await client.size(asked(means))).plan
    assert len(plan.periods) == periods
    bindings = set()
    for t, period in enumerate(plan.periods):
        later = await client.size(asked(means))
        assert list(later.sizes.lots) == list(period.lots), t
        np.testing.assert_array_equal(later.sizes.weight, period.weight)
        assert list(later.sizes.binding) == (list(period.binding) or [0, 0, 0])
        assert list(later.sizes.binding_group) == (list(period.binding_group) or [0, 0, 0])
        assert list(later.sizes.binding_bound) == (list(period.binding_bound) or [0.0] * 3)
        bindings |= set(period.binding)
        held = 100.0 * np.array(period.lots)
        holdings = portfolio_service_pb2.Holdings(
            instrument_ids=[n for n, q in zip(names, held, strict=True) if q],
            quantity=[q for q in held if q],
        )
        await client.portfolio.SetHoldings(
            portfolio_service_pb2.SetHoldingsRequest(
                portfolio_id=portfolio_id, cash=1e7 - held @ prices, holdings=holdings
            )
        )
        means = means * np.where(HALF_LIFE > 0, np.exp2(-1 / np.maximum(HALF_LIFE, 1e-9)), 1.0)
        await client.parameter.SetParameters(
            parameter_service_pb2.SetParametersRequest(
                portfolio_id=portfolio_id,
                parameters=Parameters(
                    kelly_fraction=1.0,
                    confidence_shrinkage=NONE,
                    trade_rate=rate,
                    plan_periods=max(periods - t - 1, 1),
                    **given,
                ),
            )
        )
    assert bindings - {0}, "the limits of this case cut something"


async def test_a_joint_plan_stays_inside_a_limit_on_risk(joint_client: Client) -> None:
    portfolio_id = await book(joint_client, 0.5, trade_rate=0.5, plan_periods=8)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    joint = {"volatility_max": 0.13}
    await joint_client.set_limits(scope, leverage_max=60.0, allow_short=True, joint=joint)
    decision = await planned(joint_client, portfolio_id, JOINT)
    for period in decision.plan.periods:
        weight = 1e-9 * np.array(period.lots) * np.array(PRICES[:3])
        np.testing.assert_allclose(weight, period.weight, rtol=1e-12)
        assert np.sqrt(VARIANCE * weight @ weight) <= 0.13 + 1e-12


async def test_refused_lines_stay_and_limits_come_after(client: Client) -> None:
    portfolio_id = await book(client, 0.5, trade_rate=0.5, plan_periods=3)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.55, leverage_max=60.0)
    signals = {
        "win_probability": [],
        "payoff": [],
        "expected_return": [0.05, 0.05],
        "volatility": [0.2, -1.0],
    }
    decision = await client.size(sizing_request(portfolio_id, ["I0", "I1"], signals))
    assert decision.sizes.line_status[1] == types_pb2.LINE_STATUS_REFUSED
    # Without the limit k = 0.5 / 0.25 = 2 would lead to 0.85 and more.
    lot = PRICES[0] / EQUITY
    for number, period in enumerate(decision.plan.periods):
        assert 0.55 - lot <= period.weight[0] <= 0.55
        assert (period.binding[0], period.binding_bound[0]) == (
            types_pb2.LIMIT_KIND_WEIGHT_MAX,
            0.55,
        ), number
        assert (period.weight[1], period.lots[1], period.binding[1]) == (0.0, 0, 0)
    words = " ".join(line_words(decision, 0))
    assert "planned period 2 is set by: at most 55.00% of equity in one instrument" in words


async def test_a_narrower_scope_may_do_without_and_what_if_with(client: Client) -> None:
    portfolio_id = await book(client, 0.5, trade_rate=0.4, plan_periods=0)
    decision = await moments(client, portfolio_id, 0.05, 0.04)
    assert not decision.HasField("plan")
    base = sizing_request(
        portfolio_id,
        ["I1"],
        {
            "win_probability": [],
            "payoff": [],
            "expected_return": [0.05],
            "volatility": [0.2],
        },
        request_id="",
    )
    variation = sizing_service_pb2.Variation(name="one period")
    variation.parameters.plan_periods = 1
    answer = await client.sizing.WhatIf(
        sizing_service_pb2.WhatIfRequest(base=base, variations=[variation])
    )
    assert answer.base.sizes.weight[0] == pytest.approx(0.4 * 1.25, abs=1e-6)
    assert answer.results[0].sizes.weight[0] == pytest.approx(1.25 / 4.75, abs=1e-6)


@pytest.mark.parametrize("periods", [-1, 251])
async def test_periods_out_of_range_are_refused(client: Client, periods: int) -> None:
    portfolio_id = await client.ready()
    request = parameter_service_pb2.SetParametersRequest(
        portfolio_id=portfolio_id, parameters=Parameters(plan_periods=periods)
    )
    found = await refusal(client.parameter.SetParameters(request))
    assert found.fields == {"parameters.plan_periods": "OUT_OF_RANGE"}
