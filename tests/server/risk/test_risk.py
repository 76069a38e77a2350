"""Risk reports, stress scenarios and backtests through the service."""

from datetime import timedelta
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from positionsizing.v1 import history_service_pb2 as history_pb
from positionsizing.v1 import limits_pb2, portfolio_service_pb2, types_pb2
from positionsizing.v1 import market_service_pb2 as market_pb
from positionsizing.v1 import risk_service_pb2 as pb
from sklearn.covariance import LedoitWolf

from tests.server.limits.test_limits_on_lots import METHODS, bets
from tests.server.risk.test_estimates import closes, estimate, stored_closes
from tests.server.risk.test_histories import START, part, put
from tests.server.support.service_client import Client, new_id, refusal

R35 = np.array([[0.04, 0.006, 0], [0.006, 0.09, 0.01], [0, 0.01, 0.0225]]) / 252


def weights(**given: float) -> pb.BookWeights:
    return pb.BookWeights(instrument_ids=list(given), weights=list(given.values()))


async def report(client: Client, **given: Any) -> pb.ReportRiskResponse:
    return await client.risk.ReportRisk(pb.ReportRiskRequest(**given))


def tails(book: pb.BookRisk) -> dict[str, pb.TailRisk]:
    return {pb.TailMethod.Name(t.method).removeprefix("TAIL_METHOD_"): t for t in book.tails}


async def losses_universe(client: Client, losses: np.ndarray, name: str = "A") -> str:
    universe = new_id("losses")
    rows = (-losses[:, None]).tolist()
    message = part(universe, rows, kind=history_pb.HISTORY_KIND_RETURNS, instrument_ids=[name])
    await put(client, message)
    return universe


async def test_a_book_of_real_closes_before_and_after(client: Client) -> None:
    universe, returns = await stored_closes(client)
    names = closes()[0]
    empty: dict[str, Any] = {"volatility": [], "average_daily_volume": [], "sector": []}
    market = {"instrument_ids": names, "price": closes()[1][-1], **empty}
    snapshot = await client.put_market(**market)
    held = {"AAPL": 1000.0, "XOM": 2000.0}
    portfolio_id = await client.put_portfolio(cash=1e6, held=held)
    answer = await report(
        client,
        portfolio_id=portfolio_id,
        market_snapshot_id=snapshot,
        universe_id=universe,
        proposed=weights(XOM=0.0, KO=0.3, PEP=0.3),
        level=0.975,
    )
    price = dict(zip(names, closes()[1][-1], strict=True))
    equity = 1e6 + 1000 * price["AAPL"] + 2000 * price["XOM"]
    assert answer.equity == pytest.approx(equity, rel=1e-12)
    assert list(answer.instrument_ids) == ["AAPL", "XOM", "KO", "PEP"]
    own = 1000 * price["AAPL"] / equity
    assert list(answer.after.weights) == pytest.approx([own, 0.0, 0.3, 0.3]), "AAPL stays"
    assert answer.period_count == 753

    covariance = LedoitWolf().fit(returns).covariance_
    for book in (answer.before, answer.after):
        w = np.zeros(20)
        w[[names.index(n) for n in answer.instrument_ids]] = np.array(book.weights)
        volatility = np.sqrt(w @ covariance @ w)
        assert book.volatility == pytest.approx(volatility, rel=1e-9)
        found = tails(book)
        assert found["NORMAL"].expected_shortfall == pytest.approx(2.3378027922 * volatility)
        assert sum(book.component_normal) == pytest.approx(found["NORMAL"].expected_shortfall)
        losses = np.sort(-(returns @ w))[::-1]
        room = 0.025 * 753  # 18.825: 18 losses whole, and a part of the next
        es = (losses[:18].sum() + (room - 18) * losses[18]) / room
        assert found["HISTORICAL"].expected_shortfall == pytest.approx(es, rel=1e-12)
        assert found["HISTORICAL"].value_at_risk == pytest.approx(losses[18], rel=1e-12)
        assert sum(book.component_historical) == pytest.approx(es, rel=1e-9)
        assert es <= book.entropic_value_at_risk <= losses[0]
        assert found["EXTREME_VALUE"].value_at_risk == pytest.approx(losses[18], rel=0.15)
        assert book.pareto.exceedances == 75
        assert 1.0 <= book.effective_bets_torsion <= 4.0
        assert book.diversification_ratio**2 == pytest.approx(book.effective_bets_variance)
        assert book.worst_case_loss == pytest.approx(3 * volatility, rel=1e-9)
        reverse = np.array(book.reverse_returns)
        assert -(reverse @ np.array(book.weights)) == pytest.approx(0.1, rel=1e-12)
    stayed = await report(
        client, portfolio_id=portfolio_id, market_snapshot_id=snapshot, universe_id=universe
    )
    assert not stayed.HasField("after")


