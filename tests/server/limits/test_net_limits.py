"""Books beyond a net limit come inside in whole lots where one decision can bring them there."""

from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    types_pb2,
)

from tests.server.support.service_client import Client, new_id, sizing_request

NAMES = ("N0", "N1", "N2")
METHODS = {"closed": types_pb2.SIZING_METHOD_CLOSED_FORM, "joint": types_pb2.SIZING_METHOD_JOINT}


async def market(client: Client, names: tuple[str, ...], prices: list[float]) -> str:
    return await client.put_market(
        instrument_ids=list(names), price=prices, volatility=[], average_daily_volume=[], sector=[]
    )


async def with_limits(client: Client, cash: float, held: dict[str, float], **limits: Any) -> str:
    portfolio_id = await client.put_portfolio(cash, held)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, allow_short=True, **limits)
    return portfolio_id


@pytest.mark.parametrize("method", METHODS)
async def test_cash_takes_back_no_hedge_that_a_net_limit_needs(
    joint_client: Client, method: str
) -> None:
    """A fifth of equity is held, a tenth may be: nothing is bought that keeps net above it."""
    names = tuple(new_id(name) for name in NAMES)
    snapshot_id = await market(joint_client, names, [100.0] * 3)
    held = {names[0]: 2000.0}
    portfolio_id = await with_limits(joint_client, 800_000.0, held, net_weight_max=0.1)
    edges = {"side": [1, 1, 2], "win_probability": [0.8, 0.8, 0.95], "payoff": [1.0] * 3}
    request = sizing_request(
        portfolio_id, list(names), edges, method=METHODS[method], market_snapshot_id=snapshot_id
    )
    decision = await joint_client.size(request)
    assert sum(decision.sizes.trade_lots)
    assert sum(decision.sizes.weight) <= 0.1 * (1.0 + 1e-12)
    assert not decision.limits_exceeded


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sign", [1, -1])
async def test_volatility_takes_back_no_hedge_that_a_net_limit_needs(
    joint_client: Client, method: str, sign: int
) -> None:
    """Half of equity is held on one side, 0.3 net may be, and a hedge x, sqrt(.25 + x^2) <= .55.

    So x is at most 0.22913; the other line would bring net back to 0.355 if both were cut alike.
    """
    names = tuple(new_id(name) for name in NAMES)
    snapshot_id = await market(joint_client, names, [1.0] * 3)
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=names,
        dense={"values": 4e-4 * np.eye(3).ravel()},
    )
    matrix.as_of_time.GetCurrentTime()
    await joint_client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    limits: dict[str, Any] = {"joint": limits_pb2.JointLimits(volatility_max=0.55 * 0.02)}
    limits["net_weight_max" if sign > 0 else "net_weight_min"] = 0.3 * sign
    own = zip(names[1:], (0.3, 0.1), strict=True)
    limits["instruments"] = [
        limits_pb2.InstrumentLimit(instrument_id=name, weight_max=most) for name, most in own
    ]
    held = {names[0]: 500_000.0 * sign}
    portfolio_id = await with_limits(joint_client, 1e6 - 500_000.0 * sign, held, **limits)
    edges = {
        "side": [2, 1] if sign > 0 else [1, 2],
        "win_probability": [],
        "payoff": [],
        "expected_return": [0.02, 0.02],
        "volatility": [0.02, 0.02],
    }
    request = sizing_request(
        portfolio_id,
        list(names[1:]),
        edges,
        method=METHODS[method],
        market_snapshot_id=snapshot_id,
        covariance_matrix_id=matrix.matrix_id,
    )
    decision = await joint_client.size(request)
    hedge, other = sign * np.array(decision.sizes.weight)
    assert 0.5 + hedge + other <= 0.3 * (1.0 + 1e-9)
    assert np.hypot(0.5, np.hypot(hedge, other)) <= 0.55 * (1.0 + 1e-9)
    assert not decision.limits_exceeded
    if method == "closed":
        assert hedge == pytest.approx(-np.sqrt(0.55**2 - 0.25), abs=2e-6)


@pytest.mark.parametrize("method", METHODS)
async def test_random_books_beyond_net_limits_come_inside(
    joint_client: Client, method: str
) -> None:
    """All that is held is asked for, any of it may be sold: net can always be brought inside."""
    rng = np.random.default_rng(91)
    names = tuple(new_id(f"N{i}") for i in range(6))
    prices = (10.0 ** rng.uniform(1.0, 2.5, 6)).tolist()
    snapshot_id = await market(joint_client, names, prices)
    beyond = 0
    for _ in range(12):
        sign = float(rng.choice([-1.0, 1.0]))
        weights = sign * rng.uniform(0.02, 0.2, 6)
        quantity = np.trunc(weights * 1e6 / prices)
        held = dict(zip(names, quantity.tolist(), strict=True))
        cash = 1e6 - float(quantity @ prices)
        bound = float(rng.choice([0.0, 0.05, 0.1]))
        limit = {"net_weight_max": bound} if sign > 0 else {"net_weight_min": -bound}
        portfolio_id = await with_limits(joint_client, cash, held, **limit)
        sides = rng.integers(1, 3, 6).tolist()
        edges = {
            "side": sides,
            "win_probability": rng.uniform(0.5, 0.95, 6).tolist(),
            "payoff": [1.0] * 6,
        }
        request = sizing_request(
            portfolio_id, list(names), edges, method=METHODS[method], market_snapshot_id=snapshot_id
        )
        decision = await joint_client.size(request)
        lots = np.array(decision.sizes.trade_lots) + quantity
        net = sign * float(lots @ prices) / 1e6
        beyond += sign * float(quantity @ prices) / 1e6 > bound
        # A book of shares can be brought inside but for the shares that its lots are.
        assert net <= bound + 1e-9, (limit, sides, net, decision.status)
    assert beyond == 12


async def test_coarse_lots_keep_a_net_limit_without_a_fallback(joint_client: Client) -> None:
    """Lots of some percent of equity, longs and shorts whose difference may be a tenth of it."""
    rng, n = np.random.default_rng(5), 6
    names = tuple(new_id(f"N{i}") for i in range(n))
    prices = [125.0, 62.0, 32.0, 78.0, 170.0, 300.0]
    snapshot_id = await joint_client.put_market(
        instrument_ids=list(names),
        price=prices,
        lot_size=[100.0] * n,
        volatility=[],
        average_daily_volume=[],
        sector=[],
    )
    covariance = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=names,
    )
    covariance.as_of_time.GetCurrentTime()
    covariance.dense.values.extend((1e-4 + 2e-4 * np.eye(n)).ravel().tolist())
    await joint_client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=covariance))
    portfolio_id = await with_limits(joint_client, 1e6, {}, net_weight_max=0.1)
    for _ in range(30):
        edges = {
            "side": rng.choice([1, 1, 2], n).tolist(),
            "edge_source": [sizing_pb2.EDGE_SOURCE_RETURN_VOLATILITY] * n,
            "expected_return": rng.uniform(0.0, 0.004, n).tolist(),
            "volatility": [0.02] * n,
        }
        request = sizing_request(
            portfolio_id,
            list(names),
            edges,
            method=types_pb2.SIZING_METHOD_JOINT,
            market_snapshot_id=snapshot_id,
            covariance_matrix_id=covariance.matrix_id,
            validate_only=True,
        )
        decision = await joint_client.size(request)
        told = [step.outcome for step in decision.fallback_chain]
        assert decision.status != types_pb2.SIZING_STATUS_FALLBACK, told
        assert sum(decision.sizes.weight) <= 0.1 * (1.0 + 1e-12)
