"""Limits on tails by named methods: they hold on the final lots of every method, or refuse."""

import os
from collections.abc import AsyncIterator

import cvxpy as cp
import grpc
import numpy as np
import pytest
import pytest_asyncio
from positionsizing.v1 import (
    explanation_service_pb2,
    limits_pb2,
    market_service_pb2,
    optimization_service_pb2,
    portfolio_service_pb2,
    risk_service_pb2,
    sizing_service_pb2,
    types_pb2,
)

from compute.optimize.execution import JointShapes
from compute.optimize.kernels import joint_kernels
from compute.risk.conditional import filtered
from compute.risk.extremes import pareto_tail
from compute.risk.measures import cornish_fisher_tail, historical_tail, moments, student_tail
from compute.risk.tail_method import TailKind
from compute.risk.tail_slopes import normal_multiple
from compute.shapes import KernelRegistry
from storage import embedded
from tests.fixtures_kernels import kept_programs
from tests.server.limits.test_limits_on_lots import METHODS, bets, put_matrix
from tests.server.support.service_client import (
    INSTRUMENTS,
    PRICES,
    Client,
    refusal,
    refusal_of,
    started,
)

CASES = int(os.environ.get("TAILS_BY_RPC", "10"))
PRICE, N, K = np.array(PRICES), len(PRICES), 256
VAR, ES = limits_pb2.TAIL_MEASURE_VALUE_AT_RISK, limits_pb2.TAIL_MEASURE_EXPECTED_SHORTFALL
NORMAL = risk_service_pb2.TAIL_METHOD_NORMAL
STUDENT = risk_service_pb2.TAIL_METHOD_STUDENT
CORNISH_FISHER = risk_service_pb2.TAIL_METHOD_CORNISH_FISHER
HISTORICAL = risk_service_pb2.TAIL_METHOD_HISTORICAL
EXTREME_VALUE = risk_service_pb2.TAIL_METHOD_EXTREME_VALUE
FILTERED = risk_service_pb2.TAIL_METHOD_FILTERED_HISTORICAL
FOLLOWED = (NORMAL, STUDENT, CORNISH_FISHER, HISTORICAL, EXTREME_VALUE, FILTERED)
LONG = types_pb2.SIDE_LONG


@pytest_asyncio.fixture(scope="module")
async def wide_client(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Client]:
    """Stubs of an app that solves joint problems of up to 256 scenarios."""
    shapes = JointShapes(assets=(16,), scenarios=(256,))
    programs = KernelRegistry([*kernels.kernels, *joint_kernels(shapes)])
    with kept_programs():
        programs.compile()
    settings = {"joint_assets": shapes.assets, "joint_scenarios": shapes.scenarios}
    folder = tmp_path_factory.mktemp("wide")
    async with (
        started(postgres_server, programs, folder, **settings) as app,
        Client.connected(app.port) as connected,
    ):
        yield connected


def tail(measure: int, method: int, level: float, bound: float) -> limits_pb2.TailLimit:
    """A limit on a tail."""
    return limits_pb2.TailLimit(measure=measure, method=method, level=level, bound=bound)  # type: ignore[arg-type]


def heavy(rng: np.random.Generator) -> np.ndarray:
    """Returns whose books all are Student t of five degrees, (K, N)."""
    root = np.linalg.cholesky(0.7 * np.eye(N) + 0.3)
    mixed = np.sqrt(5.0 / rng.chisquare(5.0, K))
    return 0.01 * mixed[:, None] * (rng.standard_normal((K, N)) @ root.T)


def measured(limit: limits_pb2.TailLimit, weights: np.ndarray, scenarios: np.ndarray) -> float:
    """What a limit measures of a book, by the functions that reports use."""
    losses, equal = -(scenarios @ weights), np.full(len(scenarios), 1 / len(scenarios))
    if not losses.any():
        return 0.0
    deviation = float(losses.std(ddof=1))
    _, _, skewness, kurtosis = moments(-losses, equal)
    if limit.method == NORMAL:
        return deviation * normal_multiple(TailKind(limit.measure), limit.level)
    if limit.method == STUDENT:
        degrees = min(4 + 6 / kurtosis, 1000) if kurtosis > 0 else 1000
        found = student_tail(limit.level, degrees, 0.0, deviation)
    elif limit.method == CORNISH_FISHER:
        found = cornish_fisher_tail(limit.level, skewness, kurtosis, deviation)
    elif limit.method == HISTORICAL:
        found = historical_tail(losses, equal, limit.level)
    elif limit.method == FILTERED:
        found = historical_tail(filtered(losses), equal, limit.level)
    else:
        found = pareto_tail(losses).tail(limit.level)
    return found.value_at_risk if limit.measure == VAR else found.expected_shortfall