async def test_ten_losses_r7_r27_r28(client: Client) -> None:
    """Losses 1 .. 10 in hundredths: the numbers of the tables through the call."""
    universe = await losses_universe(client, np.arange(1.0, 11.0) / 100)
    for level, var, es in ((0.75, 8, 9.2), (0.8, 8, 9.5), (0.85, 9, 29 / 3), (0.9, 9, 10)):
        answer = await report(client, universe_id=universe, proposed=weights(A=1.0), level=level)
        found = tails(answer.after)["HISTORICAL"]
        assert found.value_at_risk == pytest.approx(var / 100, rel=1e-12)
        assert found.expected_shortfall == pytest.approx(es / 100, rel=1e-12)
    level = {"universe_id": universe, "proposed": weights(A=1.0), "level": 0.75}
    answer = await report(client, **level)
    assert answer.after.entropic_value_at_risk == pytest.approx(0.095342812079, abs=5e-12)
    assert answer.after.spectral_risk == pytest.approx(0.098434823779, abs=5e-12)
    refused = tails(answer.after)
    assert "20 are needed" in refused["EXTREME_VALUE"].refused
    assert "50 are needed" in refused["FILTERED_HISTORICAL"].refused


async def test_reverse_stress_r35_by_a_stored_covariance(client: Client) -> None:
    rng = np.random.default_rng(0)
    universe = new_id("normal")
    rows = rng.multivariate_normal(np.zeros(3), R35, 60).tolist()
    kind = history_pb.HISTORY_KIND_RETURNS
    await put(client, part(universe, rows, kind=kind, instrument_ids=["A", "B", "C"]))
    matrix = market_pb.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_pb.MATRIX_KIND_COVARIANCE,
        instrument_ids=["C", "B", "A"],
        dense=market_pb.DenseMatrix(values=R35[::-1, ::-1].ravel()),
    )
    await client.market.PutMatrix(market_pb.PutMatrixRequest(matrix=matrix))
    answer = await report(
        client,
        universe_id=universe,
        proposed=weights(A=0.5, B=0.3, C=0.2),
        covariance_matrix_id=matrix.matrix_id,
        reverse_loss=0.05,
    )
    shocks = [-0.04954545, -0.07272727, -0.01704545]
    assert list(answer.after.reverse_returns) == pytest.approx(shocks, abs=5e-9)
    assert answer.after.reverse_distance == pytest.approx(5.35129551, abs=5e-9)
    assert answer.after.reverse_probability == pytest.approx(2.67e-6, abs=5e-9)


async def test_cornish_fisher_is_refused_outside_its_domain(client: Client) -> None:
    crash = np.concatenate([np.full(199, 0.001), [0.3]]) * np.where(np.arange(200) % 2, 1, -0.9)
    universe = await losses_universe(client, np.abs(crash) * np.sign(crash))
    answer = await report(client, universe_id=universe, proposed=weights(A=1.0))
    found = tails(answer.after)["CORNISH_FISHER"]
    assert "domain" in found.refused
    assert (found.value_at_risk, found.expected_shortfall) == (0.0, 0.0)
    assert answer.after.excess_kurtosis > 100


async def test_returns_that_are_all_alike_have_no_shape(client: Client) -> None:
    """Their mean is rounded, so that deviations of 1e-19 had a skewness of 1."""
    universe = await losses_universe(client, np.full(300, -0.001))
    book = (await report(client, universe_id=universe, proposed=weights(A=1.0))).after
    assert (book.skewness, book.excess_kurtosis) == (0.0, 0.0)
    found = tails(book)
    assert not found["CORNISH_FISHER"].refused
    assert found["CORNISH_FISHER"].value_at_risk == pytest.approx(0.0, abs=1e-15)
    assert found["HISTORICAL"].value_at_risk == -0.001


