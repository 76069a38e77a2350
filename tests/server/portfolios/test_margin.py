"""Collateral of shorts and proceeds of sales, through the service: nothing is spent twice."""

import math
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.service_client import INSTRUMENTS, PRICES, Client, new_id, sizing_request

SHORTS: dict[str, Any] = {"allow_short": True, "short_margin_rate": 1.0}
PRICE = dict(zip(INSTRUMENTS, PRICES, strict=True))


async def fill(client: Client, decision: sizing_pb2.SizingDecision) -> None:
    """Fills every trade of a decision at the prices it was decided on."""
    traded = np.flatnonzero(decision.sizes.trade_lots)
    request = sizing_service_pb2.SettleDecisionRequest(
        request_id=str(uuid4()),
        decision_id=decision.decision_id,
        fills=sizing_service_pb2.Fills(
            instrument_ids=[decision.sizes.instrument_ids[i] for i in traded],
            lots=[decision.sizes.trade_lots[i] for i in traded],
            price=[decision.sizes.price[i] for i in traded],
        ),
    )
    await client.sizing.SettleDecision(request)


async def book(client: Client, portfolio_id: str) -> tuple[float, dict[str, float]]:
    """Cash and holdings."""
    request = portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    found = (await client.portfolio.GetPortfolio(request)).portfolio
    held = found.holdings
    return found.cash, dict(zip(held.instrument_ids, held.quantity, strict=True))


def strong(portfolio_id: str, name: str, side: int, **given: Any) -> Any:
    """A request for as much of one instrument as the limits let through."""
    columns = {
        "side": [1 if side > 0 else types_pb2.SIDE_SHORT],
        "win_probability": [0.99],
        "payoff": [1.0],
        "loss_fraction": [0.01],
    }
    return sizing_request(portfolio_id, [name], signals=columns, **given)


@pytest.mark.parametrize(("rate", "gross"), [(1.0, 1.0), (0.5, 2.0)])
async def test_shorts_filled_one_after_another_stay_within_equity(
    client: Client, rate: float, gross: float
) -> None:
    portfolio_id = await client.ready(1e5, allow_short=True, short_margin_rate=rate)
    for name in INSTRUMENTS[:6]:
        decision = await client.size(strong(portfolio_id, name, -1))
        if any(decision.sizes.trade_lots):
            await fill(client, decision)
        cash, held = await book(client, portfolio_id)
        short = sum(PRICE[name] * -quantity for name, quantity in held.items())
        assert cash - short == pytest.approx(1e5, rel=1e-12)
        assert rate * short <= 1e5 * (1 + 1e-12)
    assert short == pytest.approx(gross * 1e5, rel=0.01)


@pytest.mark.parametrize("reserved", [False, True])
async def test_what_a_short_brings_and_binds_buys_nothing(client: Client, reserved: bool) -> None:
    """Beside a short of 100,000 with 200,000 of cash nothing is free."""
    if reserved:
        portfolio_id = await client.ready(1e5, **SHORTS)
        decision = await client.size(strong(portfolio_id, "I0", -1))
        assert decision.sizes.notional[0] == pytest.approx(-1e5, rel=1e-3)
    else:
        await client.put_market()
        portfolio_id = await client.put_portfolio(2e5, {"I0": -1e4})
        scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
        await client.set_limits(scope, **SHORTS)
    decision = await client.size(strong(portfolio_id, "I3", 1))
    assert decision.sizes.trade_lots[0] <= 1
    assert decision.sizes.binding[0] == types_pb2.LIMIT_KIND_CASH
    assert decision.summary.equity == pytest.approx(1e5)


async def test_nothing_is_sized_into_a_margin_deficit(client: Client) -> None:
    await client.put_market()
    portfolio_id = await client.put_portfolio(3e5, {"I0": -2e4})  # short 200,000 on 100,000
    await client.set_limits(portfolio_service_pb2.Scope(portfolio_id=portfolio_id), **SHORTS)
    for name, side in (("I3", 1), ("I4", -1), ("I0", -1)):
        decision = await client.size(strong(portfolio_id, name, side))
        assert list(decision.sizes.trade_lots) == [0]
        assert decision.summary.cash_available == pytest.approx(-1e5)
        assert decision.summary.margin_used == pytest.approx(2e5)
    # Covering goes on.
    decision = await client.size(strong(portfolio_id, "I0", 1))
    assert decision.sizes.trade_lots[0] == 20_000


