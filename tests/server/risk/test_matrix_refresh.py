"""Matrices that follow the history of their universe."""

import asyncio
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import correlation_service_pb2 as pb
from positionsizing.v1 import market_service_pb2

from server.app import App
from server.portfolios.state import States
from server.risk import matrix_refresh
from server.risk.matrix_estimate import estimate_matrix
from server.risk.matrix_refresh import MatrixRefreshes
from storage.postgres.pool import Database, PoolOptions
from tests.server.risk.test_estimates import closes, estimate, stored_closes, values_of
from tests.server.risk.test_histories import part, put
from tests.server.sizing.test_correlation_penalty import ALONE, book, sized, stage
from tests.server.support.service_client import Client, new_id, refusal


async def run_due(app: App, options: PoolOptions | None = None) -> int:
    """What the maintenance of a server does every minute."""
    assert app.config.dsn is not None
    dsn = app.config.dsn.get_secret_value()
    database = await Database.open(dsn, options or PoolOptions())
    try:
        return await MatrixRefreshes(database, States(database, 5.0)).run_due()
    finally:
        await database.aclose()


async def refresh_of(client: Client, universe: str) -> pb.MatrixRefresh | None:
    answer = await client.correlation.ListMatrixRefreshes(pb.ListMatrixRefreshesRequest())
    return next((r for r in answer.refreshes if r.request.universe_id == universe), None)


async def more(client: Client, universe: str, first: int, last: int) -> None:
    """Stores more of the example closes."""
    names, prices = closes()
    rows = prices[first:last].tolist()
    await put(client, part(universe, rows, day=first, instrument_ids=names))


async def test_the_latest_matrix_follows_the_history(app: App, client: Client) -> None:
    universe, _ = await stored_closes(client, 300)
    settings = pb.EstimatorSettings(decay=0.94)
    given: dict[str, Any] = {"estimator": pb.COVARIANCE_ESTIMATOR_EWMA, "settings": settings}
    made = await estimate(client, universe, refresh=True, **given)
    await run_due(app)
    row = await refresh_of(client, universe)
    assert row is not None
    assert row.matrix_id == made.matrix_id, "the history has not moved"
    await more(client, universe, 300, 310)
    assert await run_due(app) >= 1
    row = await refresh_of(client, universe)
    assert row is not None
    assert row.matrix_id != made.matrix_id
    assert not row.failure
    by_hand = await estimate(client, universe, **given)
    assert by_hand.matrix_id == row.matrix_id, "the same request on the same numbers"
    assert by_hand.provenance.observation_count == 309
    before, after = await values_of(client, made.matrix_id), await values_of(client, row.matrix_id)
    assert not np.allclose(before, after)
    assert await run_due(app) == 0 or (await refresh_of(client, universe)) == row
    await estimate(client, universe, refresh=False, **given)
    assert await refresh_of(client, universe) is None


async def test_decisions_use_the_matrix_that_followed(app: App, client: Client) -> None:
    universe = new_id("followed")
    prices = 100.0 * np.exp(np.random.default_rng(3).normal(0.0, 0.01, (60, 2)).cumsum(axis=0))
    names = ["I0", "I1"]  # what is sized
    await put(client, part(universe, prices[:40].tolist(), instrument_ids=names))
    first = await estimate(client, universe, refresh=True)
    portfolio_id = await book(client, {"covariance_universe": universe, "periods_per_year": 252.0})
    decision = await sized(client, portfolio_id, 2, validate_only=True)
    assert decision.versions.covariance_matrix_id == first.matrix_id
    await put(client, part(universe, prices[40:].tolist(), day=40, instrument_ids=names))
    await run_due(app)
    row = await refresh_of(client, universe)
    assert row is not None
    for _ in range(100):  # the server may know the latest one for a moment longer
        decision = await sized(client, portfolio_id, 2, validate_only=True)
        if decision.versions.covariance_matrix_id != first.matrix_id:
            break
        await asyncio.sleep(0.1)
    assert decision.versions.covariance_matrix_id == row.matrix_id


