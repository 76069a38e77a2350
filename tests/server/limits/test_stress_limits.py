"""Limits on the loss in stored stress scenarios: on the final lots of every method."""

import os
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from positionsizing.v1 import (
    explanation_service_pb2,
    history_service_pb2,
    limits_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
    types_pb2,
)
from positionsizing.v1 import risk_service_pb2 as pb

from tests.server.limits.test_limits_on_lots import METHODS, bets, put_matrix
from tests.server.risk.test_histories import START, part, put
from tests.server.support.service_client import INSTRUMENTS, PRICES, Client, new_id, refusal

CASES = int(os.environ.get("STRESS_BY_RPC", "12"))
PRICE, N = np.array(PRICES), len(PRICES)
STRESS = types_pb2.LIMIT_KIND_STRESS_LOSS_MAX
RETURNS = history_service_pb2.HISTORY_KIND_RETURNS
LONG, SHORT = types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT


async def put_scenario(client: Client, **event: Any) -> str:
    """Stores a scenario and returns its id."""
    scenario = pb.StressScenario(scenario_id=new_id("stress"), **event)
    await client.risk.PutStressScenario(pb.PutStressScenarioRequest(scenario=scenario))
    return scenario.scenario_id


async def put_shock(client: Client, returns: dict[str, float], *, spreads: bool = False) -> str:
    """Stores a scenario of these returns."""
    names, values = list(returns), list(returns.values())
    shock = pb.ShockEvent(instrument_ids=names, returns=values, spread_by_covariance=spreads)
    return await put_scenario(client, shock=shock)


async def put_window(client: Client, returns: np.ndarray) -> str:
    """Stores returns of the test instruments, (T, N), and a scenario of all of them."""
    universe = new_id("window")
    message = part(universe, returns.tolist(), kind=RETURNS, instrument_ids=INSTRUMENTS)
    await put(client, message)
    window = pb.WindowEvent(universe_id=universe)
    window.start_time.FromDatetime(START)
    window.end_time.GetCurrentTime()
    return await put_scenario(client, window=window)


def limits_on(*bounds: tuple[str, float]) -> limits_pb2.JointLimits:
    """Each scenario with its largest loss."""
    rows = [limits_pb2.StressLimit(scenario_id=name, loss_max=most) for name, most in bounds]
    return limits_pb2.JointLimits(stress=rows)


def scope_of(portfolio_id: str) -> portfolio_service_pb2.Scope:
    return portfolio_service_pb2.Scope(portfolio_id=portfolio_id)


def book(decision: Any, held: dict[str, float]) -> np.ndarray:
    """Weights of all instruments once a decision is filled."""
    out = np.array([held.get(name, 0.0) for name in INSTRUMENTS]) * PRICE
    lots = dict(zip(decision.sizes.instrument_ids, decision.sizes.lots, strict=True))
    for i, name in enumerate(INSTRUMENTS):
        if name in lots:
            out[i] = lots[name] * PRICE[i]
    return out / decision.summary.equity


