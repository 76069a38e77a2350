"""Reserved trades at their worst: each form of a bound says the same, and lots keep all of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    portfolio_service_pb2,
    risk_service_pb2,
    sizing_pb2,
    types_pb2,
)

from tests.server.support.kelly_books import METHODS, KellyBook
from tests.server.support.service_client import Client, new_id

CAPPED = types_pb2.SIZING_STATUS_CAPPED
SHORTS = {"allow_short": True, "allow_flip": True}


def _net(names: Sequence[str], bound: float) -> dict[str, Any]:
    return {"net_weight_max": bound, "net_weight_min": -bound}


def _group(names: Sequence[str], bound: float) -> dict[str, Any]:
    own = limits_pb2.GroupLimit(name="g", instrument_ids=names, **_net(names, bound))
    return {"groups": [own]}


def _linear(names: Sequence[str], bound: float, scale: float = 1.0) -> dict[str, Any]:
    row = limits_pb2.LinearLimit(
        name="l",
        instrument_ids=names,
        coefficients=[scale] * len(names),
        lower=-scale * bound,
        upper=scale * bound,
    )
    return {"joint": limits_pb2.JointLimits(linear=[row])}


NETS: dict[str, Callable[[Sequence[str], float], dict[str, Any]]] = {
    "net": _net,
    "group": _group,
    "linear": _linear,
    "linear, scaled": lambda names, bound: _linear(names, bound, 3.0),
}


async def only_reserved(book: KellyBook) -> list[tuple[float, bool]]:
    found = await book.client.portfolio.GetBreaches(
        portfolio_service_pb2.GetBreachesRequest(portfolio_id=book.portfolio_id)
    )
    return sorted((b.value / abs(b.bound), b.only_reserved) for b in found.breaches)


def told(decision: sizing_pb2.SizingDecision) -> list[tuple[int, float]]:
    return [(item.kind, item.value) for item in decision.limits_exceeded]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", NETS)
async def test_a_net_that_only_reserved_trades_could_pass_is_not_exceeded(
    joint_client: Client, method: str, form: str
) -> None:
    """+10 % and -10 % reserved: 0 once filled, 10 % at worst, where 5 % may be, in each form."""
    book = await KellyBook(joint_client, method).opened(100_000.0, [])
    await book.limited(weight_max=0.1, leverage_max=1.0, **SHORTS, **NETS[form](book.names, 0.05))
    first = await book.size(0.4, -0.4)
    assert list(first.sizes.trade_lots) == [100, -100]
    assert not first.limits_exceeded
    assert await only_reserved(book) == [
        (pytest.approx(-2.0), True),
        (pytest.approx(2.0), True),
    ]
    for stake in (0.4, -0.4):
        third = await book.size(stake, first=2, validate_only=True)
        assert list(third.sizes.trade_lots) == [0]
        assert told(third) == []
        assert third.status == CAPPED, third.fallback_chain
        assert not third.fallback_chain


@pytest.mark.parametrize("method", METHODS)
async def test_a_stress_limit_and_its_row_are_the_same_where_trades_are_reserved(
    joint_client: Client, method: str
) -> None:
    """All fall by a half: 2.5 % of loss is 5 % net."""
    decisions = {}
    for form in ("stress", "linear"):
        book = await KellyBook(joint_client, method).opened(100_000.0, [])
        shock = risk_service_pb2.ShockEvent(instrument_ids=book.names, returns=[-0.5] * 3)
        scenario = risk_service_pb2.StressScenario(scenario_id=new_id("fall"), shock=shock)
        await joint_client.risk.PutStressScenario(
            risk_service_pb2.PutStressScenarioRequest(scenario=scenario)
        )
        stress = limits_pb2.StressLimit(scenario_id=scenario.scenario_id, loss_max=0.025)
        row = limits_pb2.LinearLimit(
            name="l", instrument_ids=book.names, coefficients=[0.5] * 3, upper=0.025
        )
        limit = {"stress": {"stress": [stress]}, "linear": {"linear": [row]}}[form]
        joint = limits_pb2.JointLimits(**limit)
        await book.limited(weight_max=0.1, leverage_max=1.0, joint=joint, **SHORTS)
        await book.size(0.4, -0.4)
        found = [await book.size(stake, first=2, validate_only=True) for stake in (0.4, -0.4, 0.02)]
        decisions[form] = [
            (d.status, list(d.sizes.trade_lots), told(d), len(d.fallback_chain)) for d in found
        ]
        assert decisions[form][0] == (CAPPED, [0], [], 0)
        assert decisions[form][1] == (CAPPED, [-100], [], 0)
    assert decisions["stress"] == decisions["linear"]


@pytest.mark.parametrize("method", METHODS)
async def test_a_risk_budget_is_told_with_all_trades_filled(
    joint_client: Client, method: str
) -> None:
    """10 % held and its sale reserved, of a fifth of volatility; the budget is lowered then."""
    book = await KellyBook(joint_client, method).opened(90_000.0, [100.0], volatility=[0.2] * 3)
    await book.limited(weight_max=0.5)
    assert list((await book.size(0.0)).sizes.trade_lots) == [-100]
    await book.parametrised(risk_budget=0.015)
    decision = await book.size(0.4, first=1, validate_only=True)
    assert list(decision.sizes.trade_lots) == [0]
    assert told(decision) == []


@pytest.mark.parametrize("method", METHODS)
async def test_a_short_that_has_to_stay_is_rounded_away_from_zero(
    joint_client: Client, method: str
) -> None:
    """4 % held, 16 % sold and not yet filled, where 12 % may be: should the sale fail, what is
    bought now adds to what is held. Of another line nothing is taken back."""
    book = await KellyBook(joint_client, method, 2).opened(95_951.0, [40.0])
    await book.limited(weight_max=0.12, **SHORTS)
    first = await book.size(-0.4)
    equity, sold = 99_951.0, 159
    assert list(first.sizes.trade_lots) == [-sold]
    decision = await book.size(0.4, 0.4, validate_only=True)
    bought, other = decision.sizes.trade_lots
    assert 100.0 * (40 + bought) <= 0.12 * equity < 100.0 * (40 + bought + 1)
    assert 100.0 * other <= 0.12 * equity < 100.0 * (other + 1)
    assert not decision.fallback_chain
    assert list(decision.sizes.binding) == [types_pb2.LIMIT_KIND_WEIGHT_MAX] * 2


@pytest.mark.parametrize("method", METHODS)
async def test_a_gross_limit_takes_nothing_off_a_short_that_has_to_stay(
    joint_client: Client, method: str
) -> None:
    """The same short, and gross that is used up: the other line gives way alone."""
    book = await KellyBook(joint_client, method, 2).opened(95_951.0, [40.0])
    await book.limited(weight_max=0.12, leverage_max=0.3, **SHORTS)
    await book.size(-0.4)
    decision = await book.size(0.4, 0.4, validate_only=True)
    assert not decision.fallback_chain
    bought, other = decision.sizes.trade_lots
    assert 100.0 * (40 + bought) <= 0.12 * 99_951.0
    assert other > 0


async def test_scenarios_count_before_a_covariance_in_the_risk_of_a_decision(
    joint_client: Client,
) -> None:
    """With both it is the worst of four equally likely returns, not 2.67 deviations."""
    book = await KellyBook(joint_client, "closed", 2).opened(100_000.0, [])
    await book.limited(weight_max=0.2)
    returns = np.array([[0.1, 0.0], [-0.3, 0.1], [0.0, -0.1], [0.2, 0.1]])
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("scenarios"),
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        instrument_ids=book.names,
    )
    matrix.as_of_time.GetCurrentTime()
    matrix.dense.values.extend(returns.ravel().tolist())
    await joint_client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    given = {"scenario_matrix_id": matrix.matrix_id, "validate_only": True}
    decision = await book.size(0.4, 0.4, **given)
    assert list(decision.sizes.weight) == [0.2, 0.2]
    losses = -(returns @ [0.2, 0.2])
    assert decision.risk.after.expected_shortfall == pytest.approx(losses.max())
    assert decision.risk.after.volatility == pytest.approx(losses.std(ddof=1))


@pytest.mark.parametrize("form", NETS)
@pytest.mark.parametrize("method", METHODS)
async def test_a_position_against_its_signal_stays_where_nothing_makes_up_for_it(
    joint_client: Client, method: str, form: str
) -> None:
    """The 10 % reserved are to be sold, which would take the net away from 0: they stay."""
    book = await KellyBook(joint_client, method).opened(100_000.0, [])
    await book.limited(weight_max=0.1, leverage_max=1.0, **SHORTS, **NETS[form](book.names, 0.05))
    assert list((await book.size(0.4, -0.4)).sizes.trade_lots) == [100, -100]
    alone = await book.size(-0.0001, validate_only=True)
    assert list(alone.sizes.trade_lots) == [0]
    assert not alone.fallback_chain
    assert alone.status == CAPPED
    assert alone.method == METHODS[method]


@pytest.mark.parametrize("form", NETS)
async def test_a_short_that_may_not_be_short_is_covered_as_far_as_sales_make_up_for_it(
    joint_client: Client, form: str
) -> None:
    """Shorts are forbidden with one reserved, and the net may not move: 3 % are sold for it."""
    book = await KellyBook(joint_client, "joint").opened(97_000.0, [0.0, 0.0, 30.0])
    bounds = {"weight_max": 0.1, "leverage_max": 1.0, **NETS[form](book.names, 0.05)}
    await book.limited(**bounds, **SHORTS)
    assert list((await book.size(0.4, -0.4)).sizes.trade_lots) == [100, -100]
    await book.limited(**bounds, allow_short=False, allow_flip=True)
    decision = await book.size(-0.0001, 0.0, first=1, validate_only=True)
    assert list(decision.sizes.trade_lots) == [30, -30]
    assert not decision.fallback_chain


async def test_a_position_stays_where_several_sums_together_leave_no_way_for_it(
    joint_client: Client,
) -> None:
    """Another line could make up for each of two sums that may not move, but not for both."""
    book = await KellyBook(joint_client, "joint").opened(100_000.0, [])
    rows = [
        limits_pb2.LinearLimit(
            name=name, instrument_ids=book.names, coefficients=row, lower=-0.05, upper=0.05
        )
        for name, row in (("once", [1.0, 1.0, 1.0]), ("twice", [1.0, 2.0, 1.0]))
    ]
    joint = limits_pb2.JointLimits(linear=rows)
    await book.limited(weight_max=0.1, leverage_max=1.0, joint=joint, **SHORTS)
    assert list((await book.size(0.4, 0.0, -0.4)).sizes.trade_lots) == [100, 0, -100]
    decision = await book.size(-0.0001, 0.4, validate_only=True)
    assert list(decision.sizes.trade_lots) == [0, 0]
    assert not decision.fallback_chain
    assert decision.status == CAPPED
    assert any("they stay" in note for note in decision.notes), decision.notes
    assert decision.HasField("certificate")
