"""Why two decisions differ and why a size is not larger, over gRPC, checked against what-ifs."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from positionsizing.v1 import explanation_service_pb2 as pb
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.random_world import World
from tests.server.support.service_client import (
    INSTRUMENTS,
    PRICES,
    Client,
    new_id,
    refusal,
    sizing_request,
)

SIGNALS, MARKET, HOLDINGS, LIMITS, PARAMETERS = range(1, 6)


async def set_fraction(client: Client, portfolio_id: str, fraction: float) -> None:
    parameters = parameter_service_pb2.SizingParameters(kelly_fraction=fraction)
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )


def scope(portfolio_id: str) -> portfolio_service_pb2.Scope:
    return portfolio_service_pb2.Scope(portfolio_id=portfolio_id)


async def compare(client: Client, first: str, second: str) -> pb.CompareDecisionsResponse:
    request = pb.CompareDecisionsRequest(first_decision_id=first, second_decision_id=second)
    return await client.explanation.CompareDecisions(request)


def shares(answer: pb.CompareDecisionsResponse) -> dict[str, dict[int, float]]:
    """By instrument and group."""
    table = np.array(answer.shares).reshape(len(answer.instrument_ids), len(answer.groups))
    rows = zip(answer.instrument_ids, table, strict=True)
    return {name: dict(zip(answer.groups, row, strict=True)) for name, row in rows}


async def two_days(client: Client) -> tuple[sizing_pb2.SizingDecision, sizing_pb2.SizingDecision]:
    """Two decisions between which signals, prices, holdings, limits and parameters changed."""
    portfolio_id = await client.ready(1e6, weight_max=0.1, leverage_max=1.0)
    await set_fraction(client, portfolio_id, 0.2)
    first = await client.size(sizing_request(portfolio_id))
    await client.put_market(price=[p * 1.1 for p in PRICES])
    await client.set_limits(scope(portfolio_id), weight_max=0.15, leverage_max=0.5)
    await set_fraction(client, portfolio_id, 0.7)
    changed = {"win_probability": [0.7, 0.51, 0.6, 0.6], "side": [1, 1, 1, 1]}
    second = await client.size(sizing_request(portfolio_id, INSTRUMENTS[1:5], changed))
    return first, second


async def test_the_difference_is_divided_among_what_changed(client: Client) -> None:
    first, second = await two_days(client)
    answer = await compare(client, first.decision_id, second.decision_id)
    assert list(answer.groups) == [SIGNALS, MARKET, HOLDINGS, LIMITS, PARAMETERS]
    assert answer.combinations == 32
    assert not answer.refused
    assert answer.replays_equal
    assert set(answer.instrument_ids) == set(INSTRUMENTS[:5])
    before = dict(zip(first.sizes.instrument_ids, first.sizes.quantity, strict=True))
    after = dict(zip(second.sizes.instrument_ids, second.sizes.quantity, strict=True))
    for place, (name, parts) in enumerate(shares(answer).items()):
        quantities = answer.quantity_first[place], answer.quantity_second[place]
        if name in before:
            assert quantities[0] == before[name]
        if name in after:
            assert quantities[1] == after[name]
        assert sum(parts.values()) == pytest.approx(quantities[1] - quantities[0], abs=1e-9)
    told = {(item.group, item.input): (item.first, item.second) for item in answer.differences}
    assert told[LIMITS, "weight_max"] == ("0.1", "0.15")
    assert told[PARAMETERS, "kelly_fraction"] == ("0.2", "0.7")
    assert told[MARKET, f"price of {INSTRUMENTS[1]}"] == ("20", "22")
    assert told[SIGNALS, f"side of {INSTRUMENTS[0]}"] == ("SIDE_LONG", "")
    assert (HOLDINGS, f"open_buy of {INSTRUMENTS[0]}") in told  # reserved by the first


async def test_exchanging_the_decisions_changes_every_sign(client: Client) -> None:
    first, second = await two_days(client)
    forth = shares(await compare(client, first.decision_id, second.decision_id))
    back = shares(await compare(client, second.decision_id, first.decision_id))
    for name, parts in forth.items():
        for group, share in parts.items():
            assert back[name][group] == pytest.approx(-share, abs=1e-9)


async def test_one_change_has_the_whole_difference(client: Client) -> None:
    portfolio_id = await client.ready(1e6, weight_max=0.1, leverage_max=1.0)
    first = await client.size(sizing_request(portfolio_id))
    await client.sizing.SettleDecision(
        sizing_service_pb2.SettleDecisionRequest(
            request_id=str(uuid4()), decision_id=first.decision_id, close=True
        )
    )
    limits = limits_pb2.Limits(weight_max=0.05)
    second = await client.size(sizing_request(portfolio_id, limits=limits))
    answer = await compare(client, first.decision_id, second.decision_id)
    assert list(answer.groups) == [LIMITS]
    assert answer.combinations == 2
    for name, parts in shares(answer).items():
        line = list(first.sizes.instrument_ids).index(name)
        assert parts[LIMITS] == second.sizes.quantity[line] - first.sizes.quantity[line]
    same = await compare(client, first.decision_id, first.decision_id)
    assert not same.groups
    assert not same.shares
    assert same.replays_equal


async def test_a_combination_that_can_t_be_sized_trades_nothing_and_is_told(client: Client) -> None:
    """What is held of an instrument that one of the markets lacks can't be valued in it."""
    portfolio_id = await client.put_portfolio(1e6, {"I7": 10.0})
    await client.set_limits(scope(portfolio_id), weight_max=0.1, leverage_max=1.0)
    await client.put_market()
    first = await client.size(sizing_request(portfolio_id))
    other = await client.put_portfolio(1e6)
    await client.set_limits(scope(other), weight_max=0.1, leverage_max=1.0)
    n = len(INSTRUMENTS) - 1
    await client.put_market(
        instrument_ids=INSTRUMENTS[:n],
        price=PRICES[:n],
        volatility=[0.3] * n,
        average_daily_volume=[1e6] * n,
        sector=["A"] * n,
    )
    second = await client.size(sizing_request(other))
    answer = await compare(client, first.decision_id, second.decision_id)
    assert [item.reason for item in answer.refused] == ["MISSING_PRICE"]
    assert list(answer.refused[0].second_groups) == [MARKET]
    for place, parts in enumerate(shares(answer).values()):
        difference = answer.quantity_second[place] - answer.quantity_first[place]
        assert sum(parts.values()) == pytest.approx(difference, abs=1e-9)