async def matrix_of(client: Client, names: tuple[str, ...], covariance: Any) -> str:
    """Stores a covariance."""
    made = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=names,
        dense=market_service_pb2.DenseMatrix(values=np.asarray(covariance).ravel()),
    )
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=made))
    return made.matrix_id


EDGES = (0.0012, 0.0010, 0.0011)


async def three_names(client: Client, **limits: Any) -> tuple[str, Any]:
    """A and B 49.5 % each, C 0.1 %, 1 % in cash (0.9 % free), covariance 1e-4 I."""
    names = INSTRUMENTS[:3]
    await client.put_market(price=[1.0] * 8)
    portfolio_id = await client.put_portfolio(
        9e3, dict(zip(names, (4.95e5, 4.95e5, 1e3), strict=True))
    )
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.5, leverage_max=1.0, **limits)
    matrix_id = await matrix_of(client, names, 1e-4 * np.eye(3))
    signals = sizing_pb2.SignalBatch(
        instrument_ids=names, side=[1] * 3, expected_return=EDGES, volatility=[0.01] * 3
    )
    request = sizing_service_pb2.SizePositionsRequest(
        request_id=str(uuid4()),
        portfolio_id=portfolio_id,
        signals=signals,
        method=types_pb2.SIZING_METHOD_JOINT,
        covariance_matrix_id=matrix_id,
    )
    return portfolio_id, request


def utility(weights: Any) -> float:
    """Mean less the variance over twice the Kelly fraction of one half."""
    w = np.asarray(weights)
    return float(np.asarray(EDGES) @ w - 1e-4 * w @ w)


async def test_joint_sales_pay_for_nothing_before_they_are_filled(joint_client: Client) -> None:
    """The plan that counts on its own sales went from 99 % invested to 51 %."""
    _, request = await three_names(joint_client)
    decision = await joint_client.size(request)
    bought = np.maximum(np.asarray(decision.sizes.trade_lots), 0).sum()
    assert bought <= 9_000
    assert decision.certificate.objective_lots >= utility((0.495, 0.495, 0.001)) - 1e-12
    assert decision.certificate.objective_lots >= decision.certificate.objective - 1e-7
    planned, final = _stages(decision)
    assert final == pytest.approx(planned, abs=2e-6), "nothing is cut after the optimum"
    # A may grow to 0.5 and C by what is left free; B is worth keeping.
    assert list(decision.sizes.weight) == pytest.approx([0.5, 0.495, 0.005], abs=3e-6)


async def test_joint_rebalancing_funds_itself_where_the_limits_say_so(joint_client: Client) -> None:
    at_once = limits_pb2.SALE_PROCEEDS_AT_ONCE
    _, request = await three_names(joint_client, sale_proceeds=at_once)
    decision = await joint_client.size(request)
    planned, final = _stages(decision)
    assert final == pytest.approx(planned, abs=2e-6)
    # w = (edge - price) / 2e-4 capped at one half; invested in full.
    assert list(decision.sizes.weight) == pytest.approx([0.5, 0.0, 0.5], abs=3e-6)
    assert decision.certificate.objective_lots >= utility((0.495, 0.495, 0.001))


def _stages(decision: sizing_pb2.SizingDecision) -> tuple[list[float], list[float]]:
    """Weights of the joint optimum and after the last stage."""
    optimum = types_pb2.SIZING_STAGE_JOINT_OPTIMUM
    rows = {stage.stage: list(stage.weight) for stage in decision.waterfall.stages}
    return rows[optimum], rows[types_pb2.SIZING_STAGE_LOTS]


async def test_a_request_cannot_grant_itself_the_proceeds(joint_client: Client) -> None:
    _, request = await three_names(joint_client)
    request.limits.sale_proceeds = limits_pb2.SALE_PROCEEDS_AT_ONCE
    decision = await joint_client.size(request)
    assert np.maximum(np.asarray(decision.sizes.trade_lots), 0).sum() <= 9_000
    assert math.isfinite(decision.certificate.objective_lots)


