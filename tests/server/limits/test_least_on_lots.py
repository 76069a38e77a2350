"""Lower limits kept by whole lots: the right name is rounded up, whatever that costs."""

import itertools
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    optimization_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    types_pb2,
)

from tests.server.support.service_client import Client, new_id, sizing_request

PRICE, EQUITY = np.array([10.0, 23.0, 47.0, 91.0]), 1e6
DEVIATION = np.array([0.01, 0.012, 0.02, 0.015])
CORRELATION = np.array(
    [[1.0, 0.7, 0.5, 0.3], [0.7, 1.0, 0.6, 0.2], [0.5, 0.6, 1.0, 0.4], [0.3, 0.2, 0.4, 1.0]]
)
COVARIANCE = CORRELATION * np.outer(DEVIATION, DEVIATION)
ROUNDED, SEARCHED = (
    parameter_service_pb2.LOT_CHOICE_ROUNDED,
    parameter_service_pb2.LOT_CHOICE_SEARCHED,
)
NET = {"net_weight_min": 0.5, "net_weight_max": 0.9}


class Book:
    """Four names in lots of one size, sized for the least variance."""

    def __init__(self, client: Client, lot_size: float) -> None:
        self.client, self.lot_size = client, lot_size
        self.ids = [new_id("least") for _ in PRICE]
        self.lot = lot_size * PRICE / EQUITY

    async def sized(
        self, limits: dict[str, Any], choice: int, lots: Any = (0, 0, 0, 0)
    ) -> sizing_pb2.SizingDecision:
        client = self.client
        market_id = await client.put_market(
            instrument_ids=self.ids,
            price=PRICE,
            lot_size=[self.lot_size] * 4,
            volatility=[],
            average_daily_volume=[],
            sector=[],
        )
        matrix = market_service_pb2.Matrix(
            matrix_id=new_id("matrix"),
            kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
            instrument_ids=self.ids,
            dense={"values": COVARIANCE.ravel()},
        )
        matrix.as_of_time.GetCurrentTime()
        await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
        held = np.array(lots) * self.lot_size
        holdings = dict(zip(self.ids, held.tolist(), strict=True))
        portfolio_id = await client.put_portfolio(
            EQUITY - float(held @ PRICE), {name: units for name, units in holdings.items() if units}
        )
        await client.set_limits(portfolio_service_pb2.Scope(portfolio_id=portfolio_id), **limits)
        objective = optimization_service_pb2.Objective(
            kind=optimization_service_pb2.OBJECTIVE_KIND_MIN_VARIANCE
        )
        await client.parameter.SetParameters(
            parameter_service_pb2.SetParametersRequest(
                portfolio_id=portfolio_id,
                parameters=parameter_service_pb2.SizingParameters(
                    joint_objective=objective,
                    lot_choice=choice,  # type: ignore[arg-type]
                ),
            )
        )
        edges = {
            "win_probability": [],
            "payoff": [],
            "expected_return": [6e-4, 5e-4, 12e-4, 7e-4],
            "volatility": DEVIATION,
        }
        return await client.size(
            sizing_request(
                portfolio_id,
                self.ids,
                edges,
                method=types_pb2.SIZING_METHOD_JOINT,
                covariance_matrix_id=matrix.matrix_id,
                market_snapshot_id=market_id,
            )
        )


@pytest.mark.parametrize("choice", [ROUNDED, SEARCHED])
@pytest.mark.parametrize("lot_size", [1000.0, 100.0, 1.0])
async def test_a_least_net_exposure_is_reached(
    joint_client: Client, lot_size: float, choice: int
) -> None:
    book = Book(joint_client, lot_size)
    decision = await book.sized(NET, choice)
    weight = np.array(decision.sizes.lots) * book.lot
    assert 0.5 - 1e-12 <= weight.sum() <= 0.5 + book.lot.sum()
    assert not decision.limits_exceeded
    assert decision.status == types_pb2.SIZING_STATUS_CAPPED
    if choice == SEARCHED:
        assert decision.lot_search.is_used


@pytest.mark.parametrize("lot_size", [1000.0, 100.0, 1.0])
async def test_the_lower_end_of_a_linear_limit_is_reached(
    joint_client: Client, lot_size: float
) -> None:
    book = Book(joint_client, lot_size)
    row = limits_pb2.LinearLimit(
        name="two", instrument_ids=book.ids[:2], coefficients=[1.0, 1.0], lower=0.4
    )
    decision = await book.sized({"joint": limits_pb2.JointLimits(linear=[row])}, ROUNDED)
    weight = np.array(decision.sizes.lots) * book.lot
    assert 0.4 - 1e-12 <= weight[:2].sum() <= 0.4 + book.lot[:2].sum()
    assert not decision.limits_exceeded


