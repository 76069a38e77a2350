"""Nothing is stored that nobody reads: spread, age of a matrix, average price."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from positionsizing.v1 import (
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
)

from compute.market import Market, MissingInputError
from server.convert.matrix import covariance_of
from server.convert.matrix import matrix as as_arrays
from tests.server.support.seeds import matrix
from tests.server.support.service_client import Client, refusal, sizing_request

WIDE = {"weight_max": 10.0, "leverage_max": 100.0}
FULL = {"kelly_fraction": 1.0, "confidence_shrinkage": 1}


async def with_parameters(client: Client, portfolio_id: str, **given: Any) -> None:
    request = parameter_service_pb2.SetParametersRequest(
        portfolio_id=portfolio_id, parameters=parameter_service_pb2.SizingParameters(**given)
    )
    await client.parameter.SetParameters(request)


async def test_half_the_spread_is_a_cost(client: Client) -> None:
    """By hand, spread 0.04 and cost 0.01: c = 0.03 of the stake.

    A bet: 0.6 / 1.03 - 0.4 / 0.97. Moments: (0.05 - 0.03) / 0.2^2 = 0.5. Scenarios +30 %, -20 %,
    less c: 0.5 / 0.23 - 0.5 / 0.27 inverted, that is the f with mean score 0.
    """
    portfolio_id = await client.ready(**WIDE)
    await with_parameters(client, portfolio_id, cost_rate=0.01, **FULL)
    market = await client.put_market(spread=[0.04] * 8)
    scenarios = matrix(3, [0.3, 0.3, -0.2, -0.2])
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=scenarios))
    signals = {
        "side": [1, 1],
        "edge_source": [1, 3],
        "win_probability": [0.6, 0.5],
        "payoff": [1.0, 1.0],
    }
    request = sizing_request(
        portfolio_id, ["I0", "I1"], signals, market_snapshot_id=market,
        scenario_matrix_id=scenarios.matrix_id, validate_only=True,
    )  # fmt: skip
    decision = await client.size(request)
    cost = next(stage for stage in decision.waterfall.stages if stage.stage == 2)
    up, down = 0.27, 0.23
    exact = (0.5 * up - 0.5 * down) / (up * down)
    assert cost.weight == pytest.approx([0.6 / 1.03 - 0.4 / 0.97, exact], abs=1e-9)
    signals = {"side": [1], "edge_source": [2], "expected_return": [0.05], "volatility": [0.2],
               "win_probability": [], "payoff": []}  # fmt: skip
    request = sizing_request(portfolio_id, ["I0"], signals, market_snapshot_id=market,
                             validate_only=True)  # fmt: skip
    stages = {s.stage: s for s in (await client.size(request)).waterfall.stages}
    assert stages[1].weight[0] == pytest.approx(1.25, abs=1e-9)
    assert stages[2].weight[0] == pytest.approx(0.5, abs=1e-9)
    free = await client.put_market()
    request.market_snapshot_id = free
    stages = {s.stage: s for s in (await client.size(request)).waterfall.stages}
    assert stages[2].weight[0] == pytest.approx(1.0, abs=1e-9)


async def test_an_old_matrix_is_stale(client: Client) -> None:
    portfolio_id = await client.ready(**WIDE)
    old = matrix(3, [0.3, 0.3, -0.2, -0.2])
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=old))
    signals = {"edge_source": [3, 3], "win_probability": [], "payoff": [], "side": [1, 1]}
    request = sizing_request(portfolio_id, ["I0", "I1"], signals,
                             scenario_matrix_id=old.matrix_id, validate_only=True)  # fmt: skip
    assert (await client.size(request)).sizes.lots[0] > 0
    await with_parameters(client, portfolio_id, matrix_age_max=Duration(seconds=3600))
    refused = await refusal(client.sizing.SizePositions(request))
    assert refused.reason == "STALE_INPUT"
    assert "the matrix is" in refused.message
    new = matrix(3, [0.3, 0.3, -0.2, -0.2])
    new.as_of_time.GetCurrentTime()
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=new))
    request.scenario_matrix_id = new.matrix_id
    assert (await client.size(request)).sizes.lots[0] > 0
    stored = await client.parameter.GetParameters(
        parameter_service_pb2.GetParametersRequest(portfolio_id=portfolio_id)
    )
    assert stored.parameters.matrix_age_max.seconds == 3600
    assert stored.parameters.periods_per_year == 1.0


async def test_what_was_paid_gives_what_was_gained(client: Client) -> None:
    """100 bought at 8 and worth 10, 10 sold short at 15 and worth 20, 5 of unknown cost."""
    await client.put_market()
    portfolio_id = await client.put_portfolio(1e6)
    book = portfolio_service_pb2.Holdings(
        instrument_ids=["I0", "I1", "I2"], quantity=[100.0, -10.0, 5.0],
        average_price=[8.0, 15.0, 0.0],
    )  # fmt: skip
    await client.portfolio.SetHoldings(
        portfolio_service_pb2.SetHoldingsRequest(portfolio_id=portfolio_id, cash=1e6, holdings=book)
    )
    get = portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    answer = await client.portfolio.GetPortfolio(get)
    assert list(answer.portfolio.holdings.average_price) == [8.0, 15.0, 0.0]
    pnl = answer.unrealised_pnl
    assert list(pnl.instrument_ids) == ["I0", "I1"]
    assert list(pnl.pnl) == pytest.approx([200.0, -50.0])
    assert pnl.total == pytest.approx(150.0)
    assert list(pnl.unvalued_instrument_ids) == ["I2"]
    assert pnl.market_snapshot_id


async def test_fills_keep_the_average_price(client: Client) -> None:
    portfolio_id = await client.ready()
    decision = await client.size(sizing_request(portfolio_id, ["I0"]))
    for price, lots in ((9.0, 100), (11.0, 300)):
        fills = sizing_service_pb2.Fills(instrument_ids=["I0"], lots=[lots], price=[price])
        await client.sizing.SettleDecision(
            sizing_service_pb2.SettleDecisionRequest(
                request_id=sizing_request("x").request_id,
                decision_id=decision.decision_id,
                fills=fills,
            )
        )
    get = portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    answer = await client.portfolio.GetPortfolio(get)
    assert list(answer.portfolio.holdings.average_price) == pytest.approx([10.5])
    assert answer.unrealised_pnl.total == pytest.approx(400 * (10.0 - 10.5))


def test_a_correlation_with_volatilities_is_a_covariance() -> None:
    """Annual volatilities of 16 % and 32 %, 256 days: 1 % and 2 % a day."""
    prices = Market(("B", "A", "C"), np.ones(3), np.ones(3), volatility=np.array([0.32, 0.16, 0]))
    told = market_service_pb2.Matrix(
        kind=market_service_pb2.MATRIX_KIND_CORRELATION,
        instrument_ids=["A", "B", "elsewhere"],
        dense=market_service_pb2.DenseMatrix(values=[1, 0.5, 0, 0.5, 1, 0, 0, 0, 1]),
    )
    made = covariance_of(as_arrays(told), prices, 256.0)
    assert made.kind == market_service_pb2.MATRIX_KIND_COVARIANCE
    assert made.values[:2, :2] == pytest.approx(np.array([[1e-4, 1e-4], [1e-4, 4e-4]]))
    told.instrument_ids[2] = "C"
    with pytest.raises(MissingInputError, match="volatility of 'C'"):
        covariance_of(as_arrays(told), prices, 256.0)


async def test_a_request_may_name_a_correlation(client: Client) -> None:
    """This server is set up for no joint problem: it gets as far as that."""
    portfolio_id = await client.ready(**WIDE)
    told = matrix(2, [1.0, 0.3, 0.3, 1.0])
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=told))
    signals = {"edge_source": [2, 2], "expected_return": [0.01] * 2, "volatility": [0.2] * 2,
               "win_probability": [], "payoff": [], "side": [1, 1]}  # fmt: skip
    request = sizing_request(portfolio_id, ["I0", "I1"], signals, method=2,
                             covariance_matrix_id=told.matrix_id, validate_only=True)  # fmt: skip
    refused = await refusal(client.sizing.SizePositions(request))
    assert refused.reason == "PROBLEM_TOO_LARGE"
    blind = await client.put_market(volatility=[0.3, 0.0] * 4)
    request.market_snapshot_id = blind
    refused = await refusal(client.sizing.SizePositions(request))
    assert refused.reason == "MISSING_VOLATILITY"
    odd = matrix(2, [1.0, 2.0, 2.0, 1.0])
    refused = await refusal(
        client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=odd))
    )
    assert refused.fields == {"matrix.dense": "NOT_POSITIVE_SEMIDEFINITE"}
