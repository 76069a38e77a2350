"""What joint decisions and optima say: what bound a line, what was not read, what is missing."""

import numpy as np
import pytest
from positionsizing.v1 import market_service_pb2, types_pb2
from positionsizing.v1 import optimization_service_pb2 as pb
from positionsizing.v1 import portfolio_service_pb2 as portfolio_pb2
from scipy.optimize import linprog

from tests.server.joint.test_joint import objective_of, optimize
from tests.server.joint.test_joint_bets import bets, kelly
from tests.server.joint.test_joint_truth import (
    before_lots,
    covariance_of,
    moments,
    set_parameters,
    stored,
)
from tests.server.support.service_client import INSTRUMENTS, Client, refusal


async def test_a_line_that_nothing_pays_for_is_bound_by_cash(joint_client: Client) -> None:
    """Sales bring nothing until they are filled: what is new has no cash, not too little weight."""
    matrix = covariance_of(1e-4 * np.eye(3))
    portfolio_id = await stored(
        joint_client, matrix, weight_max=0.5, leverage_max=1.0, cash_buffer=0.01
    )
    await set_parameters(joint_client, portfolio_id, kelly_fraction=1.0)
    await joint_client.portfolio.SetHoldings(
        portfolio_pb2.SetHoldingsRequest(
            portfolio_id=portfolio_id,
            cash=1e4,
            holdings={"instrument_ids": INSTRUMENTS[:2], "quantity": [49_500.0, 24_750.0]},
        )
    )
    request = moments(portfolio_id, [0.0012, 0.0010, 0.003], covariance_matrix_id=matrix.matrix_id)
    decision = await joint_client.size(request)
    assert decision.sizes.weight[2] == 0.0
    assert decision.sizes.binding[2] == types_pb2.LIMIT_KIND_CASH
    assert decision.sizes.binding_bound[2] == 0.0  # 10,000 of cash are the buffer of 1 %


@pytest.mark.parametrize("rate", [0.0, 0.05])
async def test_bets_are_net_of_the_rate(joint_client: Client, rate: float) -> None:
    """Kelly p/a - q/b of each, whatever cash earns: by both methods."""
    portfolio_id = await kelly(joint_client, allow_short=False)
    await set_parameters(joint_client, portfolio_id, kelly_fraction=1.0, risk_free_rate=rate)
    request = bets(portfolio_id, [0.6])
    for method in (types_pb2.SIZING_METHOD_JOINT, types_pb2.SIZING_METHOD_CLOSED_FORM):
        request.method = method
        found = before_lots(await joint_client.size(request))
        np.testing.assert_allclose(found, [0.2], atol=1e-8)


async def test_a_volatility_that_is_not_read_is_said(joint_client: Client) -> None:
    """The matrix says 0.01; a signal that says so too needs no note."""
    matrix = covariance_of(1e-4 * np.eye(2))
    portfolio_id = await stored(joint_client, matrix, weight_max=0.5, leverage_max=1.0)
    request = moments(portfolio_id, [0.001, 0.001], covariance_matrix_id=matrix.matrix_id)
    request.signals.volatility[:] = [0.01, 0.03]
    decision = await joint_client.size(request)
    (note,) = decision.notes
    assert "I1 (0.03, not 0.01)" in note
    assert "I0" not in note
    request.signals.volatility[:] = [0.01, 0.01]
    assert not (await joint_client.size(request)).notes


@pytest.mark.parametrize("kind", ["MEAN_VARIANCE", "QUADRATIC_GROWTH", "MAX_RETURN", "MAX_SHARPE"])
async def test_a_missing_mean_is_said(joint_client: Client, kind: str) -> None:
    """A covariance alone expects nothing: there is no best book, and no zeros for one."""
    asked = pb.OptimizationProblem(
        instrument_ids=INSTRUMENTS[:2],
        objective=objective_of(kind),
        covariance=market_service_pb2.Matrix(
            kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
            instrument_ids=INSTRUMENTS[:2],
            dense={"values": [0.04, 0.0, 0.0, 0.04]},
        ),
    )
    fields = await refusal(optimize(joint_client, asked))
    assert "problem.mean" in str(fields)


@pytest.mark.parametrize("mean", [[0.001, 0.002, 0.003], [0.002, 0.002, 0.002]])
async def test_prices_of_an_optimum_at_large_bounds(
    joint_client: Client, mean: list[float]
) -> None:
    """A unit of the budget earns the largest mean, of a box of 1e9 as of one of 1."""
    asked = pb.OptimizationProblem(
        instrument_ids=INSTRUMENTS[:3],
        objective=objective_of("MAX_RETURN"),
        mean=mean,
        weight_min=[-1e9] * 3,
        weight_max=[1e9] * 3,
        budget_max=1e9,
    )
    answer = await optimize(joint_client, asked)
    assert answer.status == pb.OPTIMIZATION_STATUS_OPTIMAL
    assert "not optimal" not in answer.certificate.note
    best = linprog(-np.array(mean), np.ones((1, 3)), [1.0], bounds=[(-1.0, 1.0)] * 3)
    assert answer.certificate.objective == pytest.approx(-1e9 * best.fun, rel=1e-9)
    (price,) = [p for p in answer.certificate.shadow_prices if p.limit == "budget_max"]
    earned = -float(best.ineqlin.marginals[0])
    assert price.price_low - 1e-9 <= earned <= price.price_high + 1e-9
