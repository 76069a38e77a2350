"""Limits on stress scenarios in books at rest, problems, backtests, and several books at once."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from positionsizing.v1 import (
    correlation_service_pb2,
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)
from positionsizing.v1 import optimization_service_pb2 as optimization_pb2
from positionsizing.v1 import risk_service_pb2 as risk_pb2
from positionsizing.v1 import simulation_service_pb2 as simulation_pb2

from tests.server.limits.test_breach_events import app_dsn, breach_events, hold
from tests.server.limits.test_cluster_breaches import breaches, put_correlation, set_universe
from tests.server.limits.test_limits_on_lots import bets
from tests.server.limits.test_stress_limits import (
    STRESS,
    limits_on,
    put_scenario,
    put_shock,
    put_window,
    scope_of,
)
from tests.server.risk.test_histories import START
from tests.server.simulation.test_backtests import LONG_S, table
from tests.server.support.service_client import INSTRUMENTS, Client, new_id, refusal

__all__ = ["app_dsn"]

N = len(INSTRUMENTS)
LONG = types_pb2.SIDE_LONG
HELD = {"I1": 7_500.0, "I2": 1_000.0}
"""150,000 and 50,000 of a million."""


async def resting(client: Client, joint: limits_pb2.JointLimits, universe: str = "") -> str:
    """A portfolio that holds `HELD`, under limits that came last."""
    portfolio_id = await client.ready(weight_max=0.5)
    if universe:
        await set_universe(client, universe, portfolio_id=portfolio_id)
    await hold(client, portfolio_id, 800_000.0, HELD)
    await client.set_limits(scope_of(portfolio_id), weight_max=0.5, joint=joint)
    return portfolio_id


async def test_a_book_beyond_a_scenario_is_told_and_listed(client: Client, app_dsn: str) -> None:
    crash = await put_shock(client, {"I1": -0.5, "I2": 0.1})
    calm = await put_shock(client, {"I1": -0.1})
    portfolio_id = await resting(client, limits_on((crash, 0.05), (calm, 0.05)))
    (told,) = await breach_events(app_dsn, portfolio_id)
    assert (told.kind, told.limit, told.bound, told.found_by) == (STRESS, crash, 0.05, "limits")
    assert told.value == pytest.approx(0.5 * 0.15 - 0.1 * 0.05, rel=1e-12)
    (listed,) = (await breaches(client, portfolio_id)).breaches
    assert (listed.kind, listed.limit, listed.bound, listed.value) == (
        STRESS,
        crash,
        0.05,
        told.value,
    )
    assert listed.HasField("begin_time")
    # A decision that may trade nothing of it says the same of the book it leaves.
    request = bets(["I3"], [0.7], [LONG], portfolio_id=portfolio_id)
    request.limits.turnover_max = 0.0
    decision = await client.size(request)
    (left,) = decision.limits_exceeded
    assert (left.kind, left.name, left.bound) == (STRESS, crash, 0.05)
    assert left.value == pytest.approx(told.value, rel=1e-9)
    # Retired, nobody can say what it would lose: what was found stays found, until it is kept.
    newer = risk_pb2.StressScenario(
        scenario_id=crash, retired=True, shock={"instrument_ids": ["I1"], "returns": [-0.5]}
    )
    await client.risk.PutStressScenario(risk_pb2.PutStressScenarioRequest(scenario=newer))
    answer = await breaches(client, portfolio_id)
    assert not answer.breaches
    (why,) = answer.not_checked
    assert f"joint.stress ({crash})" in why
    await hold(client, portfolio_id, 800_000.0, HELD)
    newer.retired = False
    await client.risk.PutStressScenario(risk_pb2.PutStressScenarioRequest(scenario=newer))
    (again,) = (await breaches(client, portfolio_id)).breaches
    assert again.begin_time == listed.begin_time
    await hold(client, portfolio_id, 950_000.0, {"I2": 1_000.0})
    assert not (await breaches(client, portfolio_id)).breaches
    assert len(await breach_events(app_dsn, portfolio_id)) == 1


async def test_open_trades_count_at_their_worst(client: Client) -> None:
    crash = await put_shock(client, {"I1": -0.5, "I3": -0.5})
    portfolio_id = await client.ready(weight_max=0.5)
    await hold(client, portfolio_id, 900_000.0, {"I1": 5_000.0})
    await client.size(bets(["I3"], [0.7], [LONG], portfolio_id=portfolio_id))
    await client.set_limits(scope_of(portfolio_id), joint=limits_on((crash, 0.1)))
    (listed,) = (await breaches(client, portfolio_id)).breaches
    assert listed.value == pytest.approx(0.5 * 0.1 + 0.5 * 0.2, abs=1e-3)
    assert not listed.only_reserved


@pytest.mark.parametrize("kind", ["CORRELATION", "COVARIANCE"])
async def test_shocks_of_a_resting_book_spread_by_its_universe(client: Client, kind: str) -> None:
    correlation = np.eye(N)
    correlation[0, 1] = correlation[1, 0] = 0.8
    values = correlation if kind == "CORRELATION" else 4e-4 * correlation
    spread = await put_shock(client, {"I0": -0.5}, spreads=True)
    portfolio_id = await resting(client, limits_on((spread, 0.05)))
    (why,) = (await breaches(client, portfolio_id)).not_checked
    assert "covariance_universe" in why
    universe = new_id("universe")
    await put_correlation(client, universe, values, kind)
    await set_universe(client, universe, portfolio_id=portfolio_id)
    answer = await breaches(client, portfolio_id)
    assert not answer.not_checked
    (listed,) = answer.breaches
    assert listed.value == pytest.approx(0.8 * 0.5 * 0.15, rel=1e-9)


async def test_windows_that_miss_a_holding_are_not_checked(client: Client) -> None:
    days = np.full((3, N), -0.2)
    whole = await put_window(client, days)
    days[1, 1] = np.nan
    gap = await put_window(client, days)
    window = {
        "universe_id": new_id("none"),
        "start_time": START,
        "end_time": START + timedelta(days=1),
    }
    nothing = await put_scenario(client, window=window)
    portfolio_id = await resting(client, limits_on((whole, 0.05), (gap, 0.05), (nothing, 0.05)))
    answer = await breaches(client, portfolio_id)
    (listed,) = answer.breaches
    assert (listed.limit, listed.value) == (whole, pytest.approx((1 - 0.8**3) * 0.2, rel=1e-9))
    assert sorted(why for why in answer.not_checked if gap in why or nothing in why)
    assert len(answer.not_checked) == 2
    # Whatever can't be looked at doesn't keep anybody from booking what has happened.
    await hold(client, portfolio_id, 950_000.0, {"I2": 1_000.0})


async def test_linear_limits_of_a_resting_book_are_listed(client: Client) -> None:
    def row(name: str, **bounds: float) -> limits_pb2.LinearLimit:
        names = ["I1", "I2", "I7"]
        return limits_pb2.LinearLimit(
            name=name, instrument_ids=names, coefficients=[1.0, -2.0, 5.0], **bounds
        )

    rows = [row("most", upper=0.02), row("least", lower=0.1), row("kept", lower=0.0, upper=0.1)]
    rows.append(row("soft", upper=0.01, soft_price=1e-3))
    portfolio_id = await resting(client, limits_pb2.JointLimits(linear=rows))
    found = (await breaches(client, portfolio_id)).breaches
    assert [(b.kind, b.limit, b.bound) for b in found] == [
        (types_pb2.LIMIT_KIND_LINEAR, "most", 0.02),
        (types_pb2.LIMIT_KIND_LINEAR, "least", 0.1),
    ]
    assert [b.value for b in found] == pytest.approx([0.05, 0.05], rel=1e-12)


async def test_several_portfolios_keep_their_own_scenarios(client: Client) -> None:
    """They share what the group may hold, and each loses no more than it may."""
    crash = await put_shock(client, {"I1": -0.5})
    group, requests = new_id("group"), []
    await client.put_market()
    for most in (0.05, 0.02):
        portfolio_id = await client.put_portfolio(1e6, group_id=group)
        await client.set_limits(
            scope_of(portfolio_id), weight_max=0.4, joint=limits_on((crash, most))
        )
        requests.append(bets(["I1", "I3"], [0.7, 0.7], [LONG] * 2, portfolio_id=portfolio_id))
        requests[-1].request_id = ""
    shared = portfolio_service_pb2.SharedLimits(gross_notional_max=3e5)
    await client.set_limits(portfolio_service_pb2.Scope(group_id=group), shared=shared)
    together = sizing_service_pb2.SizePortfoliosRequest(request_id=str(uuid4()), requests=requests)
    decisions = (await client.sizing.SizePortfolios(together)).decisions
    weights = np.array([list(d.sizes.weight) for d in decisions])
    assert (0.5 * weights[:, 0] <= [0.05, 0.02]).all()
    assert weights[1, 0] == pytest.approx(0.04, abs=1e-4)
    assert 0.2 < weights.sum() <= 0.3 + 1e-9


def problem(**given: Any) -> optimization_pb2.OptimizationProblem:
    """Two instruments, the first of twice the return, up to all of equity."""
    return optimization_pb2.OptimizationProblem(
        instrument_ids=["A", "B"],
        mean=[0.02, 0.01],
        objective={"kind": optimization_pb2.OBJECTIVE_KIND_MAX_RETURN},
        **given,
    )


async def test_optima_lose_no_more_in_a_scenario(joint_client: Client) -> None:
    """A is bought until 0.4 A = 0.1; the price of that limit is (0.02 - 0.01) / 0.4."""
    client = joint_client
    crash = await put_shock(client, {"A": -0.4})
    asked = optimization_pb2.OptimizePortfolioRequest(
        problem=problem(limits=limits_on((crash, 0.1)))
    )
    answer = await client.optimization.OptimizePortfolio(asked)
    assert answer.status == optimization_pb2.OPTIMIZATION_STATUS_OPTIMAL
    assert list(answer.weights) == pytest.approx([0.25, 0.75], abs=1e-6)
    (price,) = (p for p in answer.certificate.shadow_prices if p.kind == STRESS)
    assert (price.limit, price.bound) == (f"{crash} max", 0.1)
    assert (price.price_low, price.price_high) == pytest.approx((0.025, 0.025), rel=1e-6)
    # A linear limit of the caller's own by that name is another limit.
    asked.problem.limits.linear.add(name=crash, instrument_ids=["B"], coefficients=[1.0], upper=0.5)
    answer = await client.optimization.OptimizePortfolio(asked)
    assert list(answer.weights) == pytest.approx([0.25, 0.5], abs=1e-6)
    kinds = {p.limit: p.kind for p in answer.certificate.shadow_prices}
    assert kinds == {f"{crash} max": types_pb2.LIMIT_KIND_LINEAR, f"{crash} (2) max": STRESS}


async def test_frontiers_and_conflicts_know_scenarios(joint_client: Client) -> None:
    client = joint_client
    covariance = market_service_pb2.Matrix(
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=["A", "B"],
        dense={"values": [4e-4, 1e-4, 1e-4, 1e-4]},
    )
    # B moves by a quarter of A on average: 0.4 A + 0.1 B.
    spread = await put_shock(client, {"A": -0.4}, spreads=True)
    asked = problem(limits=limits_on((spread, 0.2)), covariance=covariance, budget_min=1.0)
    asked.objective.kind = optimization_pb2.OBJECTIVE_KIND_MIN_VARIANCE
    frontier = await client.optimization.TraceFrontier(
        optimization_pb2.TraceFrontierRequest(problem=asked, point_count=5)
    )
    losses = [0.4 * a + 0.1 * b for a, b in (point.weights for point in frontier.points)]
    assert max(losses) == pytest.approx(0.2, abs=1e-6)
    free = problem(covariance=covariance, budget_min=1.0)
    free.objective.CopyFrom(asked.objective)
    highest = await client.optimization.TraceFrontier(
        optimization_pb2.TraceFrontierRequest(problem=free, point_count=5)
    )
    assert highest.points[-1].weights[0] == pytest.approx(1.0, abs=1e-6)
    tight = problem(limits=limits_on((spread, 0.05)), covariance=covariance, budget_min=1.0)
    conflict = await client.optimization.ExplainInfeasibility(
        optimization_pb2.ExplainInfeasibilityRequest(problem=tight)
    )
    assert not conflict.feasible
    assert any(spread in name for name in conflict.explanation.conflict)


async def test_problems_whose_losses_cannot_be_told_are_refused(joint_client: Client) -> None:
    client = joint_client
    spread = await put_shock(client, {"A": -0.4}, spreads=True)
    days = await put_window(client, np.full((3, N), -0.2))

    async def refused(scenario_id: str) -> Any:
        asked = problem(limits=limits_on((scenario_id, 0.1)))
        request = optimization_pb2.OptimizePortfolioRequest(problem=asked)
        return await refusal(client.optimization.OptimizePortfolio(request))

    found = await refused("nothing")
    assert found.fields == {"problem.limits.stress[0].scenario_id": "NOT_FOUND"}
    for scenario_id, reason in ((spread, "MISSING_MATRIX"), (days, "HISTORY_GAPS")):
        found = await refused(scenario_id)
        assert (found.reason, f"joint.stress ({scenario_id})" in found.message) == (reason, True)


def long_only(*bounds: tuple[str, float], **given: Any) -> simulation_pb2.BacktestSetting:
    """Long positions of all equity, filled at once."""
    limits = limits_pb2.Limits(weight_max=0.2, leverage_max=1.0, joint=limits_on(*bounds))
    return simulation_pb2.BacktestSetting(
        mean_return=simulation_pb2.MeanReturnStrategy(sessions=20, is_long_only=True),
        parameters=parameter_service_pb2.SizingParameters(
            correlation_penalty=parameter_service_pb2.CORRELATION_PENALTY_NONE
        ),
        limits=limits,
        fill_at=simulation_pb2.FILL_AT_SAME_CLOSE,
        lot_size=1e-6,
        **given,
    )


async def test_backtests_lose_no_more_in_a_scenario(client: Client) -> None:
    """If all fall by a fifth a book of half the equity loses a tenth of it; stored, or given."""
    dates = [f"2024-01-0{day}" for day in range(2, 6)]
    prices = simulation_pb2.PriceTable(
        dates=dates, instrument_ids=["A", "B"], close=[100.0, 10.0] * len(dates)
    )
    returns = {"A": -0.2, "B": -0.2}
    stored = await put_shock(client, returns)
    given = risk_pb2.StressScenario(
        scenario_id="given", shock={"instrument_ids": returns.keys(), "returns": returns.values()}
    )
    request = simulation_pb2.RunBacktestRequest(prices=prices, stress_scenarios=[given])
    for bounds in ((), ((stored, 0.1),), (("given", 0.04), (stored, 0.1))):
        setting = request.settings.add(
            limits=limits_pb2.Limits(weight_max=0.4, joint=limits_on(*bounds)), lot_size=1e-6
        )
        setting.given.dates.extend(dates[1:2] * 2)
        setting.given.signals.CopyFrom(
            sizing_pb2.SignalBatch(
                instrument_ids=["A", "B"],
                side=[LONG] * 2,
                expected_return=[0.002] * 2,
                volatility=[0.01] * 2,
            )
        )
    answer = await client.simulation.RunBacktest(request, timeout=LONG_S)
    for result, weight in zip(answer.results, (0.8, 0.5, 0.2), strict=True):
        assert list(result.gross_weight) == pytest.approx([0.0, 0.0, weight, weight], abs=1e-6)


async def test_backtests_spread_shocks_by_what_they_estimate(client: Client) -> None:
    prices = table(60)
    name = prices.instrument_ids[0]
    spread = await put_shock(client, {name: -0.3}, spreads=True)
    sample = correlation_service_pb2.COVARIANCE_ESTIMATOR_SAMPLE
    estimates = simulation_pb2.BacktestEstimates(sessions=20, estimator=sample)
    settings = [long_only(estimates=estimates), long_only((spread, 0.02), estimates=estimates)]
    request = simulation_pb2.RunBacktestRequest(prices=prices, settings=settings)
    answer = await client.simulation.RunBacktest(request, timeout=LONG_S)
    free, bound = (np.array(result.gross_weight) for result in answer.results)
    assert bound[free > 0.6].max() < free.max()
    assert bound.max() > 0.0
    request.settings[1].ClearField("estimates")
    found = await refusal(client.simulation.RunBacktest(request, timeout=LONG_S))
    assert found.fields == {"settings[1].limits.joint.stress": "MISSING"}


async def test_backtests_refuse_scenarios_by_their_field(client: Client) -> None:
    prices = table(30)
    days = await put_window(client, np.full((3, N), -0.2))
    stranger = await put_shock(client, {"INDEX": -0.3}, spreads=True)
    at = "settings[0].limits.joint.stress"
    estimates = simulation_pb2.BacktestEstimates(sessions=20)
    for setting, mode, fields in (
        (long_only(("nothing", 0.1)), "EXACT", {f"{at}[0].scenario_id": "NOT_FOUND"}),
        (long_only((days, 0.1)), "EXACT", {f"{at}[0].scenario_id": "HISTORY_GAPS"}),
        (long_only((stranger, 0.1), estimates=estimates), "EXACT", {at: "NOT_APPLICABLE"}),
        (long_only((stranger, 0.1)), "FAST", {at: "MISSING"}),
    ):
        request = simulation_pb2.RunBacktestRequest(
            prices=prices,
            settings=[setting],
            mode=simulation_pb2.BacktestMode.Value(f"BACKTEST_MODE_{mode}"),
        )
        found = await refusal(client.simulation.RunBacktest(request, timeout=LONG_S))
        assert found.fields == fields
    twice = risk_pb2.StressScenario(
        scenario_id="a", shock={"instrument_ids": ["I0"], "returns": [-0.2]}
    )
    request = simulation_pb2.RunBacktestRequest(
        prices=prices, settings=[long_only()], stress_scenarios=[twice, twice]
    )
    found = await refusal(client.simulation.RunBacktest(request, timeout=LONG_S))
    assert found.fields == {"stress_scenarios[1]": "DUPLICATE"}