async def test_random_decisions_of_every_kind_add_up(client: Client) -> None:
    world = World(client, np.random.default_rng(20261129))
    await world.new_market()
    await world.new_scenarios()
    for _ in range(3):
        await world.new_portfolio("")
    decided = []
    for _ in range(16):
        await world.change_something()
        decided.append(await world.decide())
    for first, second in pairwise(decided):
        answer = await compare(client, first, second)
        assert answer.replays_equal
        for place, parts in enumerate(shares(answer).values()):
            difference = answer.quantity_second[place] - answer.quantity_first[place]
            assert sum(parts.values()) == pytest.approx(difference, rel=1e-12, abs=1e-6)


async def test_the_ladder_lifts_one_limit_after_another(client: Client) -> None:
    portfolio_id = await client.ready(
        1e6,
        weight_max=0.2,
        leverage_max=0.3,
        groups=[limits_pb2.GroupLimit(name="tech", sector="A", gross_weight_max=0.1)],
        adv_trade_max=0.002,
    )
    await set_fraction(client, portfolio_id, 0.5)
    decision = await client.size(
        sizing_request(portfolio_id, ["I0"], {"win_probability": [0.8], "payoff": [1.0]})
    )
    request = pb.GetLimitLadderRequest(decision_id=decision.decision_id, instrument_id="I0")
    answer = await client.explanation.GetLimitLadder(request)
    held = [(types_pb2.LimitKind.Name(rung.limit), rung.limit_name) for rung in answer.rungs]
    assert held == [
        ("LIMIT_KIND_ADV_TRADE_MAX", ""),
        ("LIMIT_KIND_GROUP_GROSS_MAX", "tech"),
        ("LIMIT_KIND_WEIGHT_MAX", ""),
        ("LIMIT_KIND_LEVERAGE_MAX", ""),
    ]
    assert [rung.limit_bound for rung in answer.rungs] == [0.002, 0.1, 0.2, 0.3]
    # 2,000 units at 10; then a tenth, a fifth and three tenths of a million; then the stake.
    assert [rung.lots for rung in answer.rungs] == [2000, 10_000, 20_000, 30_000]
    assert [rung.lots_without for rung in answer.rungs] == [10_000, 20_000, 30_000, 30_000]
    assert all(rung.growth_gained >= 0.0 for rung in answer.rungs)
    assert not answer.end_reason
    assert list(answer.stages) == [
        types_pb2.SIZING_STAGE_RAW_KELLY,
        types_pb2.SIZING_STAGE_KELLY_FRACTION,
    ]
    assert list(answer.stage_weight) == pytest.approx([0.6, 0.3])