async def test_a_book_a_lot_short_of_it_moves_inside(joint_client: Client) -> None:
    """As rounding down left it: (29, 4, 0, 1) thousand, 0.473 of equity."""
    book = Book(joint_client, 1000.0)
    decision = await book.sized(NET, ROUNDED, (29, 4, 0, 1))
    assert np.array(decision.sizes.lots) @ book.lot >= 0.5 - 1e-12
    assert not decision.limits_exceeded


@pytest.mark.parametrize("seed", range(8))
async def test_random_books_are_inside_where_lots_next_to_the_optimum_are(
    joint_client: Client, seed: int
) -> None:
    """Against all lots within one of the weights before lots."""
    rng = np.random.default_rng([5, seed])
    book = Book(joint_client, float(rng.choice([300.0, 700.0, 1500.0])))
    least = float(rng.uniform(0.2, 0.6))
    limits: dict[str, Any] = {"weight_max": float(rng.uniform(0.25, 0.5)), "leverage_max": 0.9}
    row = np.ones(4)
    if seed % 2:
        row = np.round(rng.uniform(0.3, 1.5, 4), 2)
        linear = limits_pb2.LinearLimit(
            name="row", instrument_ids=book.ids, coefficients=row, lower=least
        )
        limits["joint"] = limits_pb2.JointLimits(linear=[linear])
    else:
        limits["net_weight_min"] = least
    decision = await book.sized(limits, ROUNDED)
    optimum = np.array(decision.waterfall.stages[-2].weight)
    near = [
        np.arange(max(np.floor(w / lot) - 1.0, 0.0), np.ceil(w / lot) + 2.0) * lot
        for w, lot in zip(optimum, book.lot, strict=True)
    ]
    books = np.array(list(itertools.product(*near)))
    kept = (books <= limits["weight_max"] + 1e-12).all(axis=1) & (books.sum(axis=1) <= 0.9)
    kept &= books @ row >= least
    assert kept.any()
    assert not decision.limits_exceeded
    assert np.array(decision.sizes.weight) @ row >= least * (1.0 - 1e-12)


@pytest.mark.parametrize(
    ("covariance", "lot", "budget", "best"),
    [
        (COVARIANCE, [0.01, 0.023, 0.047, 0.091], (0.5, 0.9), [34, 3, 0, 1]),
        (np.diag([0.01**2, 0.0101**2]), [0.001, 0.3], (0.5, 0.52), [200, 1]),
    ],
)
async def test_lots_of_an_optimization_are_those_of_all_lots(
    joint_client: Client,
    covariance: np.ndarray,
    lot: list[float],
    budget: tuple[float, float],
    best: list[int],
) -> None:
    """The best of every book of whole lots within the budget, enumerated by hand before."""
    names = [f"lot {place}" for place in range(len(lot))]
    problem = optimization_service_pb2.OptimizationProblem(
        instrument_ids=names,
        objective=optimization_service_pb2.Objective(
            kind=optimization_service_pb2.OBJECTIVE_KIND_MIN_VARIANCE
        ),
        covariance=market_service_pb2.Matrix(
            matrix_id="own",
            kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
            instrument_ids=names,
            dense={"values": covariance.ravel()},
        ),
        budget_min=budget[0],
        budget_max=budget[1],
    )
    problem.covariance.as_of_time.GetCurrentTime()
    request = optimization_service_pb2.OptimizePortfolioRequest(
        problem=problem, lots=optimization_service_pb2.LotRules(lot_weight=lot)
    )
    answer = await joint_client.optimization.OptimizePortfolio(request)
    weight, wanted = np.array(answer.lots.weights), np.array(best) * lot
    least = float(wanted @ covariance @ wanted)
    continuous = answer.certificate.objective
    assert answer.lots.cash_room == 0.0
    assert budget[0] - 1e-9 <= weight.sum() <= budget[1] + 1e-9
    assert answer.lots.objective == pytest.approx(float(weight @ covariance @ weight), rel=1e-9)
    left = (answer.lots.objective - least) / continuous
    assert -1e-9 <= left <= min(answer.lots.gap, 1e-4) + 1e-9