def weights_of(ids: list[str], lots: list[int]) -> np.ndarray:
    """Lots as weights of a million, over all instruments."""
    out = np.zeros(N)
    for name, count in zip(ids, lots, strict=True):
        out[INSTRUMENTS.index(name)] += count * PRICE[INSTRUMENTS.index(name)] / 1e6
    return out


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(CASES))
async def test_every_tail_holds_on_the_lots(wide_client: Client, seed: int, method: int) -> None:
    rng = np.random.default_rng([17, seed])
    scenarios = heavy(rng) + 5e-4
    chosen = rng.permutation(FOLLOWED)[: 1 + seed % 3]
    tails = [
        tail(int(rng.choice([VAR, ES])), int(one), float(rng.choice([0.95, 0.98])),
             float(rng.uniform(0.003, 0.012)))
        for one in chosen
    ]  # fmt: skip
    limits = {"allow_short": True, "joint": limits_pb2.JointLimits(tails=tails)}
    if seed % 2:
        limits["weight_max"] = 0.3
    portfolio_id = await wide_client.ready(**limits)
    matrix_id = await put_matrix(wide_client, "SCENARIOS", scenarios)
    before, used = np.zeros(N), [1.0]
    for _ in range(2):  # the second counts what the first reserves
        names = [INSTRUMENTS[i] for i in rng.permutation(N)[: int(rng.integers(2, N + 1))]]
        sides = [types_pb2.SIDE_SHORT if rng.random() < 0.3 else LONG for _ in names]
        asked = bets(
            names,
            rng.uniform(0.55, 0.7, len(names)).tolist(),
            sides,
            portfolio_id=portfolio_id,
            method=method,
            scenario_matrix_id=matrix_id,
        )
        try:
            decision = await wide_client.size(asked)
        except grpc.aio.AioRpcError as error:  # a book may be too nearly normal for the expansion
            found = refusal_of(error)
            assert found.reason == "TAIL_NOT_MEASURABLE", found
            assert "cornish fisher" in found.message, found
            continue
        after = before + weights_of(names, list(decision.sizes.trade_lots))
        used = []
        for limit in tails:
            was, now = (measured(limit, w, scenarios) for w in (before, after))
            assert now <= max(limit.bound, was) * (1 + 1e-7), (limit, now)
            used.append(now / limit.bound)
        before = after
    assert max(used) > 0.5  # one of them binds; the second decision may find no room


async def test_a_tail_is_named_by_its_binding_in_every_method(wide_client: Client) -> None:
    scenarios = heavy(np.random.default_rng(1)) + 1e-3
    limit = tail(VAR, EXTREME_VALUE, 0.98, 0.004)
    matrix_id = await put_matrix(wide_client, "SCENARIOS", scenarios)
    for method in METHODS:
        portfolio_id = await wide_client.ready(joint=limits_pb2.JointLimits(tails=[limit]))
        asked = bets(
            ["I0", "I1", "I2"],
            [0.6] * 3,
            [LONG] * 3,
            portfolio_id=portfolio_id,
            method=method,
            scenario_matrix_id=matrix_id,
        )
        decision = await wide_client.size(asked)
        sizes = decision.sizes
        weights = weights_of(list(sizes.instrument_ids), list(sizes.trade_lots))
        assert 0.97 * limit.bound < measured(limit, weights, scenarios) <= limit.bound * (1 + 1e-7)
        assert list(sizes.binding) == [types_pb2.LIMIT_KIND_VAR_MAX] * 3
        names = {sizes.group_names[place - 1] for place in sizes.binding_group}
        assert names == {"extreme value 98 % VaR"}
        assert list(sizes.binding_bound) == [0.004] * 3
        replay = await wide_client.sizing.ReplayDecision(
            sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
        )
        assert replay.lots_equal
        ladder = await wide_client.explanation.GetLimitLadder(
            explanation_service_pb2.GetLimitLadderRequest(
                decision_id=decision.decision_id, instrument_id="I0"
            )
        )
        assert ladder.rungs[0].limit_name == "extreme value 98 % VaR"
        assert ladder.rungs[0].weight_without > ladder.rungs[0].weight


