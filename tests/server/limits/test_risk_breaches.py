"""Books at rest beyond limits on their risk: told as events, listed, or said to be unknown."""

from statistics import NormalDist

import numpy as np
import pytest
from positionsizing.v1 import limits_pb2, parameter_service_pb2, risk_service_pb2, types_pb2

from tests.server.limits.test_breach_events import app_dsn, breach_events, hold
from tests.server.limits.test_cluster_breaches import breaches, put_correlation, set_universe
from tests.server.limits.test_limits_on_lots import bets, put_matrix
from tests.server.limits.test_stress_elsewhere import HELD, LONG, resting
from tests.server.limits.test_stress_limits import scope_of
from tests.server.support.service_client import INSTRUMENTS, Client, new_id

__all__ = ["app_dsn"]

N = len(INSTRUMENTS)
VOLATILITY, VAR = types_pb2.LIMIT_KIND_VOLATILITY_MAX, types_pb2.LIMIT_KIND_VAR_MAX
CORRELATION = np.eye(N)
CORRELATION[1, 2] = CORRELATION[2, 1] = 0.5
MEASURED = 0.02 * np.sqrt(0.15**2 + 0.05**2 + 2 * 0.5 * 0.15 * 0.05)
"""Volatility of `HELD` with 2 % each a period."""


def tail(method: str, bound: float) -> limits_pb2.TailLimit:
    return limits_pb2.TailLimit(
        measure=limits_pb2.TAIL_MEASURE_VALUE_AT_RISK,
        method=risk_service_pb2.TailMethod.Value(f"TAIL_METHOD_{method}"),
        level=0.99,
        bound=bound,
    )


async def test_what_a_covariance_tells_is_told_and_listed(client: Client, app_dsn: str) -> None:
    universe = new_id("universe")
    await put_correlation(client, universe, 4e-4 * CORRELATION, "COVARIANCE")
    joint = limits_pb2.JointLimits(
        volatility_max=0.001, var_max=0.002, tails=[tail("NORMAL", 0.003), tail("NORMAL", 0.9)]
    )
    joint.tails[1].level = 0.95
    portfolio_id = await resting(client, joint, universe)
    answer = await breaches(client, portfolio_id)
    assert not answer.not_checked
    z = NormalDist().inv_cdf
    expected = [
        (VOLATILITY, "portfolio", 0.001, MEASURED),
        (VAR, "portfolio", 0.002, z(0.95) * MEASURED),
        (VAR, "normal 99 % VaR", 0.003, z(0.99) * MEASURED),
    ]
    told = await breach_events(app_dsn, portfolio_id)
    for found in (answer.breaches, told):
        assert [(b.kind, b.limit, b.bound) for b in found] == [want[:3] for want in expected]
        assert [b.value for b in found] == pytest.approx([want[3] for want in expected], rel=1e-9)
    assert {event.found_by for event in told} == {"limits"}
    assert all(breach.HasField("begin_time") for breach in answer.breaches)
    # A matrix that lacks what is held: nobody can say, and what was found stays found.
    await put_correlation(client, universe, 4e-4 * CORRELATION, "COVARIANCE", n=2)
    await hold(client, portfolio_id, 800_000.0, HELD)
    answer = await breaches(client, portfolio_id)
    assert not answer.breaches
    assert all("'I2'" in why for why in answer.not_checked)
    assert len(answer.not_checked) == 4
    await put_correlation(client, universe, 4e-4 * CORRELATION, "COVARIANCE")
    await hold(client, portfolio_id, 800_000.0, HELD)
    assert len(await breach_events(app_dsn, portfolio_id)) == 3, "the episodes were never over"
    await hold(client, portfolio_id, 950_000.0, {"I2": 100.0})
    assert not (await breaches(client, portfolio_id)).breaches


