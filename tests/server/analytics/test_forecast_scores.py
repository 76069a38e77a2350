"""Forecast returns held against what came, worked out beside the service from what it was told."""

from datetime import UTC, datetime

import numpy as np
import pytest
from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import market_service_pb2, portfolio_service_pb2
from scipy import integrate, stats

from tests.server.support.service_client import Client, new_id, sizing_request

NAMES = ["SCORED_X", "SCORED_Y"]
PRICES = [[100.0, 50.0], [103.0, 49.0], [101.0, 50.5]]
MEAN, VOLATILITY = [0.01, 0.004], [0.02, 0.03]


async def put_market(client: Client, prices: list[float]) -> str:
    snapshot = market_service_pb2.MarketSnapshot(
        snapshot_id=new_id("snapshot"), instrument_ids=NAMES, price=prices
    )
    snapshot.as_of_time.FromDatetime(datetime.now(UTC))
    await client.market.PutMarketSnapshot(
        market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=True)
    )
    return snapshot.snapshot_id


async def analysed(
    client: Client, signals: dict[str, object], **given: object
) -> tuple[pb.AnalyzeDecisionsResponse, np.ndarray]:
    """A portfolio sized on two snapshots and valued on three; and returns on the lines' sides."""
    portfolio_id = await client.put_portfolio(1e6)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.2, leverage_max=1.0)
    blank = {"win_probability": [], "payoff": []}
    for prices in PRICES[:2]:
        snapshot_id = await put_market(client, prices)
        request = sizing_request(
            portfolio_id, NAMES, {**blank, **signals}, market_snapshot_id=snapshot_id, **given
        )
        await client.size(request)
    end = await put_market(client, PRICES[2])
    answer = await client.analytics.AnalyzeDecisions(
        pb.AnalyzeDecisionsRequest(portfolio_id=portfolio_id, end_market_snapshot_id=end)
    )
    prices = np.array(PRICES)
    return answer, prices[1:] / prices[:-1] - 1.0


async def test_expected_returns_are_scored_by_their_distribution(client: Client) -> None:
    answer, moved = await analysed(
        client, {"side": [1, 2], "expected_return": MEAN, "volatility": VOLATILITY}
    )
    y = (moved * [1.0, -1.0]).ravel()
    laws = [stats.norm(m, s) for m, s in zip(MEAN, VOLATILITY, strict=True)] * 2
    found = answer.return_forecast
    assert (found.lines, found.ensembles) == (4, 0)
    # The definition, integrated.
    crps = [
        integrate.quad(lambda x, law=law: law.cdf(x) ** 2, -1.0, v, epsabs=1e-13)[0]
        + integrate.quad(lambda x, law=law: law.sf(x) ** 2, v, 1.0, epsabs=1e-13)[0]
        for law, v in zip(laws, y, strict=True)
    ]
    assert found.crps == pytest.approx(np.mean(crps), rel=1e-9)
    assert found.crps_fair == found.crps
    centred = [
        integrate.quad(lambda x, s=s: stats.norm.cdf(x, 0, s) ** 2, -1.0, v, epsabs=1e-13)[0]
        + integrate.quad(lambda x, s=s: stats.norm.sf(x, 0, s) ** 2, v, 1.0, epsabs=1e-13)[0]
        for s, v in zip(VOLATILITY * 2, y, strict=True)
    ]
    assert found.crps_no_edge == pytest.approx(np.mean(centred), rel=1e-9)
    assert found.edge_gain.mean == pytest.approx(np.mean(centred) - np.mean(crps), rel=1e-7)
    assert found.edge_gain.observations == 2
    assert not found.edge_gain.HasField("low")
    log_score = -np.mean([law.logpdf(v) for law, v in zip(laws, y, strict=True)])
    assert found.log_score == pytest.approx(log_score, rel=1e-12)
    ends = np.array([law.interval(0.9) for law in laws])
    missed = np.maximum(ends[:, 0] - y, 0.0) + np.maximum(y - ends[:, 1], 0.0)
    score = np.mean(ends[:, 1] - ends[:, 0] + 20.0 * missed)
    assert found.interval_probability == 0.9
    assert found.interval_score == pytest.approx(score, rel=1e-12)
    assert found.interval_coverage == np.mean(missed == 0.0)
    for item in found.quantiles:
        q = np.array([law.ppf(item.level) for law in laws])
        loss = np.maximum(item.level * (y - q), (item.level - 1.0) * (y - q))
        assert item.pinball == pytest.approx(loss.mean(), rel=1e-12)
        assert item.below == np.mean(y < q)
    pit = np.array([law.cdf(v) for law, v in zip(laws, y, strict=True)])
    assert list(found.pit_bins) == np.histogram(pit, bins=10, range=(0.0, 1.0))[0].tolist()
    uniform = stats.kstest(pit, "uniform")
    assert found.pit_distance == pytest.approx(uniform.statistic, rel=1e-12)
    assert found.pit_probability == pytest.approx(uniform.pvalue, rel=1e-9)


def double_sum(members: np.ndarray, p: np.ndarray, y: float) -> tuple[float, float]:
    """CRPS of an ensemble, plain and fair, as E|X - y| - E|X - X'| / 2."""
    near = float(p @ np.abs(members - y))
    apart = float(p @ np.abs(members[:, None] - members[None]) @ p)
    return near - 0.5 * apart, near - 0.5 * apart / (1.0 - float(p @ p))


async def test_scenarios_are_scored_as_the_ensemble_that_they_are(client: Client) -> None:
    generator = np.random.default_rng(4)
    values, p = generator.normal(0.002, 0.02, (30, 2)), generator.dirichlet(np.ones(30))
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("scenarios"),
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        instrument_ids=NAMES,
        dense=market_service_pb2.DenseMatrix(values=values.ravel()),
        scenario_probability=p,
    )
    matrix.as_of_time.FromDatetime(datetime.now(UTC))
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    answer, moved = await analysed(client, {"side": [1, 2]}, scenario_matrix_id=matrix.matrix_id)
    side = np.array([1.0, -1.0])
    expected = [
        double_sum(side[i] * values[:, i], p, side[i] * day[i]) for day in moved for i in range(2)
    ]
    found = answer.return_forecast
    assert (found.lines, found.ensembles) == (4, 4)
    assert found.crps == pytest.approx(np.mean([plain for plain, _ in expected]), rel=1e-9)
    assert found.crps_fair == pytest.approx(np.mean([fair for _, fair in expected]), rel=1e-9)
    assert not found.HasField("log_score")
    assert sum(found.pit_bins) == 4


async def test_past_outcomes_are_an_ensemble_and_bets_have_no_forecast(client: Client) -> None:
    history = [[0.02, -0.01, 0.03, 0.01, -0.02], [0.01, 0.02, -0.03]]
    answer, moved = await analysed(
        client,
        {"history_outcome": history[0] + history[1], "history_length": [5, 3]},
    )
    expected = [
        double_sum(np.array(h), np.full(len(h), 1.0 / len(h)), v)[1]
        for day in moved
        for h, v in zip(history, day, strict=True)
    ]
    assert answer.return_forecast.ensembles == 4
    assert answer.return_forecast.crps_fair == pytest.approx(np.mean(expected), rel=1e-12)
    bets, _ = await analysed(client, {"win_probability": [0.6, 0.52], "payoff": [1.0, 1.0]})
    assert bets.bet_forecast.bets == 4
    assert not bets.HasField("return_forecast")