class Random:
    """A random book with three scenarios, and what a book loses in each."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng([13, seed])
        root = 0.01 * rng.standard_normal((N, N))
        self.covariance = root @ root.T
        self.named = rng.uniform(-0.5, 0.2, N) * (rng.random(N) < 0.6)
        self.days = rng.uniform(-0.06, 0.05, (6, N))
        self.spread = (int(rng.integers(N)), float(rng.uniform(-0.4, -0.05)))
        self.most = rng.uniform(0.005, 0.1, 3)
        held = np.trunc(rng.uniform(-0.1, 0.3, N) * 1e6 / PRICE) * (rng.random(N) < 0.4)
        self.held = {n: q for n, q in zip(INSTRUMENTS, held.tolist(), strict=True) if q}

    async def put(self, client: Client) -> list[str]:
        """Stores the scenarios."""
        returns = dict(zip(INSTRUMENTS, self.named.tolist(), strict=True))
        place, shock = self.spread
        return [
            await put_shock(client, {name: x for name, x in returns.items() if x}),
            await put_window(client, self.days),
            await put_shock(client, {INSTRUMENTS[place]: shock}, spreads=True),
        ]

    def losses(self, weight: np.ndarray) -> np.ndarray:
        """Of a book in each of the three, from the definitions."""
        place, shock = self.spread
        beta = self.covariance[:, place] / self.covariance[place, place]
        returns = [self.named, np.prod(1 + self.days, axis=0) - 1, np.maximum(beta * shock, -1.0)]
        return -np.array([x @ weight for x in returns])


@pytest.mark.parametrize("method", METHODS, ids=["closed form", "joint"])
@pytest.mark.parametrize("seed", range(CASES))
async def test_no_book_loses_more_in_any_scenario(
    joint_client: Client, method: types_pb2.SizingMethod.ValueType, seed: int
) -> None:
    """R26: more than the limit only where it lost more before, and then no more than before."""
    client, case = joint_client, Random(seed)
    scenarios = await case.put(client)
    snapshot = await client.put_market()
    covariance = await put_matrix(client, "COVARIANCE", case.covariance)
    portfolio_id = await client.put_portfolio(1e6, case.held)
    bounds = zip(scenarios, case.most.tolist(), strict=True)
    common = {"allow_short": True, "weight_max": 0.6, "leverage_max": 3.0}
    await client.set_limits(scope_of(portfolio_id), **common, joint=limits_on(*bounds))
    chosen = case.rng.permutation(N)[: int(case.rng.integers(2, N + 1))]
    side = np.where(case.rng.random(len(chosen)) < 0.7, LONG, SHORT).tolist()
    request = bets(
        [INSTRUMENTS[i] for i in chosen],
        case.rng.uniform(0.55, 0.8, len(chosen)).tolist(),
        side,
        portfolio_id=portfolio_id,
        market_snapshot_id=snapshot,
        covariance_matrix_id=covariance,
        method=method,
    )
    decision = await client.size(request)
    nothing = np.array([case.held.get(name, 0.0) for name in INSTRUMENTS]) * PRICE
    before = case.losses(nothing / decision.summary.equity)
    after = case.losses(book(decision, case.held))
    slack = 1e-9
    assert (after <= np.maximum(case.most, before) + slack).all(), (before, after, case.most)
    exceeded = {item.name for item in decision.limits_exceeded if item.kind == STRESS}
    assert exceeded == {
        n for n, a, m in zip(scenarios, after, case.most, strict=True) if a > m + slack
    }


@pytest.mark.parametrize(
    "method",
    [*METHODS, types_pb2.SIZING_METHOD_RISK_PARITY],
    ids=["closed form", "joint", "risk parity"],
)
async def test_a_scenario_binds_by_its_name(
    joint_client: Client, method: types_pb2.SizingMethod.ValueType
) -> None:
    client, names = joint_client, INSTRUMENTS[:3]
    crash = await put_shock(client, {names[0]: -0.4, names[1]: -0.3})
    snapshot = await client.put_market()
    portfolio_id = await client.put_portfolio(1e6)
    common = {"weight_max": 0.5, "leverage_max": 1.0}
    await client.set_limits(scope_of(portfolio_id), **common, joint=limits_on((crash, 0.05)))
    given: dict[str, Any] = {"portfolio_id": portfolio_id, "market_snapshot_id": snapshot}
    if method == types_pb2.SIZING_METHOD_JOINT:
        given["covariance_matrix_id"] = await put_matrix(client, "COVARIANCE", 1e-3 * np.eye(N))
    if method == types_pb2.SIZING_METHOD_RISK_PARITY:
        parameters = parameter_service_pb2.SizingParameters(risk_budget=0.4)
        put_parameters = parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id, parameters=parameters
        )
        await client.parameter.SetParameters(put_parameters)
    request = bets(names, [0.7, 0.7, 0.7], [LONG] * 3, **given, method=method)
    decision = await client.size(request)
    sizes = decision.sizes
    loss = 0.4 * sizes.weight[0] + 0.3 * sizes.weight[1]
    assert 0.95 * 0.05 < loss <= 0.05 + 1e-12
    bound = [i for i, kind in enumerate(sizes.binding) if kind == STRESS]
    assert bound, list(sizes.binding)
    for i in bound:
        assert sizes.group_names[sizes.binding_group[i] - 1] == crash
        assert sizes.binding_bound[i] == pytest.approx(0.05, rel=1e-12)
    if method == types_pb2.SIZING_METHOD_JOINT:
        (price,) = (p for p in decision.certificate.shadow_prices if p.kind == STRESS)
        assert price.price_low > 0.0
        assert price.bound == pytest.approx(0.05, rel=1e-12)

    # The scenario changes, or ends: decisions of before are replayed as they were.
    replay = sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    for changes in ({"returns": [-0.9, -0.9]}, {"returns": [-0.9, -0.9], "retired": True}):
        shock = pb.ShockEvent(instrument_ids=names[:2], returns=changes["returns"])
        newer = pb.StressScenario(
            scenario_id=crash, shock=shock, retired=bool(changes.get("retired"))
        )
        await client.risk.PutStressScenario(pb.PutStressScenarioRequest(scenario=newer))
        again = await client.sizing.ReplayDecision(replay)
        assert again.lots_equal
        assert again.replayed.SerializeToString(deterministic=True)
    request.request_id = str(uuid4())
    found = await refusal(client.sizing.SizePositions(request))
    assert found.reason == "NO_STRESS_SCENARIO"
    assert crash in found.message


async def test_what_if_there_were_such_a_limit_and_if_there_were_none(client: Client) -> None:
    """A variation may name a scenario, and one of a recorded decision may lift the limit."""
    names = INSTRUMENTS[:2]
    crash = await put_shock(client, {names[0]: -0.4})
    deeper = await put_shock(client, {names[0]: -0.5, names[1]: -0.5})
    snapshot = await client.put_market()
    portfolio_id = await client.put_portfolio(1e6)
    common = {"weight_max": 0.5, "leverage_max": 1.0}
    await client.set_limits(scope_of(portfolio_id), **common, joint=limits_on((crash, 0.05)))
    given = {"portfolio_id": portfolio_id, "market_snapshot_id": snapshot}
    request = bets(names, [0.7, 0.7], [LONG] * 2, **given)
    variation = sizing_service_pb2.Variation(
        name="deeper", limits=limits_pb2.Limits(joint=limits_on((deeper, 0.1), (crash, 0.02)))
    )
    asked = sizing_service_pb2.WhatIfRequest(base=request, variations=[variation])
    answer = await client.sizing.WhatIf(asked)
    base, varied = (np.array(item.sizes.weight) for item in (answer.base, *answer.results))
    assert 0.4 * base[0] == pytest.approx(0.05, abs=1e-4)
    assert base[1] == pytest.approx(0.2, abs=1e-4)
    assert 0.4 * varied[0] == pytest.approx(0.02, abs=1e-4)
    assert 0.099 < 0.5 * varied.sum() <= 0.1
    decision = await client.size(request)
    lifted = explanation_service_pb2.DecisionVariation(limits_lifted=["joint.stress"])
    other = explanation_service_pb2.DecisionVariation()
    other.limits_instead.joint.CopyFrom(limits_on((deeper, 0.1)))
    told = await client.explanation.WhatIfDecision(
        explanation_service_pb2.WhatIfDecisionRequest(
            decision_id=decision.decision_id, variations=[lifted, other]
        )
    )
    free, instead = (np.array(item.sizes.weight) for item in told.results)
    np.testing.assert_allclose(free, [0.2, 0.2], atol=1e-4)
    assert 0.099 < 0.5 * instead.sum() <= 0.1


async def test_a_loss_that_cannot_be_told_is_refused(client: Client) -> None:
    names = INSTRUMENTS[:2]
    snapshot = await client.put_market()
    portfolio_id = await client.put_portfolio(1e6)
    given = {"portfolio_id": portfolio_id, "market_snapshot_id": snapshot}
    spreads = await put_shock(client, {names[0]: -0.2}, spreads=True)
    days = np.full((3, N), -0.1)
    days[1, 1] = np.nan
    gap = await put_window(client, days)

    async def reason(scenario_id: str, **more: Any) -> tuple[str, str]:
        joint = limits_on((scenario_id, 0.05))
        await client.set_limits(scope_of(portfolio_id), leverage_max=1.0, joint=joint)
        request = bets(names, [0.7, 0.7], [LONG] * 2, **given, **more)
        found = await refusal(client.sizing.SizePositions(request))
        assert f"joint.stress ({scenario_id})" in found.message
        return found.reason, found.message

    assert (await reason(spreads))[0] == "MISSING_MATRIX"
    few = await put_matrix(client, "COVARIANCE", 1e-4 * np.eye(1))
    assert (await reason(spreads, covariance_matrix_id=few))[0] == "MISSING_MATRIX_ENTRY"
    assert (await reason(gap))[0] == "HISTORY_GAPS"
    wrong = [
        (limits_on(("nothing", 0.05)), {"limits.joint.stress[0].scenario_id": "NOT_FOUND"}),
        (limits_on(("a b", 0.05)), {"limits.joint.stress[0].scenario_id": "BAD_FORMAT"}),
        (limits_on((spreads, 0.0)), {"limits.joint.stress[0].loss_max": "OUT_OF_RANGE"}),
        (limits_on((gap, 0.1), (gap, 0.2)), {"limits.joint.stress[1]": "DUPLICATE"}),
    ]
    for joint, fields in wrong:
        found = await refusal(client.set_limits(scope_of(portfolio_id), joint=joint))
        assert found.fields == fields