async def test_cash_is_lifted_as_if_there_were_more(client: Client) -> None:
    portfolio_id = await client.ready(1e6, weight_max=5.0)
    decision = await client.size(
        sizing_request(
            portfolio_id,
            ["I0"],
            {"win_probability": [0.9], "payoff": [0.1], "loss_fraction": [0.2]},
        )
    )
    request = pb.GetLimitLadderRequest(decision_id=decision.decision_id, instrument_id="I0")
    answer = await client.explanation.GetLimitLadder(request)
    (cash,) = answer.rungs
    assert cash.limit == types_pb2.LIMIT_KIND_CASH
    assert cash.weight == pytest.approx(1.0, abs=1e-4)
    assert cash.weight_without == pytest.approx(answer.stage_weight[-1], abs=1e-4)
    assert cash.weight_without > 1.5


async def test_what_nothing_lifts_ends_the_ladder(client: Client) -> None:
    portfolio_id = await client.ready(50.0, weight_max=1.0)
    decision = await client.size(sizing_request(portfolio_id, ["I5"]))  # 200 a unit
    assert list(decision.sizes.lots) == [0]
    request = pb.GetLimitLadderRequest(decision_id=decision.decision_id, instrument_id="I5")
    answer = await client.explanation.GetLimitLadder(request)
    assert answer.rungs[-1].limit == types_pb2.LIMIT_KIND_LOT_SIZE
    assert not answer.rungs[-1].HasField("lots_without")
    assert "lot" in answer.end_reason


async def test_the_joint_method_is_compared_and_climbed(joint_client: Client) -> None:
    client = joint_client
    portfolio_id = await client.ready(1e6, weight_max=0.2, leverage_max=0.5)
    rng = np.random.default_rng(5)
    edges: dict[str, Any] = {
        "win_probability": [],
        "payoff": [],
        "expected_return": [0.002, 0.003, 0.001],
        "volatility": [0.02, 0.03, 0.02],
    }
    a = rng.standard_normal((3, 3))
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("covariance"),
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=INSTRUMENTS[:3],
        dense=market_service_pb2.DenseMatrix(values=(1e-4 * (a @ a.T + np.eye(3))).ravel()),
    )
    matrix.as_of_time.FromDatetime(datetime.now(UTC))
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    common: dict[str, Any] = {
        "method": types_pb2.SIZING_METHOD_JOINT,
        "covariance_matrix_id": matrix.matrix_id,
    }
    first = await client.size(sizing_request(portfolio_id, INSTRUMENTS[:3], edges, **common))
    await client.set_limits(scope(portfolio_id), weight_max=0.1, leverage_max=0.5)
    second = await client.size(sizing_request(portfolio_id, INSTRUMENTS[:3], edges, **common))
    answer = await compare(client, first.decision_id, second.decision_id)
    assert {HOLDINGS, LIMITS} == set(answer.groups)
    for place, parts in enumerate(shares(answer).values()):
        difference = answer.quantity_second[place] - answer.quantity_first[place]
        assert sum(parts.values()) == pytest.approx(difference, abs=1e-9)
    held = [i for i, kind in enumerate(first.sizes.binding) if kind]
    name = first.sizes.instrument_ids[held[0]]
    ladder = await client.explanation.GetLimitLadder(
        pb.GetLimitLadderRequest(decision_id=first.decision_id, instrument_id=name)
    )
    assert ladder.rungs[0].limit == first.sizes.binding[held[0]]
    assert ladder.rungs[0].lots == first.sizes.lots[held[0]]


async def test_wrong_ids_are_named(client: Client) -> None:
    portfolio_id = await client.ready()
    decision = await client.size(sizing_request(portfolio_id))
    wrong = pb.CompareDecisionsRequest(first_decision_id=decision.decision_id)
    assert (
        "second_decision_id" in (await refusal(client.explanation.CompareDecisions(wrong))).fields
    )
    wrong.second_decision_id = str(uuid4())
    gone = await refusal(client.explanation.CompareDecisions(wrong))
    assert gone.reason == "DECISION_NOT_FOUND"
    ladder = pb.GetLimitLadderRequest(decision_id=decision.decision_id)
    found = await refusal(client.explanation.GetLimitLadder(ladder))
    assert "instrument_id" in found.fields
    ladder.instrument_id = new_id("instrument")
    found = await refusal(client.explanation.GetLimitLadder(ladder))
    assert found.fields == {"instrument_id": "UNKNOWN_INSTRUMENT"}