async def test_views_r29(client: Client) -> None:
    universe = await losses_universe(client, -np.array([-0.1, -0.05, 0.0, 0.05, 0.1]))
    mean = pb.RISK_VIEW_MEASURE_MEAN
    view = pb.RiskView(instrument_id="A", measure=mean, lower_bound=0.02, upper_bound=0.02)
    asked = {"universe_id": universe, "proposed": weights(A=1.0), "level": 0.75}
    answer = await report(client, **asked, views=[view])
    assert answer.effective_share == pytest.approx(0.9604500208, abs=5e-9)
    es = (0.1277542831 * 0.1 + (0.25 - 0.1277542831) * 0.05) / 0.25
    assert tails(answer.after)["HISTORICAL"].expected_shortfall == pytest.approx(es, abs=1e-9)
    plain = await report(client, **asked)
    assert plain.effective_share == pytest.approx(1.0)
    assert tails(plain.after)["HISTORICAL"].expected_shortfall > es
    view.lower_bound = view.upper_bound = 0.11
    refused = await refusal(report(client, **asked, views=[view]))
    assert refused.reason == "INFEASIBLE_VIEWS"
    assert "views[0]" in refused.message


async def test_views_weigh_every_measure_of_the_history(client: Client) -> None:
    """A view on a volatility moves volatility and what follows from it; one that holds, nothing."""
    rng = np.random.default_rng(6)
    returns = 0.01 * rng.standard_normal((200, 1)) + 0.01 * rng.standard_normal((200, 3))
    universe = new_id("viewed")
    names = ["A", "B", "C"]
    kind = history_pb.HISTORY_KIND_RETURNS
    await put(client, part(universe, returns.tolist(), kind=kind, instrument_ids=names))
    w = np.array([0.5, -0.2, 0.4])
    asked = {"universe_id": universe, "proposed": weights(A=0.5, B=-0.2, C=0.4)}
    volatility = pb.RISK_VIEW_MEASURE_VOLATILITY
    plain = await report(client, **asked)
    view = pb.RiskView(instrument_id="A", measure=volatility, lower_bound=0.001, upper_bound=1.0)
    assert (await report(client, **asked, views=[view])).after.volatility == pytest.approx(
        plain.after.volatility, rel=1e-6
    )
    view.lower_bound = view.upper_bound = 0.025
    book = (await report(client, **asked, views=[view])).after

    q = cp.Variable(200)
    square = 1e4 * returns[:, 0] ** 2
    nearest = cp.Minimize(cp.sum(cp.kl_div(q, np.full(200, 1 / 200))))
    held = [cp.sum(q) == 1, square @ q == 1e4 * 0.025**2]
    cp.Problem(nearest, held).solve(cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12)
    p = np.asarray(q.value)
    x = returns - p @ returns
    sample = (x.T * p) @ x
    mu = np.trace(sample) / 3
    error = sum(p[t] ** 2 * ((np.outer(x[t], x[t]) - sample) ** 2).sum() for t in range(200))
    amount = error / ((sample - mu * np.eye(3)) ** 2).sum()
    assert 0.0 < amount < 1.0
    covariance = (1 - amount) * sample + amount * mu * np.eye(3)
    expected = np.sqrt(w @ covariance @ w)
    assert expected > 1.2 * plain.after.volatility
    assert book.volatility == pytest.approx(expected, rel=1e-6)
    found = tails(book)
    assert found["NORMAL"].value_at_risk == pytest.approx(2.3263478740 * expected, rel=1e-6)
    assert sum(book.component_normal) == pytest.approx(found["NORMAL"].expected_shortfall)
    assert book.worst_case_loss == pytest.approx(3 * expected, rel=1e-6)


