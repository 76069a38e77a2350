"""What an answer says of the limits that made it: whose they are, and the status they lead to."""

from typing import Any

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

from tests.server.joint.test_joint_truth import covariance_of, moments, set_parameters
from tests.server.support.named_limits import invented
from tests.server.support.service_client import INSTRUMENTS, PRICES, Client

CASH = types_pb2.LIMIT_KIND_CASH
METHODS = (types_pb2.SIZING_METHOD_JOINT, types_pb2.SIZING_METHOD_CLOSED_FORM)


async def book(
    client: Client, cash: float, held: dict[str, float], limits: limits_pb2.Limits, **given: Any
) -> str:
    """A portfolio with these limits, sized at full Kelly."""
    portfolio_id = await client.put_portfolio(cash, held)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.portfolio.SetLimits(
        portfolio_service_pb2.SetLimitsRequest(scope=scope, limits=limits)
    )
    await set_parameters(client, portfolio_id, **{"kelly_fraction": 1.0, **given})
    return portfolio_id


async def two_that_go_apart(client: Client) -> str:
    """A stored covariance of 2 % each."""
    matrix = covariance_of(0.0004 * np.eye(2))
    matrix.as_of_time.GetCurrentTime()
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    return matrix.matrix_id


@pytest.mark.parametrize(
    ("held", "cash", "buffer", "cost", "expected"),
    [
        ({}, 1e6, 0.0, 0.0, [0.004, 0.002]),
        ({"I1": 0.1}, 0.9e6, 0.0, 0.0, [0.004, 0.002]),
        ({"I1": 0.1}, 0.9e6, 0.0, 0.0005, [0.004, 0.003]),
        ({"I1": 0.2}, 0.8e6, 0.5, 0.0001, [0.004, 0.0039]),
    ],
)
async def test_where_cash_binds_cash_is_named_and_nothing_else(
    joint_client: Client,
    held: dict[str, float],
    cash: float,
    buffer: float,
    cost: float,
    expected: list[float],
) -> None:
    """Also where a line stays at what is held: its end there is a piece of the capital's row."""
    await joint_client.put_market()
    matrix_id = await two_that_go_apart(joint_client)
    quantities = {name: share * 1e6 / PRICES[1] for name, share in held.items()}
    limits = limits_pb2.Limits(cash_buffer=buffer)
    portfolio_id = await book(joint_client, cash, quantities, limits, cost_rate=cost)
    request = moments(portfolio_id, expected, covariance_matrix_id=matrix_id)
    decision = await joint_client.size(request)
    assert decision.status == types_pb2.SIZING_STATUS_CAPPED
    assert set(decision.sizes.binding) == {CASH}
    free = cash - 1e6 * buffer
    assert list(decision.sizes.binding_bound) == pytest.approx([free] * 2)
    (price,) = decision.certificate.shadow_prices
    assert (price.limit, price.kind) == ("cash max", CASH)
    assert price.bound == pytest.approx(free / 1e6)
    assert price.price_high == pytest.approx(decision.sizes.marginal_growth[0], rel=1e-3)


async def test_no_limit_is_named_that_nobody_set(joint_client: Client) -> None:
    """Random holdings, capital, permissions and limits, most of them unset; both methods."""
    snapshot_id = await joint_client.put_market(lot_size=[1e-6] * 8)
    matrix_id = await two_that_go_apart(joint_client)
    kinds = set()
    for seed in range(40):
        rng = np.random.default_rng([5, seed])
        held = {
            name: float(rng.uniform(-0.3, 0.5)) * 1e6 / price
            for name, price in zip(INSTRUMENTS[:2], PRICES, strict=False)
            if rng.random() < 0.6
        }
        limits = limits_pb2.Limits(
            cash_buffer=float(rng.choice([0.0, 0.3])),
            fee_rate=float(rng.choice([0.0, 0.0005])),
            allow_short=bool(rng.random() < 0.5),
            allow_flip=bool(rng.random() < 0.3),
        )
        for name, bound in (("weight_max", 0.3), ("notional_max", 4e5), ("leverage_max", 0.8)):
            if rng.random() < 0.15:
                setattr(limits, name, bound)
        worth = sum(quantity * PRICES[INSTRUMENTS.index(n)] for n, quantity in held.items())
        cost = float(rng.choice([0.0, 0.0002]))
        portfolio_id = await book(joint_client, 1e6 - worth, held, limits, cost_rate=cost)
        sides = [int(side) for side in rng.integers(1, 3, 2)]
        expected = [float(x) for x in rng.uniform(-0.004, 0.004, 2)]
        for method in METHODS:
            request = moments(
                portfolio_id,
                expected,
                sides,
                method,
                market_snapshot_id=snapshot_id,
                covariance_matrix_id=matrix_id,
            )
            decision = await joint_client.size(request)
            assert not invented(decision, limits), (seed, method)
            kinds |= set(decision.sizes.binding)
    assert len(kinds) >= 5


def long_bets(portfolio_id: str, method: int, **limits: Any) -> Any:
    """Two bets with stakes of 0.1 each."""
    return sizing_service_pb2.SizePositionsRequest(
        portfolio_id=portfolio_id,
        method=types_pb2.SizingMethod.ValueType(method),
        validate_only=True,
        limits=limits_pb2.Limits(**limits),
        signals=sizing_pb2.SignalBatch(
            instrument_ids=INSTRUMENTS[:2],
            side=[types_pb2.SIDE_LONG] * 2,
            win_probability=[0.55] * 2,
            payoff=[1.0] * 2,
        ),
    )


async def test_a_least_net_exposure_is_bought_by_the_joint_method_alone(
    joint_client: Client,
) -> None:
    await joint_client.put_market()
    limits = limits_pb2.Limits(leverage_max=1.0)
    portfolio_id = await book(joint_client, 1e6, {}, limits)
    joint, closed = [
        await joint_client.size(long_bets(portfolio_id, method, net_weight_min=0.5))
        for method in METHODS
    ]
    assert sum(joint.sizes.weight) == pytest.approx(0.5, abs=1e-3)
    assert not [e for e in joint.limits_exceeded if e.bound - e.value > 1e-3]
    assert sum(closed.sizes.weight) == pytest.approx(0.2, abs=1e-3)
    (only,) = closed.limits_exceeded
    assert (only.kind, only.bound) == (types_pb2.LIMIT_KIND_NET_MIN, 0.5)
    assert closed.status == types_pb2.SIZING_STATUS_LIMIT_EXCEEDED
    for decision in (joint, closed):
        beyond = decision.status == types_pb2.SIZING_STATUS_LIMIT_EXCEEDED
        assert beyond == bool(decision.limits_exceeded)