async def test_what_the_data_cannot_support_is_refused_by_name(wide_client: Client) -> None:
    rng = np.random.default_rng(3)
    few = await put_matrix(wide_client, "SCENARIOS", 0.01 * rng.standard_normal((60, N)))
    jumps = np.full((K, N), 1e-4)
    jumps[:4] = -0.2
    jumps[4:8] += 1e-3 * rng.standard_normal((4, N))
    jumps = await put_matrix(wide_client, "SCENARIOS", jumps)
    covariance = await put_matrix(wide_client, "COVARIANCE", 1e-4 * np.eye(N))
    unlike = "TAIL_NOT_MEASURABLE"
    for limit, given, reason, words in (
        (tail(VAR, HISTORICAL, 0.99, 0.01), {"scenario_matrix_id": few}, unlike, "100 are needed"),
        (tail(VAR, FILTERED, 0.99, 0.01), {"scenario_matrix_id": few}, unlike, "100 are needed"),
        (tail(ES, EXTREME_VALUE, 0.95, 0.01), {"scenario_matrix_id": few}, unlike, "200 are"),
        (tail(VAR, CORNISH_FISHER, 0.95, 0.01), {"scenario_matrix_id": jumps}, unlike, "domain"),
        (tail(VAR, EXTREME_VALUE, 0.95, 0.01), {"scenario_matrix_id": jumps}, unlike, "losses"),
        (tail(VAR, STUDENT, 0.95, 0.01), {"covariance_matrix_id": covariance}, "MISSING_MATRIX",
         "scenario_matrix_id"),
        (tail(VAR, NORMAL, 0.95, 0.01), {}, "MISSING_MATRIX", "normal 95 % VaR"),
    ):  # fmt: skip
        for method in METHODS:
            portfolio_id = await wide_client.ready(
                weight_max=0.3, joint=limits_pb2.JointLimits(tails=[limit])
            )
            if method == types_pb2.SIZING_METHOD_JOINT and not given:
                continue  # it has nothing to size with either
            asked = bets(["I0"], [0.6], [LONG], portfolio_id=portfolio_id, method=method, **given)
            found = await refusal(wide_client.size(asked))
            assert found.code is grpc.StatusCode.FAILED_PRECONDITION, found
            assert found.reason == reason, found
            assert words in found.message, found
            assert await wide_client.counts(portfolio_id) == (0, 0)


async def test_limits_that_say_too_little_are_refused_by_field(client: Client) -> None:
    portfolio_id = await client.ready()
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    for given, field, reason in (
        (limits_pb2.TailLimit(method=NORMAL, bound=0.1), "measure", "MISSING"),
        (limits_pb2.TailLimit(measure=VAR, bound=0.1), "method", "MISSING"),
        (limits_pb2.TailLimit(measure=VAR, method=NORMAL), "bound", "OUT_OF_RANGE"),
        (tail(VAR, EXTREME_VALUE, 0.8, 0.1), "level", "OUT_OF_RANGE"),
        (tail(VAR, NORMAL, 0.4, 0.1), "level", "OUT_OF_RANGE"),
    ):
        joint = limits_pb2.JointLimits(tails=[given])
        found = await refusal(client.set_limits(scope, joint=joint))
        assert found.fields.get(f"limits.joint.tails[0].{field}") == reason, found
    joint = limits_pb2.JointLimits(tails=[tail(VAR, NORMAL, 0.95, 0.1)] * 9)
    found = await refusal(client.set_limits(scope, joint=joint))
    assert found.fields == {"limits.joint.tails": "TOO_MANY"}


async def test_tails_of_scopes_all_hold(client: Client) -> None:
    """A looser tail in a request loosens nothing; a tighter one by another method binds beside."""
    covariance = np.diag(np.full(N, 4e-4))
    matrix_id = await put_matrix(client, "COVARIANCE", covariance)
    stored = tail(VAR, NORMAL, 0.95, 0.004)
    portfolio_id = await client.ready(joint=limits_pb2.JointLimits(tails=[stored]))
    for given, volatility in (
        (tail(VAR, NORMAL, 0.95, 0.4), 0.004 / 1.6448536270),
        (tail(ES, NORMAL, 0.99, 0.002), 0.002 / 2.6652142203),
    ):
        asked = bets(
            ["I0", "I1"],
            [0.7] * 2,
            [LONG] * 2,
            portfolio_id=portfolio_id,
            covariance_matrix_id=matrix_id,
            validate_only=True,
        )
        asked.limits.joint.tails.append(given)
        sizes = (await client.size(asked)).sizes
        reached = float(np.sqrt(4e-4) * np.linalg.norm(sizes.weight))
        assert 0.999 * volatility < reached <= volatility