async def test_stress_scenarios_are_stored_and_applied(client: Client) -> None:
    universe, returns = await stored_closes(client)
    names = closes()[0]
    oil, spread, march = new_id("oil"), new_id("spread"), new_id("march")
    window = pb.WindowEvent(universe_id=universe)
    window.start_time.FromDatetime(START + timedelta(days=40))
    window.end_time.FromDatetime(START + timedelta(days=55))
    for scenario in (
        pb.StressScenario(
            scenario_id=oil, shock=pb.ShockEvent(instrument_ids=["XOM"], returns=[-0.3])
        ),
        pb.StressScenario(
            scenario_id=spread,
            shock=pb.ShockEvent(instrument_ids=["XOM"], returns=[-0.3], spread_by_covariance=True),
        ),
        pb.StressScenario(scenario_id=march, window=window),
    ):
        request = pb.PutStressScenarioRequest(scenario=scenario)
        first = await client.risk.PutStressScenario(request)
        assert first.version == 1
        assert (await client.risk.PutStressScenario(request)) == first
    book = weights(XOM=0.4, CVX=0.4)
    answer = await report(
        client, universe_id=universe, proposed=book, scenario_ids=[oil, spread, march]
    )
    found = {row.scenario_id: row for row in answer.stress_losses}
    assert found[oil].loss_after == pytest.approx(0.12, rel=1e-12)
    covariance = LedoitWolf().fit(returns).covariance_
    x, c = names.index("XOM"), names.index("CVX")
    other = -0.3 * covariance[c, x] / covariance[x, x]
    assert found[spread].loss_after == pytest.approx(0.4 * (0.3 - other), rel=1e-8)
    whole = np.prod(1 + returns[40:55][:, [x, c]], axis=0) - 1
    assert found[march].loss_after == pytest.approx(-0.4 * whole.sum(), rel=1e-9)
    assert found[march].loss_after > 0.1, "March 2020"

    newer = pb.StressScenario(
        scenario_id=oil, shock=pb.ShockEvent(instrument_ids=["XOM"], returns=[-0.5])
    )
    stored = await client.risk.PutStressScenario(pb.PutStressScenarioRequest(scenario=newer))
    assert stored.version == 2
    answer = await report(client, universe_id=universe, proposed=book, scenario_ids=[oil])
    assert answer.stress_losses[0].loss_after == pytest.approx(0.2)
    newer.retired = True
    await client.risk.PutStressScenario(pb.PutStressScenarioRequest(scenario=newer))
    listed = await client.risk.ListStressScenarios(pb.ListStressScenariosRequest(page_size=1000))
    ids = [item.scenario_id for item in listed.scenarios]
    assert oil not in ids
    assert march in ids
    asked = report(client, universe_id=universe, proposed=book, scenario_ids=[oil])
    assert (await refusal(asked)).fields == {"scenario_ids[0]": "NOT_FOUND"}
    away = await losses_universe(client, np.arange(1, 61) / 1000, "ELSEWHERE")
    answer = await report(client, universe_id=away, proposed=weights(ELSEWHERE=1.0))
    refused = {row.scenario_id: row.refused for row in answer.stress_losses}
    assert "ELSEWHERE" in refused[march], "said, not zero"


@pytest.mark.parametrize("method", METHODS, ids=["closed form", "joint"])
async def test_sizes_lose_no_more_in_a_stored_scenario_than_a_limit_says(
    joint_client: Client, method: types_pb2.SizingMethod.ValueType
) -> None:
    """The returns that a report tells of a scenario, with their sign turned, as a linear limit."""
    client, names = joint_client, ["XOM", "CVX", "KO", "PEP"]
    universe, _ = await stored_closes(client)
    everything, prices = closes()
    empty: dict[str, Any] = {"volatility": [], "average_daily_volume": [], "sector": []}
    snapshot = await client.put_market(instrument_ids=everything, price=prices[-1], **empty)
    oil = new_id("oil")
    shock = pb.ShockEvent(instrument_ids=["XOM"], returns=[-0.3], spread_by_covariance=True)
    scenario = pb.StressScenario(scenario_id=oil, shock=shock)
    await client.risk.PutStressScenario(pb.PutStressScenarioRequest(scenario=scenario))
    asked = {"universe_id": universe, "scenario_ids": [oil]}
    told = await report(client, **asked, proposed=weights(**dict.fromkeys(names, 0.25)))
    returns = list(told.stress_losses[0].returns)
    assert list(told.instrument_ids) == names
    row = limits_pb2.LinearLimit(
        name="oil", instrument_ids=names, coefficients=[-r for r in returns], upper=0.02
    )
    portfolio_id = await client.put_portfolio(1e6)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    matrix = await estimate(client, universe, instrument_ids=names)
    long = [types_pb2.SIDE_LONG] * 4
    losses, given = [], {"portfolio_id": portfolio_id, "market_snapshot_id": snapshot}
    if method == types_pb2.SIZING_METHOD_JOINT:
        given["covariance_matrix_id"] = matrix.matrix_id
    for rows in ([], [row]):
        joint = limits_pb2.JointLimits(linear=rows)
        await client.set_limits(scope, weight_max=0.5, leverage_max=1.0, joint=joint)
        request = bets(
            names, [0.7, 0.6, 0.6, 0.6], long, **given, method=method, validate_only=True
        )
        sizes = (await client.size(request)).sizes
        book = weights(**dict(zip(names, sizes.weight, strict=True)))
        after = await report(client, **asked, proposed=book)
        losses.append(after.stress_losses[0].loss_after)
    assert losses[0] > 0.025
    assert 0.98 * 0.02 < losses[1] <= 0.02 * (1 + 1e-9)
    assert types_pb2.LIMIT_KIND_LINEAR in list(sizes.binding)
    assert "oil" in list(sizes.group_names)


