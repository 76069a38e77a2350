"""Limits on clusters, on the final lots of every method, against a plain reading with SciPy."""

from datetime import UTC, datetime
from typing import Any

import grpc
import numpy as np
import pytest
from positionsizing.v1 import (
    correlation_service_pb2,
    explanation_service_pb2,
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)
from scipy.cluster.hierarchy import fcluster, linkage

from server.cli.render import summary_lines
from tests.server.limits.test_limits_on_lots import bets, put_matrix
from tests.server.support.service_client import (
    INSTRUMENTS,
    PRICES,
    Client,
    new_id,
    refusal,
    refusal_of,
)

LONG, SHORT = types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT
METHODS = {
    "closed": types_pb2.SIZING_METHOD_CLOSED_FORM,
    "joint": types_pb2.SIZING_METHOD_JOINT,
    "parity": types_pb2.SIZING_METHOD_RISK_PARITY,
}
N, PRICE = len(INSTRUMENTS), np.array(PRICES)
Cluster = limits_pb2.ClusterLimit
LINKAGES = {
    correlation_service_pb2.LINKAGE_SINGLE: "single",
    correlation_service_pb2.LINKAGE_COMPLETE: "complete",
    correlation_service_pb2.LINKAGE_AVERAGE: "average",
    correlation_service_pb2.LINKAGE_WARD: "ward",
}
SINGLE = correlation_service_pb2.LINKAGE_SINGLE
GROSS = types_pb2.LIMIT_KIND_GROUP_GROSS_MAX


def read_plainly(limit: Cluster, correlation: np.ndarray, book: list[int]) -> set[frozenset[str]]:
    """The clusters of the instruments `book`, with SciPy alone."""
    if len(book) == 1:
        return {frozenset({INSTRUMENTS[book[0]]})}
    rho = [correlation[i, j] for k, i in enumerate(book) for j in book[k + 1 :]]
    alike = np.abs(rho) if limit.opposites_are_alike else np.array(rho)
    tree = linkage(np.sqrt((1.0 - alike) / 2.0), LINKAGES[limit.linkage])
    if limit.HasField("cluster_count"):
        label = fcluster(tree, limit.cluster_count, "maxclust")
    else:
        label = fcluster(tree, limit.distance_max, "distance")
    return {
        frozenset(INSTRUMENTS[i] for i, own in zip(book, label, strict=True) if own == k)
        for k in set(label)
    }


def found(decision: sizing_pb2.SizingDecision, limit: str) -> set[frozenset[str]]:
    return {frozenset(c.instrument_ids) for c in decision.clusters if c.limit == limit}