@pytest.mark.parametrize("cash", [-3e4, -2e4])
@pytest.mark.parametrize("method", [types_pb2.SIZING_METHOD_CLOSED_FORM, 2])
async def test_without_equity_reducing_goes_on(client: Client, cash: float, method: Any) -> None:
    """Worth 20,000 and owing as much or more: what is asked about is closed, nothing is opened."""
    await client.put_market()
    portfolio_id = await client.put_portfolio(cash, {"I0": 1000.0, "I3": -100.0, "I1": 1000.0})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    bounds = {"weight_max": 0.1, "leverage_max": 1.0, "turnover_max": 0.1, "cash_buffer": 0.1}
    await client.set_limits(scope, **bounds, **SHORTS, net_weight_min=0.0, net_weight_max=0.5)
    request = sizing_request(
        portfolio_id, ["I0", "I3", "I4"], {"side": [1, types_pb2.SIDE_SHORT, 1]}, method=method
    )
    decision = await client.size(request)
    assert list(decision.sizes.trade_lots) == [-1000, 100, 0]
    assert set(decision.sizes.binding) == {types_pb2.LIMIT_KIND_NO_EQUITY}
    assert decision.summary.equity == cash + 2e4
    # Weights are of the 40,000 held: what is left is I1.
    assert decision.summary.gross_weight_before == pytest.approx(1.0)
    assert decision.summary.gross_weight_after == pytest.approx(0.5)
    await fill(client, decision)
    cash_left, held = await book(client, portfolio_id)
    assert (cash_left, held) == (cash, {"I1": 1000.0})


@pytest.mark.parametrize("held", [4.0, -4.0])
@pytest.mark.parametrize("reducing", [False, True])
async def test_a_trade_that_closes_is_never_too_small(
    client: Client, held: float, reducing: bool
) -> None:
    """40 of notional under a smallest trade of 50, without an edge or with the wrong side."""
    await client.put_market()
    portfolio_id = await client.put_portfolio(1e6, {"I0": held, "I1": 2.0})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.1, trade_notional_min=50.0, allow_short=True)
    if reducing:
        change = portfolio_service_pb2.SetTradingStateRequest(
            scope=scope, trading_state=types_pb2.TRADING_STATE_REDUCING, reason="test"
        )
        await client.portfolio.SetTradingState(change)
    signals = {"win_probability": [0.2, 0.2], "side": [1 if held > 0 else types_pb2.SIDE_SHORT, 1]}
    decision = await client.size(sizing_request(portfolio_id, ["I0", "I1"], signals))
    assert list(decision.sizes.trade_lots) == [-held, -2]


@pytest.mark.parametrize("method", ["closed form", "joint"])
async def test_no_stop_no_position(joint_client: Client, method: str) -> None:
    client, names = joint_client, INSTRUMENTS[:3]
    await client.put_market()
    portfolio_id = await client.put_portfolio(1e6, {"I1": 1000.0})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.1, leverage_max=1.0, stop_required=True)
    signals = sizing_pb2.SignalBatch(
        instrument_ids=names,
        side=[1] * 3,
        expected_return=[0.01] * 3,
        volatility=[0.1] * 3,
        stop_price=[0.0, 0.0, 45.0],
    )
    request = sizing_service_pb2.SizePositionsRequest(
        request_id=str(uuid4()), portfolio_id=portfolio_id, signals=signals
    )
    if method == "joint":
        request.method = types_pb2.SIZING_METHOD_JOINT
        request.covariance_matrix_id = await matrix_of(client, names, 1e-2 * np.eye(3))
    decision = await client.size(request)
    # I0 is not opened, I1 stays at the 1,000 held, I2 has a stop: a tenth of 1,020,000 at 50.
    assert list(decision.sizes.lots) == [0, 1000, 2040]
    if method == "closed form":
        stop = types_pb2.LIMIT_KIND_STOP_REQUIRED
        assert list(decision.sizes.binding)[:2] == [stop, stop]


async def test_a_no_trade_band_keeps_small_changes(client: Client) -> None:
    await client.put_market()
    portfolio_id = await client.put_portfolio(8e5, {"I0": 9_500.0, "I1": 4_000.0, "I2": 100.0})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    # Equity 980,000: a tenth of it is 98,000. I0 holds 95,000, I1 80,000, I2 5,000 without an edge.
    await client.set_limits(scope, weight_max=0.2, leverage_max=1.0, trade_weight_min=0.01)
    moments = {
        "win_probability": [],
        "payoff": [],
        "expected_return": [0.02, 0.02, -0.01],
        "volatility": [0.3162277660168379] * 3,
    }
    decision = await client.size(sizing_request(portfolio_id, INSTRUMENTS[:3], moments))
    # Half of 0.02 / 0.1 is a tenth: 3,000 more of I0 is in the band, 18,000 of I1 is not.
    assert list(decision.sizes.trade_lots) == [0, 900, -100]
    assert decision.sizes.binding[0] == types_pb2.LIMIT_KIND_TRADE_WEIGHT_MIN