async def test_stakes_shrink_as_names_begin_to_move_together(app: App, client: Client) -> None:
    """By dynamic conditional correlations, which follow the history and are named by the decision:
    two alike lines get 1 / (1 + rho) of what each gets alone."""
    universe, rng = new_id("together"), np.random.default_rng(5)
    own, common = rng.normal(0.0, 0.01, (160, 2)), rng.normal(0.0, 0.03, (160, 1))
    returns = own + np.where(np.arange(160)[:, None] < 120, 0.0, common)
    prices, names = 100.0 * np.exp(returns.cumsum(axis=0)), ["I0", "I1"]
    await put(client, part(universe, prices[:120].tolist(), instrument_ids=names))
    dynamic = pb.COVARIANCE_ESTIMATOR_DCC
    calm = (await estimate(client, universe, refresh=True, estimator=dynamic)).matrix_id
    portfolio_id = await book(client, {"covariance_universe": universe, "periods_per_year": 252.0})
    before = await sized(client, portfolio_id, 2, validate_only=True)
    await put(client, part(universe, prices[120:].tolist(), day=120, instrument_ids=names))
    await run_due(app)
    for _ in range(100):  # the server may know the latest one for a moment longer
        after = await sized(client, portfolio_id, 2, validate_only=True)
        if after.versions.covariance_matrix_id != calm:
            break
        await asyncio.sleep(0.1)
    correlations = []
    for decision in (before, after):
        values = await values_of(client, decision.versions.covariance_matrix_id)
        correlations.append(values[0, 1] / np.sqrt(values[0, 0] * values[1, 1]))
        share = 1.0 / (1.0 + max(correlations[-1], 0.0))
        assert stage(decision, "CORRELATION") == pytest.approx([ALONE * share] * 2, rel=1e-6)
    assert correlations[0] < 0.2
    assert correlations[1] > 0.5
    assert list(after.sizes.lots) < list(before.sizes.lots)
    asked = market_service_pb2.GetMatrixRequest(matrix_id=after.versions.covariance_matrix_id)
    assert (await client.market.GetMatrix(asked)).matrix.provenance.estimator == "DCC"


async def test_an_estimate_may_take_longer_than_a_session_may_be_idle(
    app: App, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    universe, _ = await stored_closes(client, 60)
    made = await estimate(client, universe, refresh=True)

    async def slow(*arguments: Any) -> pb.EstimateMatrixResponse:
        await asyncio.sleep(0.6)
        return await estimate_matrix(*arguments)

    monkeypatch.setattr(matrix_refresh, "estimate_matrix", slow)
    await more(client, universe, 60, 70)
    assert await run_due(app, PoolOptions(idle_in_transaction_timeout_s=0.2)) >= 1
    row = await refresh_of(client, universe)
    assert row is not None
    assert (row.failure, row.matrix_id == made.matrix_id) == ("", False)


async def test_what_fails_is_said_and_tried_with_the_next_part(app: App, client: Client) -> None:
    universe, _ = await stored_closes(client, 100)
    made = await estimate(client, universe, refresh=True)
    names, prices = closes()
    holed = prices[100:101].copy()
    holed[0, 0] = np.nan
    await put(client, part(universe, holed.tolist(), day=100, instrument_ids=names))
    await run_due(app)
    row = await refresh_of(client, universe)
    assert row is not None
    assert names[0] in row.failure, "the gap policy refuses, naming the first gap"
    assert row.matrix_id == made.matrix_id
    await more(client, universe, 100, 101)
    await run_due(app)
    row = await refresh_of(client, universe)
    assert row is not None
    assert not row.failure
    assert row.matrix_id != made.matrix_id


@pytest.mark.parametrize("name", ["as_of_time", "known_time", "matrix_id"])
async def test_what_is_fixed_cannot_follow(client: Client, name: str) -> None:
    request = pb.EstimateMatrixRequest(universe_id=new_id("fixed"), refresh=True)
    if name == "matrix_id":
        request.matrix_id = "mine"
    else:
        getattr(request, name).GetCurrentTime()
    found = await refusal(client.correlation.EstimateMatrix(request))
    assert found.fields == {name: "NOT_APPLICABLE"}