async def test_recorded_forecasts_r30_to_r34(client: Client) -> None:
    losses = np.zeros(250)
    losses[[10, 50, 51, 52, 120, 200]] = 3.0
    recorded = pb.RecordedForecasts(losses=losses, value_at_risk=np.full(250, 2.0))
    request = pb.BacktestRiskRequest(recorded=recorded)
    answer = await client.risk.BacktestRisk(request)
    assert answer.coverage.statistic == pytest.approx(3.5553547711, abs=5e-10)
    assert answer.independence.statistic == pytest.approx(8.1364685744, abs=5e-10)
    assert answer.conditional_coverage.p_value == pytest.approx(0.0028917, abs=5e-8)
    assert (answer.zone, answer.exceedance_count) == ("YELLOW", 6)
    assert not answer.HasField("e_value")
    recorded = pb.RecordedForecasts(
        losses=[0.5, 2.2, 3.0],
        value_at_risk=[1.959963984540054] * 3,
        expected_shortfall=[2.3378027922014] * 3,
    )
    answer = await client.risk.BacktestRisk(pb.BacktestRiskRequest(recorded=recorded, level=0.975))
    assert answer.e_value == pytest.approx(2.57547469, abs=5e-8)
    assert list(answer.exceedances) == [1, 2]
    recorded.expected_shortfall[1] = 1.0
    refused = await refusal(client.risk.BacktestRisk(pb.BacktestRiskRequest(recorded=recorded)))
    assert refused.fields == {"recorded.expected_shortfall[1]": "OUT_OF_RANGE"}


async def test_forecasts_made_again_see_nothing_of_the_future(client: Client) -> None:
    rng = np.random.default_rng(0)
    calm = rng.normal(size=400) * 0.01
    crash = calm.copy()
    crash[300:] = 0.2 + 0.001 * np.arange(100)
    asked = {"book": weights(A=1.0), "method": pb.TAIL_METHOD_HISTORICAL, "window": 100}
    hits = []
    for losses in (calm, crash):
        universe = await losses_universe(client, losses)
        rolling = pb.RollingForecasts(**asked, universe_id=universe)
        request = pb.BacktestRiskRequest(rolling=rolling, level=0.95)
        answer = await client.risk.BacktestRisk(request)
        assert answer.period_count == 300
        hits.append([p for p in answer.exceedances if p < 200])
    assert hits[0] == hits[1], "before the crash, both are the same"
    assert answer.zone == "RED", "of the crash"


async def test_rolling_forecasts_of_real_closes(client: Client) -> None:
    universe, _ = await stored_closes(client)
    book = weights(AAPL=0.25, XOM=0.25, JPM=0.25, KO=0.25)
    for method in list(pb.TailMethod.values())[1:]:
        rolling = pb.RollingForecasts(book=book, universe_id=universe, method=method, window=250)
        request = pb.BacktestRiskRequest(rolling=rolling, level=0.975)
        answer = await client.risk.BacktestRisk(request)
        assert answer.period_count + answer.refused_count == 503
        assert 0.3 < answer.exceedance_count / max(answer.exceedances_expected, 1) < 2.5
        assert answer.HasField("shortfall_z2")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"level": 1.0}, "level"),
        (
            {"proposed": pb.BookWeights(instrument_ids=["A"], weights=[np.nan])},
            "proposed.weights[0]",
        ),
        ({"proposed": None}, "proposed"),
        ({"gap_policy": history_pb.GAP_POLICY_PAIRWISE}, "gap_policy"),
        ({"reverse_loss": 0.0}, "reverse_loss"),
        ({"views": [pb.RiskView(instrument_id="A")]}, "views[0].measure"),
    ],
)
async def test_what_is_wrong_is_named(client: Client, given: dict[str, Any], field: str) -> None:
    asked = {"universe_id": "somewhere", "proposed": weights(A=1.0), **given}
    refused = await refusal(report(client, **asked))
    assert field in refused.fields


async def test_a_book_without_history_is_refused(client: Client) -> None:
    universe = await losses_universe(client, np.arange(1, 61) / 1000)
    refused = await refusal(report(client, universe_id=universe, proposed=weights(A=1.0, Z=0.1)))
    assert refused.reason == "MISSING_HISTORY"
    assert "'Z'" in refused.message
    flat = await report(client, universe_id=universe, proposed=weights(A=0.0))
    assert flat.after.volatility == 0.0
    assert not flat.after.HasField("diversification_ratio")
    assert not flat.after.reverse_returns