class Random:
    """A random book with limits on clusters, and the sums that they bound."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng([11, seed])
        self.method = METHODS[["closed", "joint", "parity"][seed % 3]]
        root = rng.standard_normal((N, 3))
        covariance = root @ root.T + 0.4 * np.eye(N)
        deviation = np.sqrt(np.diag(covariance))
        self.correlation = covariance / np.outer(deviation, deviation)
        self.limits = [self.limit(f"c{k}") for k in range(int(rng.integers(1, 3)))]
        held = np.trunc(rng.uniform(-0.1, 0.2, N) * 1e6 / PRICE) * (rng.random(N) < 0.4)
        self.held = dict(zip(INSTRUMENTS, held.tolist(), strict=True))
        self.taken = set(np.flatnonzero(held).tolist())
        """What is held or has been reserved: a sale that closes a position may still fail."""

    def limit(self, name: str) -> Cluster:
        rng = self.rng
        limit = Cluster(name=name, linkage=int(rng.integers(1, 5)))  # type: ignore[arg-type]
        limit.opposites_are_alike = bool(rng.random() < 0.3)
        if rng.random() < 0.5:
            limit.distance_max = float(rng.uniform(0.2, 0.8))
        else:
            limit.cluster_count = int(rng.integers(1, 6))
        if limit.opposites_are_alike or rng.random() < 0.7:
            limit.gross_weight_max = float(rng.uniform(0.05, 0.5))
        if not limit.opposites_are_alike and (
            not limit.HasField("gross_weight_max") or rng.random() < 0.4
        ):
            limit.net_weight_max = float(rng.uniform(0.0, 0.3))
            limit.net_weight_min = -float(rng.uniform(0.0, 0.3))
        return limit

    def request(self, portfolio_id: str, matrix_id: str) -> sizing_service_pb2.SizePositionsRequest:
        chosen = self.rng.permutation(N)[: int(self.rng.integers(2, N + 1))]
        return bets(
            [INSTRUMENTS[i] for i in chosen],
            self.rng.uniform(0.5, 0.7, len(chosen)).tolist(),
            [LONG if self.rng.random() < 0.6 else SHORT for _ in chosen],
            portfolio_id=portfolio_id,
            method=self.method,
            covariance_matrix_id=matrix_id,
        )

    def check(self, decision: Any, before: np.ndarray, after: np.ndarray) -> None:
        """Weights of all instruments before and after, as the ledger has them."""
        asked = {INSTRUMENTS.index(name) for name in decision.sizes.instrument_ids}
        book = sorted(asked | self.taken)
        for limit in self.limits:
            clusters = read_plainly(limit, self.correlation, book)
            assert found(decision, limit.name) == clusters
            for members in clusters:
                own = [INSTRUMENTS.index(name) for name in members]
                gross = np.abs(after[own]).sum(), np.abs(before[own]).sum()
                net = after[own].sum(), before[own].sum()
                if limit.HasField("gross_weight_max"):
                    assert gross[0] <= max(limit.gross_weight_max, gross[1]) + 1e-9, members
                if limit.HasField("net_weight_max"):
                    assert net[0] <= max(limit.net_weight_max, net[1]) + 1e-9, members
                    assert net[0] >= min(limit.net_weight_min, net[1]) - 1e-9, members


@pytest.mark.parametrize("seed", range(18))
async def test_clusters_hold_on_the_lots_of_every_method(joint_client: Client, seed: int) -> None:
    book = Random(seed)
    await joint_client.put_market()
    value = sum(q * p for q, p in zip(book.held.values(), PRICES, strict=True))
    held = {name: q for name, q in book.held.items() if q}
    portfolio_id = await joint_client.put_portfolio(cash=1e6 - value, held=held)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await joint_client.set_limits(
        scope, clusters=book.limits, allow_short=True, weight_max=0.4, leverage_max=2.0
    )
    parameters = parameter_service_pb2.SizingParameters(risk_budget=0.3)
    await joint_client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )
    matrix_id = await put_matrix(joint_client, "COVARIANCE", 4e-4 * book.correlation)
    before = np.array([book.held[name] for name in INSTRUMENTS]) * PRICE / 1e6
    for _ in range(2):  # the second counts what the first reserves
        request = book.request(portfolio_id, matrix_id)
        try:
            decision = await joint_client.size(request)
        except grpc.aio.AioRpcError as error:
            assert refusal_of(error).reason == "INFEASIBLE_LIMITS"
            continue
        after = before.copy()
        for name, lots in zip(
            request.signals.instrument_ids, decision.sizes.trade_lots, strict=True
        ):
            after[INSTRUMENTS.index(name)] += lots * PRICES[INSTRUMENTS.index(name)] / 1e6
        book.check(decision, before, after)
        book.taken |= set(np.flatnonzero(after != before).tolist())
        replay = await joint_client.sizing.ReplayDecision(
            sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
        )
        assert replay.lots_equal
        assert list(replay.replayed.clusters) == list(decision.clusters)
        before = after


PAIRS = np.eye(N)
for i, j, rho in ((0, 1, 0.9), (2, 3, 0.8), (4, 5, -0.9)):
    PAIRS[i, j] = PAIRS[j, i] = rho


async def ready(client: Client, *clusters: Cluster, **limits: Any) -> str:
    return await client.ready(
        clusters=clusters, **({"weight_max": 0.3, "allow_short": True} | limits)
    )


async def test_the_binding_names_the_cluster_and_the_decision_its_members(client: Client) -> None:
    universe = new_id("universe")
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=INSTRUMENTS,
        universe_id=universe,
        dense={"values": (4e-4 * PAIRS).ravel()},
    )
    matrix.as_of_time.FromDatetime(datetime.now(UTC))
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    alike = Cluster(name="alike", linkage=SINGLE, distance_max=0.4, gross_weight_max=0.2)
    portfolio_id = await ready(client, alike)
    parameters = parameter_service_pb2.SizingParameters(
        covariance_universe=universe,
        correlation_penalty=parameter_service_pb2.CORRELATION_PENALTY_NONE,
    )
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )
    asked = bets(INSTRUMENTS[:3], [0.9, 0.8, 0.9], [LONG] * 3, portfolio_id=portfolio_id)
    decision = await client.size(asked)
    sizes = decision.sizes
    assert [(c.limit, c.name, list(c.instrument_ids)) for c in decision.clusters] == [
        ("alike", "alike 1", ["I0", "I1"]),
        ("alike", "alike 2", ["I2"]),
    ]
    assert "cluster alike 1: I0, I1" in summary_lines(decision)
    assert sizes.weight[0] + sizes.weight[1] == pytest.approx(0.2, abs=1e-4)
    assert (sizes.binding[0], sizes.binding_bound[0]) == (GROSS, 0.2)
    assert sizes.group_names[sizes.binding_group[0] - 1] == "alike 1"
    # A cluster of one is bounded as its instrument.
    assert sizes.weight[2] == pytest.approx(0.2, abs=1e-4)
    assert sizes.binding[2] == types_pb2.LIMIT_KIND_WEIGHT_MAX
    ladder = await client.explanation.GetLimitLadder(
        explanation_service_pb2.GetLimitLadderRequest(
            decision_id=decision.decision_id, instrument_id="I0"
        )
    )
    assert (ladder.rungs[0].limit, ladder.rungs[0].limit_name) == (GROSS, "alike 1")
    assert ladder.rungs[0].weight_without == pytest.approx(0.3, abs=1e-4)
    # What counts later changes no earlier decision.
    apart = market_service_pb2.Matrix()
    apart.CopyFrom(matrix)
    apart.matrix_id = new_id("matrix")
    apart.dense.values[:] = (4e-4 * np.eye(N)).ravel()
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=apart))
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    assert replay.replayed.clusters == decision.clusters
    later = bets(INSTRUMENTS[3:4], [0.9], [LONG], portfolio_id=portfolio_id)
    decision = await client.size(later)
    assert sorted(list(c.instrument_ids) for c in decision.clusters) == [
        ["I0"], ["I1"], ["I2"], ["I3"],
    ]  # fmt: skip


async def test_a_hedge_is_alike_where_that_is_said(client: Client) -> None:
    """I4 and I5 are opposites: long the one and short the other is one bet twice."""
    matrix_id = await put_matrix(client, "COVARIANCE", 4e-4 * PAIRS)
    for opposites, total in ((False, 0.4), (True, 0.2)):
        limit = Cluster(
            name="bets",
            linkage=SINGLE,
            distance_max=0.3,
            gross_weight_max=0.2,
            opposites_are_alike=opposites,
        )
        portfolio_id = await ready(client, limit)
        asked = bets(
            INSTRUMENTS[4:6],
            [0.9, 0.9],
            [LONG, SHORT],
            portfolio_id=portfolio_id,
            covariance_matrix_id=matrix_id,
        )
        weight = np.array((await client.size(asked)).sizes.weight)
        assert np.abs(weight).sum() == pytest.approx(total, abs=1e-4)


async def test_scenarios_tell_what_is_alike_where_there_is_no_covariance(client: Client) -> None:
    rng = np.random.default_rng(3)
    scenarios = 0.02 * rng.standard_normal((60, N))
    scenarios[:, 1] = scenarios[:, 0] + 0.002 * rng.standard_normal(60)
    matrix_id = await put_matrix(client, "SCENARIOS", scenarios)
    limit = Cluster(name="alike", linkage=SINGLE, distance_max=0.3, net_weight_max=0.1)
    portfolio_id = await ready(client, limit)
    asked = bets(
        INSTRUMENTS[:3],
        [0.9] * 3,
        [LONG] * 3,
        portfolio_id=portfolio_id,
        scenario_matrix_id=matrix_id,
    )
    decision = await client.size(asked)
    correlation = np.corrcoef(scenarios.T)
    assert found(decision, "alike") == read_plainly(limit, correlation, [0, 1, 2])
    assert decision.sizes.weight[0] + decision.sizes.weight[1] == pytest.approx(0.1, abs=1e-4)
    assert decision.sizes.weight[2] == pytest.approx(0.1, abs=1e-4)
    kind = types_pb2.LIMIT_KIND_GROUP_NET_MAX
    assert list(decision.sizes.binding) == [kind] * 3


async def test_a_request_can_only_tighten(client: Client) -> None:
    matrix_id = await put_matrix(client, "COVARIANCE", 4e-4 * PAIRS)
    weights = []
    for gross, own in ((0.2, None), (0.2, 0.3), (0.2, 0.1)):
        given = {"name": "alike", "linkage": SINGLE, "distance_max": 0.4}
        portfolio_id = await ready(client, Cluster(**given, gross_weight_max=gross))
        asked = bets(
            INSTRUMENTS[:2],
            [0.9] * 2,
            [LONG] * 2,
            portfolio_id=portfolio_id,
            covariance_matrix_id=matrix_id,
        )
        if own is not None:
            asked.limits.clusters.add(**given, gross_weight_max=own)
        decision = await client.size(asked)
        weights.append(sum(decision.sizes.weight))
    assert weights == pytest.approx([0.2, 0.2, 0.1], abs=1e-4)
    assert [c.name for c in decision.clusters] == ["alike 1", "alike (2) 1"]
    # A what-if may add a limit on clusters too.
    variation = sizing_service_pb2.Variation(name="less")
    variation.limits.clusters.add(**given, gross_weight_max=0.05)
    asked.request_id, asked.portfolio_id = "", await ready(client)
    answer = await client.sizing.WhatIf(
        sizing_service_pb2.WhatIfRequest(base=asked, variations=[variation])
    )
    assert sum(answer.base.sizes.weight) == pytest.approx(0.1, abs=1e-4)
    assert sum(answer.results[0].sizes.weight) == pytest.approx(0.05, abs=1e-4)


async def test_ties_are_decided_by_the_ids(client: Client) -> None:
    """All alike to the last digit: whatever the order of lines, the clusters are the same."""
    matrix_id = await put_matrix(client, "COVARIANCE", 4e-4 * (0.5 * np.eye(N) + 0.5))
    limit = Cluster(
        name="two",
        linkage=correlation_service_pb2.LINKAGE_AVERAGE,
        cluster_count=2,
        gross_weight_max=0.2,
    )
    seen = []
    for names in (INSTRUMENTS[:5], INSTRUMENTS[4::-1]):
        portfolio_id = await ready(client, limit)
        asked = bets(
            names, [0.9] * 5, [LONG] * 5, portfolio_id=portfolio_id, covariance_matrix_id=matrix_id
        )
        decision = await client.size(asked)
        seen.append([(c.name, list(c.instrument_ids)) for c in decision.clusters])
    assert seen[0] == seen[1]


async def test_a_decision_without_correlations_is_refused(client: Client) -> None:
    limit = Cluster(name="alike", linkage=SINGLE, distance_max=0.4, gross_weight_max=0.2)
    portfolio_id = await ready(client, limit)
    asked = bets(["I0"], [0.6], [LONG], portfolio_id=portfolio_id)
    answer = await refusal(client.size(asked))
    assert (answer.code, answer.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "MISSING_MATRIX",
    )
    assert "'alike'" in answer.message
    assert "covariance_universe" in answer.message
    asked.covariance_matrix_id = await put_matrix(client, "COVARIANCE", 1e-4 * np.eye(2))
    holdings = portfolio_service_pb2.SetHoldingsRequest(portfolio_id=portfolio_id, cash=9e5)
    holdings.holdings.instrument_ids.append("I7")
    holdings.holdings.quantity.append(100.0)
    await client.portfolio.SetHoldings(holdings)
    answer = await refusal(client.size(asked))
    assert answer.reason == "MISSING_MATRIX_ENTRY"
    assert "'I7'" in answer.message
    assert "'alike'" in answer.message
    assert await client.counts(portfolio_id) == (0, 0)


async def test_more_clusters_than_can_apply_are_refused(client: Client) -> None:
    limits = [
        Cluster(name=f"c{k}", linkage=SINGLE, cluster_count=8, net_weight_max=0.1 + 0.01 * k)
        for k in range(8)
    ]
    portfolio_id = await ready(client, *limits)
    asked = bets(INSTRUMENTS, [0.6] * N, [LONG] * N, portfolio_id=portfolio_id)
    asked.covariance_matrix_id = await put_matrix(client, "COVARIANCE", 1e-4 * np.eye(N))
    answer = await refusal(client.size(asked))
    assert answer.reason == "TOO_MANY_GROUPS"
    assert "'c7'" in answer.message


WRONG = {
    "name": ({"name": ""}, {"name": "MISSING"}),
    "linkage": ({"linkage": 0}, {"linkage": "MISSING"}),
    "no cut": ({"distance_max": None}, {"distance_max": "AMBIGUOUS"}),
    "two cuts": ({"cluster_count": 2}, {"distance_max": "AMBIGUOUS"}),
    "no bound": ({"gross_weight_max": None}, {"gross_weight_max": "MISSING"}),
    "range": ({"distance_max": -0.1}, {"distance_max": "OUT_OF_RANGE"}),
    "net of opposites": (
        {"opposites_are_alike": True, "net_weight_max": 0.1},
        {"net_weight_max": "NOT_APPLICABLE"},
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_limit_that_says_too_little_is_refused(client: Client, case: str) -> None:
    change, expected = WRONG[case]
    given = {"name": "a", "linkage": SINGLE, "distance_max": 0.4, "gross_weight_max": 0.2}
    limit = Cluster(**{k: v for k, v in (given | change).items() if v is not None})
    portfolio_id = await client.ready()
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    answer = await refusal(client.set_limits(scope, clusters=[limit]))
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert answer.fields == {f"limits.clusters[0].{k}": v for k, v in expected.items()}