@pytest.mark.parametrize("kind", ["CORRELATION", "COVARIANCE"])
async def test_it_is_what_a_decision_says_of_the_same_book(client: Client, kind: str) -> None:
    universe = new_id("universe")
    await put_correlation(
        client, universe, CORRELATION * (1.0 if kind == "CORRELATION" else 4e-4), kind
    )
    row = limits_pb2.LinearLimit(name="f", instrument_ids=["I1"], coefficients=[1.0], upper=0.1)
    joint = limits_pb2.JointLimits(volatility_max=0.0005, var_max=0.0005, linear=[row])
    portfolio_id = await resting(client, joint)
    parameters = parameter_service_pb2.SizingParameters(
        covariance_universe=universe,
        periods_per_year=52.0,
        correlation_penalty=parameter_service_pb2.CORRELATION_PENALTY_NONE,
    )
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(parameters=parameters, portfolio_id=portfolio_id)
    )
    request = bets(["I1"], [0.7], [LONG], portfolio_id=portfolio_id)
    request.limits.turnover_max = 0.0
    decision = await client.size(request)
    answer = await breaches(client, portfolio_id)
    assert not answer.not_checked
    listed = {(b.kind, b.limit): (b.bound, b.value) for b in answer.breaches}
    left = {(b.kind, b.name): (b.bound, b.value) for b in decision.limits_exceeded}
    assert len(left) == 3
    assert listed.keys() == left.keys()
    for key, told in left.items():
        assert listed[key] == pytest.approx(told, rel=1e-9)


async def test_what_needs_scenarios_or_has_no_matrix_is_said(client: Client) -> None:
    joint = limits_pb2.JointLimits(
        volatility_max=0.001,
        cvar_max=0.001,
        cdar_max=0.001,
        wealth_floor=0.9,
        wealth_floor_probability=0.1,
        tails=[tail("NORMAL", 0.001), tail("HISTORICAL", 0.001)],
    )
    scenarios = ["cvar_max", "cdar_max", "wealth_floor", "tails (historical 99 % VaR)"]
    portfolio_id = await resting(client, joint)
    answer = await breaches(client, portfolio_id)
    assert not answer.breaches
    whys = {why.split(" needs ")[0]: why for why in answer.not_checked}
    assert len(whys) == len(answer.not_checked) == 6
    for name in scenarios:
        assert "needs scenarios" in whys[f"the limit joint.{name}"]
    for name in ("volatility_max", "tails (normal 99 % VaR)"):
        assert "covariance_universe" in whys[f"the limit joint.{name}"]
    universe = new_id("universe")
    await put_correlation(client, universe, 4e-4 * CORRELATION, "COVARIANCE")
    await set_universe(client, universe, portfolio_id=portfolio_id)
    answer = await breaches(client, portfolio_id)
    assert [b.kind for b in answer.breaches] == [VOLATILITY, VAR]
    assert len(answer.not_checked) == len(scenarios)
    await client.set_limits(scope_of(portfolio_id), weight_max=0.5)
    answer = await breaches(client, portfolio_id)
    assert not answer.breaches
    assert not answer.not_checked


async def test_decisions_tell_volatility_as_the_limit_on_it_is_measured(client: Client) -> None:
    scenarios = np.random.default_rng(5).normal(0.0, 0.02, (5, N))
    portfolio_id = await client.ready(weight_max=0.5)
    joint = limits_pb2.JointLimits(volatility_max=0.005)
    await client.set_limits(scope_of(portfolio_id), weight_max=0.5, joint=joint)
    matrix = await put_matrix(client, "SCENARIOS", scenarios)
    request = bets(["I1"], [0.7], [LONG], portfolio_id=portfolio_id, scenario_matrix_id=matrix)
    decision = await client.size(request)
    own = float((scenarios[:, 1] * decision.sizes.weight[0]).std(ddof=1))
    assert own == pytest.approx(0.005, rel=1e-3), "the limit is what sets the size"
    assert decision.risk.after.volatility == pytest.approx(own, rel=1e-9)
    one = await put_matrix(client, "SCENARIOS", scenarios[:1])
    await client.set_limits(scope_of(portfolio_id), weight_max=0.5)
    request = bets(["I1"], [0.7], [LONG], portfolio_id=portfolio_id, scenario_matrix_id=one)
    assert (await client.size(request)).risk.after.volatility == 0.0