def problem(scenarios: np.ndarray, **given: object) -> optimization_service_pb2.OptimizationProblem:
    """Largest mean over scenarios given in the call."""
    matrix = market_service_pb2.Matrix(
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        instrument_ids=INSTRUMENTS,
        dense={"values": scenarios.ravel()},
    )
    kind = optimization_service_pb2.OBJECTIVE_KIND_MAX_RETURN
    return optimization_service_pb2.OptimizationProblem(
        instrument_ids=INSTRUMENTS,
        objective=optimization_service_pb2.Objective(kind=kind),
        scenarios=matrix,
        **given,  # type: ignore[arg-type]
    )


async def test_an_optimum_within_a_convex_tail_is_that_of_an_oracle(wide_client: Client) -> None:
    """Historical shortfall at a level of its own, beside `cvar_max` at another (Clarabel)."""
    rng = np.random.default_rng(23)
    scenarios = heavy(rng) + rng.uniform(0, 2e-3, N)
    bound, wide = 0.008, 0.02
    limits = limits_pb2.JointLimits(
        cvar_max=wide, cvar_level=0.99, tails=[tail(ES, HISTORICAL, 0.9, bound)]
    )
    answer = await wide_client.optimization.OptimizePortfolio(
        optimization_service_pb2.OptimizePortfolioRequest(problem=problem(scenarios, limits=limits))
    )
    w = cp.Variable(N)
    losses = -(scenarios @ w)

    def worst(level: float) -> cp.Expression:
        most = cp.Variable()
        return most + cp.sum(cp.pos(losses - most)) / (K * (1.0 - level))

    cuts = [worst(0.9) <= bound, worst(0.99) <= wide]
    oracle = cp.Problem(cp.Maximize(scenarios.mean(0) @ w), [*cuts, w >= 0, w <= 1, cp.sum(w) <= 1])
    oracle.solve(solver="CLARABEL")
    assert answer.status == optimization_service_pb2.OPTIMIZATION_STATUS_OPTIMAL
    assert scenarios.mean(0) @ np.array(answer.weights) == pytest.approx(oracle.value, rel=1e-6)
    kinds = {price.kind for price in answer.certificate.shadow_prices}
    assert types_pb2.LIMIT_KIND_CVAR_MAX in kinds
    assert "not convex" not in answer.certificate.note


@pytest.mark.parametrize("method", FOLLOWED)
async def test_an_optimum_keeps_each_tail_and_uses_it_up(wide_client: Client, method: int) -> None:
    rng = np.random.default_rng(29)
    scenarios = heavy(rng) + rng.uniform(5e-4, 2e-3, N)
    limit = tail(VAR, method, 0.97, 0.006)
    asked = problem(scenarios, limits=limits_pb2.JointLimits(tails=[limit]))
    answer = await wide_client.optimization.OptimizePortfolio(
        optimization_service_pb2.OptimizePortfolioRequest(problem=asked)
    )
    value = measured(limit, np.array(answer.weights), scenarios)
    assert 0.98 * limit.bound <= value <= limit.bound * (1 + 1e-6)
    assert ("not convex" in answer.certificate.note) == (method != NORMAL)
    if method != NORMAL:
        traced = wide_client.optimization.TraceFrontier(
            optimization_service_pb2.TraceFrontierRequest(problem=asked)
        )
        assert (await refusal(traced)).fields == {"problem.limits.tails": "NOT_APPLICABLE"}


async def test_limits_are_read_back_as_they_were_stored(client: Client) -> None:
    given = limits_pb2.JointLimits(tails=[tail(ES, STUDENT, 0.99, 0.05)])
    portfolio_id = await client.ready(joint=given)
    found = await client.portfolio.GetLimits(
        portfolio_service_pb2.GetLimitsRequest(
            scope=portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
        )
    )
    assert found.limits.joint == given
