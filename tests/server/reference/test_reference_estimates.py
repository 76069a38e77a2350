"""Reference numbers of estimates from histories, asked of a running service."""

from datetime import UTC, datetime

import numpy as np
import pytest
from positionsizing.v1 import analytics_service_pb2, market_service_pb2, portfolio_service_pb2
from positionsizing.v1 import correlation_service_pb2 as pb

from tests.server.reference.test_reference_risk import returns_universe
from tests.server.risk.test_estimates import estimate, numbers, values_of
from tests.server.support.service_client import Client, new_id, refusal, sizing_request

CORRELATION = market_service_pb2.MATRIX_KIND_CORRELATION


@pytest.mark.parametrize(
    ("n", "count", "variance", "low", "high"),
    [
        (406, 1309, None, 0.196319, 2.424001),
        (406, 1309, 0.74, 0.145276, 1.793761),
        (100, 1000, None, 0.467544, 1.732456),
        (50, 252, None, 0.307542, 2.089284),
    ],
)
async def test_edges_of_noise_r13(
    client: Client, n: int, count: int, variance: float | None, low: float, high: float
) -> None:
    """Of independent returns nothing is above the edge; a market in them is, and is kept."""
    rng = np.random.default_rng(n)
    noise = 0.01 * rng.standard_normal((count, n))
    universe = await returns_universe(client, noise + 0.01 * rng.standard_normal((count, 1)))
    made = await estimate(
        client,
        universe,
        estimator=pb.COVARIANCE_ESTIMATOR_DENOISED,
        kind=CORRELATION,
        settings=pb.EstimatorSettings(noise_variance=variance),
    )
    found = numbers(made.provenance)
    assert (found["noise_low"], found["noise_high"]) == pytest.approx((low, high), abs=6e-7)
    assert found["factor_count"] == 1
    values = np.linalg.eigvalsh(await values_of(client, made.matrix_id))
    assert (values > high).sum() == 1


def weighted(returns: np.ndarray, decay: float) -> np.ndarray:
    """Returns over the deviations that were forecast before each, (T, n)."""
    centred = returns - returns.mean(axis=0)
    variance = (centred**2).mean(axis=0)
    out = []
    for row in centred:
        out.append(row / np.sqrt(variance))
        variance = decay * variance + (1 - decay) * row**2
    return np.array(out)


async def test_dynamic_correlations_are_the_recursion_r16(client: Client) -> None:
    """With the a and b that were fitted, period by period, written as Engle (2002) does.

    The table's two steps are in test_reference_properties.py.
    """
    rng = np.random.default_rng(16)
    common = rng.standard_normal((300, 1)) * np.where(np.arange(300) < 150, 0.2, 2.0)[:, None]
    returns = 0.01 * (common + rng.standard_normal((300, 3)))
    universe = await returns_universe(client, returns)
    made = await estimate(client, universe, estimator=pb.COVARIANCE_ESTIMATOR_DCC, kind=CORRELATION)
    a, b = (numbers(made.provenance)[name] for name in ("shock", "persistence"))
    assert 0.0 < a < a + b < 1.0
    shocks = weighted(returns, 0.97)
    mean = shocks.T @ shocks / len(shocks)
    mean = mean / np.sqrt(np.outer(np.diag(mean), np.diag(mean)))
    state = mean.copy()
    for e in shocks:
        state = (1 - a - b) * mean + a * np.outer(e, e) + b * state
    expected = state / np.sqrt(np.outer(np.diag(state), np.diag(state)))
    found = await values_of(client, made.matrix_id)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    plain = np.corrcoef(returns.T)
    assert found[0, 1] > plain[0, 1] + 0.02, "of late they move together more"


async def test_the_dynamics_of_r16_on_a_history_of_ones_own(client: Client) -> None:
    """a = 0.05 and b = 0.9 as given, nothing fitted: each step as in the table, from the mean."""
    returns = 0.01 * np.random.default_rng(17).standard_normal((40, 2)) @ [[1.0, 0.5], [0.0, 0.8]]
    universe = await returns_universe(client, returns)
    asked = {"estimator": pb.COVARIANCE_ESTIMATOR_DCC, "kind": CORRELATION}
    given = pb.EstimatorSettings(dcc_shock=0.05, dcc_persistence=0.9)
    made = await estimate(client, universe, **asked, settings=given)
    assert numbers(made.provenance) == {"shock": 0.05, "persistence": 0.9}
    shocks = weighted(returns, 0.97)
    (s11, s12), (_, s22) = (shocks.T @ shocks / len(shocks)).tolist()
    mean = s12 / np.sqrt(s11 * s22)
    q11, q22, q12 = 1.0, 1.0, mean
    for x, y in shocks.tolist():
        q11 = 0.05 + 0.05 * x * x + 0.9 * q11
        q22 = 0.05 + 0.05 * y * y + 0.9 * q22
        q12 = 0.05 * mean + 0.05 * x * y + 0.9 * q12
    found = await values_of(client, made.matrix_id)
    assert found[0, 1] == pytest.approx(q12 / np.sqrt(q11 * q22), abs=1e-12)
    for settings, fields in (
        (pb.EstimatorSettings(dcc_shock=0.05), {"settings.dcc_persistence": "MISSING"}),
        (
            pb.EstimatorSettings(dcc_shock=0.2, dcc_persistence=0.9),
            {"settings.dcc_persistence": "OUT_OF_RANGE"},
        ),
    ):
        refused = await refusal(estimate(client, universe, **asked, settings=settings))
        assert refused.fields == fields


async def four_prices(client: Client, *prices: float) -> str:
    snapshot = market_service_pb2.MarketSnapshot(
        snapshot_id=new_id("snapshot"), instrument_ids=list("PQRS"), price=prices
    )
    snapshot.as_of_time.FromDatetime(datetime.now(UTC))
    await client.market.PutMarketSnapshot(
        market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=True)
    )
    return snapshot.snapshot_id


async def test_scores_of_four_forecasts_r25(client: Client) -> None:
    """Claims of 0.1, 0.4, 0.8 and 0.9 with odds to match; the second and the third came true."""
    portfolio_id = await client.put_portfolio(1e6)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, leverage_max=1.0)
    before = await four_prices(client, 10.0, 10.0, 10.0, 10.0)
    lines = {"win_probability": [0.1, 0.4, 0.8, 0.9], "payoff": [20.0, 3.0, 1.0, 1.0]}
    await client.size(sizing_request(portfolio_id, list("PQRS"), lines, market_snapshot_id=before))
    after = await four_prices(client, 9.0, 11.0, 12.0, 8.0)
    answer = await client.analytics.AnalyzeDecisions(
        analytics_service_pb2.AnalyzeDecisionsRequest(
            portfolio_id=portfolio_id, end_market_snapshot_id=after
        )
    )
    assert answer.bet_forecast.bets == 4
    assert answer.bet_forecast.brier == pytest.approx(0.305, rel=1e-12)
    assert answer.bet_forecast.log_loss == pytest.approx(0.88684497, abs=6e-9)
