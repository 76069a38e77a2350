"""Matrices estimated through the service, from what a client can see of them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import correlation_service_pb2 as pb
from positionsizing.v1 import history_service_pb2 as history_pb
from positionsizing.v1 import market_service_pb2 as market_pb
from sklearn.covariance import LedoitWolf

from server.convert.matrix import matrix
from tests.server.risk.test_histories import part, put
from tests.server.support.service_client import Client, new_id, refusal

PRICES = Path(__file__).parents[3] / "examples" / "prices.csv"
LATER = [name for name in pb.CovarianceEstimator.keys() if "UNSPEC" not in name]  # noqa: SIM118


def closes() -> tuple[list[str], np.ndarray]:
    with PRICES.open() as file:
        rows = list(csv.reader(file))
    return rows[0][1:], np.array([row[1:] for row in rows[1:]], dtype=float)


async def stored_closes(client: Client, count: int = 754) -> tuple[str, np.ndarray]:
    """A universe of the example closes; returns it with its returns."""
    names, prices = closes()
    universe = new_id("closes")
    await put(client, part(universe, prices[:count].tolist(), instrument_ids=names))
    return universe, prices[1:count] / prices[: count - 1] - 1.0


async def values_of(client: Client, matrix_id: str) -> np.ndarray:
    answer = await client.market.GetMatrix(market_pb.GetMatrixRequest(matrix_id=matrix_id))
    return matrix(answer.matrix).values


def numbers(provenance: market_pb.MatrixProvenance) -> dict[str, float]:
    return {item.name: item.value for item in provenance.settings}


async def estimate(client: Client, universe: str, **given: Any) -> pb.EstimateMatrixResponse:
    request = pb.EstimateMatrixRequest(universe_id=universe, **given)
    return await client.correlation.EstimateMatrix(request)


async def test_twins_whose_likelihood_is_one_of_rounding_errors_are_estimated_all_the_same(
    client: Client,
) -> None:
    rng, universe = np.random.default_rng(8), new_id("twins")
    first = 100.0 * np.cumprod(1.0 + 0.01 * rng.standard_normal(60))
    late = np.where(np.arange(60) < 50, 1.0, 1.0 + 1e-3 * rng.standard_normal(60))
    prices = np.column_stack([first, 3.0 * first * (1.0 + 1e-12 * rng.standard_normal(60)) * late])
    await put(client, part(universe, prices.tolist(), instrument_ids=["A", "B"]))
    made = await estimate(client, universe)
    assert not made.provenance.HasField("log_likelihood_sample")
    assert made.provenance.HasField("log_likelihood")
    assert made.instrument_count == 2


async def test_the_default_is_ledoit_wolf_of_scikit_learn(client: Client) -> None:
    universe, returns = await stored_closes(client)
    made = await estimate(client, universe)
    assert made.instrument_count == 20
    oracle = LedoitWolf().fit(returns)
    covariance = await values_of(client, made.matrix_id)
    order = np.argsort(closes()[0])  # instruments by name
    np.testing.assert_allclose(covariance, oracle.covariance_[np.ix_(order, order)], rtol=1e-9)
    found = made.provenance
    assert numbers(found)["shrinkage"] == pytest.approx(oracle.shrinkage_, rel=1e-9)
    assert (found.estimator, found.observation_count) == ("LEDOIT_WOLF", 753)
    assert found.log_likelihood > 0
    assert found.HasField("log_likelihood_sample")
    again = await estimate(client, universe)
    assert again == made, "the same inputs are the same matrix"
    earlier = pb.EstimateMatrixRequest(universe_id=universe)
    earlier.as_of_time.FromSeconds(made.as_of_time.seconds - 86400)
    other = await client.correlation.EstimateMatrix(earlier)
    assert other.matrix_id != made.matrix_id
    assert other.provenance.observation_count == 752


@pytest.mark.parametrize("name", LATER)
async def test_every_estimator_stores_what_a_book_can_be_sized_with(
    client: Client, name: str
) -> None:
    universe, returns = await stored_closes(client, 300)
    estimator = pb.CovarianceEstimator.Value(name)
    given: dict[str, Any] = {"estimator": estimator, "kind": market_pb.MATRIX_KIND_CORRELATION}
    if name.endswith("GIVEN_FACTORS"):
        given["factor_ids"] = ["XOM", "JPM"]
    made = await estimate(client, universe, **given)
    correlation = await values_of(client, made.matrix_id)
    np.testing.assert_allclose(np.diag(correlation), 1.0, atol=1e-12)
    assert np.linalg.eigvalsh(correlation)[0] > -1e-10
    if name.endswith("DETONED"):
        refused = await refusal(estimate(client, universe, estimator=estimator))
        assert refused.fields == {"kind": "NOT_APPLICABLE"}
        return
    given["kind"] = market_pb.MATRIX_KIND_COVARIANCE
    covariance = await values_of(client, (await estimate(client, universe, **given)).matrix_id)
    ratio = np.sqrt(np.diag(covariance)).mean() / returns.std()
    assert 0.5 < ratio < 3.0, "per period of the history"
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(covariance / np.outer(deviation, deviation), correlation, atol=1e-9)


async def test_factors_stay_factors(client: Client) -> None:
    universe, _ = await stored_closes(client)
    estimator = pb.COVARIANCE_ESTIMATOR_PRINCIPAL_FACTORS
    made = await estimate(client, universe, estimator=estimator)
    request = market_pb.GetMatrixRequest(matrix_id=made.matrix_id)
    stored = (await client.market.GetMatrix(request)).matrix
    assert stored.WhichOneof("form") == "factor"
    count = int(numbers(made.provenance)["factor_count"])
    assert len(stored.factor.loadings) == 20 * count


def contradicting() -> np.ndarray:
    """Returns of three instruments, each pair over times of its own: 1-2 and 2-3 move together,
    1-3 against each other."""
    rng = np.random.default_rng(0)
    rows = []
    for pair, sign in (((0, 1), 1.0), ((1, 2), 1.0), ((0, 2), -1.0)):
        x = rng.normal(size=40) * 0.01
        block = np.full((40, 3), np.nan)
        block[:, pair[0]], block[:, pair[1]] = x, sign * x + rng.normal(size=40) * 0.001
        rows.append(block)
    return np.vstack(rows)


async def test_pairs_that_contradict_are_refused_or_repaired(client: Client) -> None:
    universe = new_id("pairs")
    rows = contradicting().tolist()
    await put(client, part(universe, rows, kind=history_pb.HISTORY_KIND_RETURNS))
    refused = await refusal(estimate(client, universe))
    assert refused.reason == "HISTORY_GAPS"
    pairwise: dict[str, Any] = {
        "gap_policy": history_pb.GAP_POLICY_PAIRWISE,
        "estimator": pb.COVARIANCE_ESTIMATOR_SAMPLE,
    }
    refused = await refusal(estimate(client, universe, **pairwise))
    assert refused.reason == "NOT_POSITIVE_SEMIDEFINITE"
    made = await estimate(
        client, universe, **pairwise, indefinite_policy=market_pb.INDEFINITE_POLICY_NEAREST
    )
    found = made.provenance
    assert found.smallest_eigenvalue < -0.9
    assert found.repair_distance > 0.5
    covariance = await values_of(client, made.matrix_id)
    assert np.linalg.eigvalsh(covariance)[0] > -1e-18
    assert np.sqrt(covariance[0, 0]) == pytest.approx(0.01, rel=0.3), "variances are kept"
    refused = await refusal(estimate(client, universe, gap_policy=history_pb.GAP_POLICY_PAIRWISE))
    assert refused.fields == {"gap_policy": "NOT_APPLICABLE"}


async def test_an_uploaded_matrix_is_refused_or_repaired(client: Client) -> None:
    given = market_pb.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_pb.MATRIX_KIND_CORRELATION,
        instrument_ids=["A", "B", "C"],
        dense=market_pb.DenseMatrix(values=[1, 1, 0, 1, 1, 1, 0, 1, 1]),
    )
    request = market_pb.PutMatrixRequest(matrix=given)
    refused = await refusal(client.market.PutMatrix(request))
    assert refused.reason == "NOT_POSITIVE_SEMIDEFINITE"
    request.indefinite_policy = market_pb.INDEFINITE_POLICY_NEAREST
    answer = await client.market.PutMatrix(request)
    assert answer.repair_distance == pytest.approx(0.5278, abs=5e-5), "Higham 2002"
    assert await client.market.PutMatrix(request) == answer
    values = await values_of(client, given.matrix_id)
    assert values[0, 1] == pytest.approx(0.7607, abs=5e-5)
    request.matrix.dense.values[1] = float("nan")
    assert (await refusal(client.market.PutMatrix(request))).reason == "NOT_FINITE"


async def test_scenarios_are_the_returns(client: Client) -> None:
    universe, returns = await stored_closes(client, 50)
    given: dict[str, Any] = {"kind": market_pb.MATRIX_KIND_SCENARIOS}
    made = await estimate(client, universe, **given, instrument_ids=["AAPL", "XOM"])
    scenarios = await values_of(client, made.matrix_id)
    np.testing.assert_allclose(scenarios, returns[:, [0, 19]], rtol=1e-12)
    ewma = pb.COVARIANCE_ESTIMATOR_EWMA
    weighted = await estimate(client, universe, **given, estimator=ewma)
    request = market_pb.GetMatrixRequest(matrix_id=weighted.matrix_id)
    stored = (await client.market.GetMatrix(request)).matrix
    weights = np.array(stored.scenario_probability)
    np.testing.assert_allclose(weights[:-1] / weights[1:], 0.97, rtol=1e-9)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"settings": pb.EstimatorSettings(decay=1.0)}, "settings.decay"),
        ({"held_out_fraction": 0.9}, "held_out_fraction"),
        ({"estimator": 77}, "estimator"),
        ({"instrument_ids": ["AAPL", "ZZZ"]}, "instrument_ids[1]"),
        ({"factor_ids": ["AAPL"]}, "factor_ids"),
        ({"settings": pb.EstimatorSettings(factor_count=-1)}, "settings.factor_count"),
        ({"universe_id": "a b"}, "universe_id"),
    ],
)
async def test_what_is_wrong_is_named(client: Client, given: dict[str, Any], field: str) -> None:
    universe, _ = await stored_closes(client, 30)
    request = pb.EstimateMatrixRequest(**{"universe_id": universe, **given})
    refused = await refusal(client.correlation.EstimateMatrix(request))
    assert list(refused.fields) == [field]


async def test_what_cannot_be_estimated_is_said(client: Client) -> None:
    flat = [[1.0, 2.0], [1.0, 2.2], [1.0, 2.1], [1.0, 2.3]]
    universe = new_id("flat")
    await put(client, part(universe, flat))
    assert (await refusal(estimate(client, universe))).reason == "NO_VARIANCE"
    few = new_id("few")
    await put(client, part(few, [[1.0, 2.0], [1.1, 2.2], [1.0, 2.1], [1.2, 2.3]]))
    estimator = pb.COVARIANCE_ESTIMATOR_DCC
    refused = await refusal(estimate(client, few, estimator=estimator))
    assert refused.reason == "NOT_ESTIMABLE"
    assert (await refusal(estimate(client, "nowhere"))).reason == "HISTORY_NOT_FOUND"


async def test_clusters_put_alike_instruments_side_by_side(client: Client) -> None:
    universe, _ = await stored_closes(client)
    made = await estimate(client, universe)
    request = pb.ClusterInstrumentsRequest(matrix_id=made.matrix_id)
    answer = await client.correlation.ClusterInstruments(request)
    assert sorted(answer.instrument_ids) == sorted(closes()[0])
    cluster = dict(zip(answer.instrument_ids, answer.cluster, strict=True))
    assert cluster["CVX"] == cluster["XOM"], "two oil majors"
    assert cluster["KO"] == cluster["PEP"]
    assert cluster["JPM"] == cluster["BAC"]
    assert (np.diff(answer.cluster) >= 0).all()
    assert answer.correlation_within > answer.correlation_between + 0.1
    assert len(answer.left) == len(answer.distance) == 19
    assert (np.diff(answer.distance) >= -1e-12).all()
    request.cluster_count = 2
    assert (await client.correlation.ClusterInstruments(request)).cluster_count == 2
    request.cluster_count = 21
    refused = await refusal(client.correlation.ClusterInstruments(request))
    assert refused.fields == {"cluster_count": "OUT_OF_RANGE"}


R12 = np.array([[1, 0.8, 0.1, 0.2], [0.8, 1, 0.3, 0.1], [0.1, 0.3, 1, 0.6], [0.2, 0.1, 0.6, 1]])
VOLATILITY = np.array([0.1, 0.2, 0.3, 0.4])


async def r12(client: Client) -> str:
    """The covariance of R12."""
    matrix = market_pb.Matrix(
        matrix_id=new_id("r12"),
        kind=market_pb.MATRIX_KIND_COVARIANCE,
        instrument_ids=["A", "B", "C", "D"],
        dense=market_pb.DenseMatrix(values=(R12 * np.outer(VOLATILITY, VOLATILITY)).ravel()),
    )
    await client.market.PutMatrix(market_pb.PutMatrixRequest(matrix=matrix))
    return matrix.matrix_id


async def test_hierarchical_weights_r12(client: Client) -> None:
    request = pb.AllocateByHierarchyRequest(
        matrix_id=await r12(client), method=pb.HIERARCHY_METHOD_HRP
    )
    answer = await client.correlation.AllocateByHierarchy(request)
    expected = [0.69897745, 0.17474436, 0.08081804, 0.04546015]
    assert list(answer.weights) == pytest.approx(expected, abs=5e-9)
    assert sum(answer.risk_share) == pytest.approx(1.0, rel=1e-12)
    assert "single linkage, condensed" in answer.variant
    request.upper[:] = [0.4, 0.4, 0.4, 0.4]
    request.lower[:] = [0.0, 0.0, 0.0, 0.1]
    answer = await client.correlation.AllocateByHierarchy(request)
    assert sum(answer.weights) == pytest.approx(1.0, abs=1e-12)
    assert max(answer.weights) <= 0.4
    assert answer.weights[3] >= 0.1
    request.upper[:] = [0.2] * 4
    refused = await refusal(client.correlation.AllocateByHierarchy(request))
    assert refused.reason == "INFEASIBLE_LIMITS"
    herc = pb.AllocateByHierarchyRequest(
        matrix_id=request.matrix_id, method=pb.HIERARCHY_METHOD_HERC, total=0.5
    )
    answer = await client.correlation.AllocateByHierarchy(herc)
    assert sum(answer.weights) == pytest.approx(0.5, abs=1e-12)
    herc.method = pb.HIERARCHY_METHOD_UNSPECIFIED
    refused = await refusal(client.correlation.AllocateByHierarchy(herc))
    assert refused.fields == {"method": "MISSING"}


@pytest.mark.parametrize("refresh", [False, True])
async def test_a_universe_that_no_id_can_be_is_named(client: Client, refresh: bool) -> None:
    request = pb.EstimateMatrixRequest(universe_id="a\x00b", refresh=refresh)
    found = await refusal(client.correlation.EstimateMatrix(request))
    assert found.fields == {"universe_id": "BAD_FORMAT"}
