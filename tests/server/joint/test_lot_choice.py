"""Whole lots, places and smallest trades of a joint optimum searched together, against all lots."""

import itertools
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from compute.joint import lots as joint_lots
from server.cli.render import summary_lines
from tests.server.limits.test_limits_on_lots import put_matrix
from tests.server.support.service_client import INSTRUMENTS, PRICES, Client, sizing_request

SEARCHED = parameter_service_pb2.LOT_CHOICE_SEARCHED
ROUNDED = parameter_service_pb2.LOT_CHOICE_ROUNDED
JOINT = types_pb2.SIZING_METHOD_JOINT
EQUITY, K, N = 1e6, 4, len(PRICES)
"""Lines of a request; one more instrument is held and not asked for."""


class Book:
    """A random small book: coarse lots, and every rule that a search is for."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng([13, seed])
        price = np.array(PRICES)
        self.lot_size = np.round(rng.uniform(0.04, 0.12, N) * EQUITY / price)
        self.lot = self.lot_size * price / EQUITY
        root = rng.standard_normal((N, 3))
        self.covariance = 4e-4 * (root @ root.T + np.eye(N)) / 4.0
        self.mean = rng.uniform(1e-5, 3e-4, K)
        odd = 0.4 if seed % 3 == 2 else 0.0
        lots = np.where(rng.random(N) < 0.4, rng.integers(1, 4, N) + odd, 0.0)
        lots[K + 1 :] = 0.0
        while lots @ self.lot > 0.9 or lots[:2] @ self.lot[:2] > 0.45:
            lots = np.where(lots >= 2.0, lots - 1.0, 0.0)
        self.before = lots * self.lot
        self.held = {
            name: float(q * size)
            for name, q, size in zip(INSTRUMENTS, lots, self.lot_size, strict=True)
            if q
        }
        self.limits: dict[str, Any] = {
            "weight_max": 0.5,
            "leverage_max": 0.9,
            "sale_proceeds": limits_pb2.SALE_PROCEEDS_AT_ONCE,
            "groups": [
                limits_pb2.GroupLimit(
                    name="two", instrument_ids=INSTRUMENTS[:2], gross_weight_max=0.45
                )
            ],
        }
        if seed % 2:
            held, outside = (self.before > 0).sum(), (self.before[K:] > 0).sum()
            self.limits["positions_max"] = int(max(held, outside + 2))
        if seed % 4 > 1:
            self.limits["trade_weight_min"] = 0.1

    def value(self, weights: np.ndarray) -> np.ndarray:
        """mean'w - w'Sw / (2 c) at half Kelly, of books (..., K), holdings outside included."""
        whole = np.concatenate(
            [weights, np.broadcast_to(self.before[K:], (*weights.shape[:-1], N - K))], axis=-1
        )
        risk = np.einsum("...i,ij,...j->...", whole, self.covariance, whole)
        return weights @ self.mean - risk

    def best(self) -> float:
        """The largest value of all whole lots that keep the limits."""
        moves = [
            np.arange(-np.floor(b / lot + 1e-9), 12.0) * lot + b
            for b, lot in zip(self.before[:K], self.lot[:K], strict=True)
        ]
        books = np.array(list(itertools.product(*moves)))
        books[np.abs(books) < 1e-12] = 0.0
        kept = self.keeps(books)
        return float(self.value(books[kept]).max())

    def keeps(self, books: np.ndarray) -> np.ndarray:
        """Which of the books (b, K) are within every limit; the one before is."""
        limits, slack, before = self.limits, 1e-9, self.before
        kept = (books <= limits["weight_max"] + slack).all(axis=1)
        gross, two = books.sum(axis=1) + before[K:].sum(), books[:, :2].sum(axis=1)
        kept &= (gross <= limits["leverage_max"] + slack) & (two <= 0.45 + slack)
        if most := limits.get("positions_max"):
            count = (books > 0).sum(axis=1) + (before[K:] > 0).sum()
            kept &= count <= most
        if least := limits.get("trade_weight_min"):
            moved = np.abs(books - before[:K])
            kept &= ((moved < slack) | (books == 0.0) | (moved >= least - slack)).all(axis=1)
        return kept

    async def decided(self, client: Client, choice: int) -> sizing_pb2.SizingDecision:
        await client.put_market(lot_size=self.lot_size)
        cash = EQUITY * (1.0 - self.before.sum())
        portfolio_id = await client.put_portfolio(cash, self.held)
        scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
        await client.set_limits(scope, **self.limits)
        parameters = parameter_service_pb2.SizingParameters(lot_choice=choice)  # type: ignore[arg-type]
        await client.parameter.SetParameters(
            parameter_service_pb2.SetParametersRequest(
                portfolio_id=portfolio_id, parameters=parameters
            )
        )
        signals = {
            "win_probability": [],
            "payoff": [],
            "expected_return": self.mean,
            "volatility": [0.02] * K,
        }
        return await client.size(
            sizing_request(
                portfolio_id,
                INSTRUMENTS[:K],
                signals,
                method=JOINT,
                covariance_matrix_id=await put_matrix(client, "COVARIANCE", self.covariance),
            )
        )


@pytest.mark.parametrize("seed", range(12))
async def test_the_lots_are_the_best_of_all_that_keep_the_limits(
    joint_client: Client, seed: int
) -> None:
    book = Book(seed)
    decision = await book.decided(joint_client, SEARCHED)
    rounded = await book.decided(joint_client, ROUNDED)
    weights, before = np.array(decision.sizes.weight), np.array(rounded.sizes.weight)
    search, value = decision.lot_search, float(book.value(weights))
    assert not rounded.HasField("lot_search")
    assert book.keeps(weights[None, :]).all()
    assert decision.certificate.objective_lots == pytest.approx(value, abs=1e-12)
    assert search.objective_rounded == pytest.approx(float(book.value(before)), abs=1e-12)
    assert value >= search.objective_rounded - 1e-12
    assert search.is_used
    assert search.gap <= 1e-6
    assert any("relative from the best" in line for line in summary_lines(decision))
    # The waterfall comes to the lots from the optimum that is proven, with no other cut between.
    stages = {stage.stage: np.array(stage.weight) for stage in decision.waterfall.stages}
    optimum = stages[types_pb2.SIZING_STAGE_JOINT_OPTIMUM]
    assert book.value(optimum) == pytest.approx(decision.certificate.objective, rel=1e-6)
    assert stages[types_pb2.SIZING_STAGE_LOTS] == pytest.approx(weights, abs=1e-12)
    assert search.objective == pytest.approx(value, abs=1e-12)
    assert value == pytest.approx(book.best(), rel=1e-6, abs=1e-12)
    replay = await joint_client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    assert replay.replayed.lot_search == search


@pytest.mark.parametrize("seed", range(3))
async def test_growth_over_scenarios_is_the_best_of_all_lots(
    joint_client: Client, seed: int
) -> None:
    """Log growth, whose tangents the programs take, in two places at most."""
    rng = np.random.default_rng([17, seed])
    returns = 0.03 * rng.standard_normal((40, N)) + 0.004 * rng.random(N)
    sizes = np.round(rng.uniform(0.05, 0.15, N) * EQUITY / np.array(PRICES))
    lot = sizes[:K] * np.array(PRICES[:K]) / EQUITY
    await joint_client.put_market(lot_size=sizes)
    portfolio_id = await joint_client.put_portfolio(EQUITY)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await joint_client.set_limits(scope, weight_max=0.7, leverage_max=0.95, positions_max=2)
    parameters = parameter_service_pb2.SizingParameters(lot_choice=SEARCHED, kelly_fraction=1.0)
    await joint_client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )
    request = sizing_request(
        portfolio_id,
        INSTRUMENTS[:K],
        {
            "win_probability": [],
            "payoff": [],
            "edge_source": [sizing_pb2.EDGE_SOURCE_SCENARIOS] * K,
        },
        method=JOINT,
        scenario_matrix_id=await put_matrix(joint_client, "SCENARIOS", returns),
    )
    decision = await joint_client.size(request)
    books = np.array(list(itertools.product(*(np.arange(0.0, 15.0) * size for size in lot))))
    kept = (books <= 0.7).all(axis=1) & (books.sum(axis=1) <= 0.95)
    kept &= (books > 0).sum(axis=1) <= 2
    growth = np.log1p(returns[:, :K] @ books[kept].T).mean(axis=0)
    assert decision.lot_search.is_used
    assert decision.lot_search.objective == pytest.approx(growth.max(), rel=1e-6)
    own = np.log1p(returns[:, :K] @ np.array(decision.sizes.weight)).mean()
    assert own == pytest.approx(growth.max(), rel=1e-6)


async def test_some_books_gain_by_it(joint_client: Client) -> None:
    """Rounding leaves money on the table where lots are coarse."""
    gains = []
    for seed in range(12, 18):
        search = (await Book(seed).decided(joint_client, SEARCHED)).lot_search
        gains.append(search.objective - search.objective_rounded)
    assert min(gains) >= -1e-12
    assert max(gains) > 1e-6


async def test_without_time_the_lots_are_rounded_and_it_is_said(
    joint_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint_lots, "SHARE", 0.0)
    book = Book(3)
    decision = await book.decided(joint_client, SEARCHED)
    monkeypatch.undo()
    rounded = await book.decided(joint_client, ROUNDED)
    assert list(decision.sizes.lots) == list(rounded.sizes.lots)
    assert not decision.lot_search.is_used
    assert "half of the time" in decision.lot_search.note
    assert book.keeps(np.array(decision.sizes.weight)[None, :]).all()
    replay = await joint_client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal, "with all the time there is, the record counts"


async def test_a_part_of_the_way_is_not_searched(joint_client: Client) -> None:
    book = Book(0)
    decision = await book.decided(joint_client, SEARCHED)
    asked = sizing_service_pb2.Variation(name="half")
    asked.parameters.trade_rate = 0.5
    base = sizing_request(
        decision.portfolio_id,
        INSTRUMENTS[:K],
        {
            "win_probability": [],
            "payoff": [],
            "expected_return": book.mean,
            "volatility": [0.02] * K,
        },
        method=JOINT,
        request_id="",
        covariance_matrix_id=decision.versions.covariance_matrix_id,
    )
    answer = await joint_client.sizing.WhatIf(
        sizing_service_pb2.WhatIfRequest(base=base, variations=[asked])
    )
    assert answer.results[0].sizes.weight
    parameters = parameter_service_pb2.SizingParameters(trade_rate=0.5, lot_choice=SEARCHED)
    await joint_client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=decision.portfolio_id, parameters=parameters
        )
    )
    base.validate_only = True
    told = (await joint_client.size(base)).lot_search
    assert not told.is_used
    assert "trade_rate" in told.note
