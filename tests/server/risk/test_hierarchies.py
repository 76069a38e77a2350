"""HRP, HERC and NCO asked of a running service, against skfolio and programs of cvxpy."""

import cvxpy as cp
import numpy as np
import pytest
from positionsizing.v1 import correlation_service_pb2 as pb
from positionsizing.v1 import market_service_pb2
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from tests.server.support.service_client import Client, new_id, refusal

LINKAGES = ("SINGLE", "COMPLETE", "AVERAGE", "WARD")


async def stored(client: Client, values: np.ndarray) -> str:
    """A covariance of A, B, C ..."""
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("tree"),
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=[chr(ord("A") + i) for i in range(len(values))],
        dense=market_service_pb2.DenseMatrix(values=values.ravel()),
    )
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    return matrix.matrix_id


async def allocated(
    client: Client, values: np.ndarray, method: int, **fields: object
) -> pb.AllocateByHierarchyResponse:
    """The answer for a covariance stored anew."""
    request = pb.AllocateByHierarchyRequest(
        matrix_id=await stored(client, values), method=method, **fields
    )
    return await client.correlation.AllocateByHierarchy(request)


def market(seed: int) -> np.ndarray:
    """Returns of 3 to 11 instruments with four factors and unlike risks, (300, n)."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 12))
    common = rng.standard_normal((300, 4)) @ rng.standard_normal((4, n))
    out: np.ndarray = (common + rng.standard_normal((300, n))) * rng.uniform(0.002, 0.03, n)
    return out


def least_variance(values: np.ndarray) -> np.ndarray:
    """min w'Sw with w >= 0 that sum to 1."""
    scale = float(np.sqrt(np.diag(values).mean()))
    weights = cp.Variable(len(values), nonneg=True)
    root = np.linalg.cholesky(values / scale**2)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(root.T @ weights)), [cp.sum(weights) == 1])
    problem.solve(cp.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)
    return np.asarray(weights.value)


@pytest.mark.parametrize("name", LINKAGES)
@pytest.mark.parametrize("seed", range(3))
async def test_herc_is_that_of_skfolio(client: Client, seed: int, name: str) -> None:
    """With every number of clusters."""
    from skfolio.cluster import HierarchicalClustering, LinkageMethod
    from skfolio.optimization import HierarchicalEqualRiskContribution

    returns = market(seed)
    for count in range(1, returns.shape[1] + 1):
        answer = await allocated(
            client,
            np.cov(returns.T),
            pb.HIERARCHY_METHOD_HERC,
            linkage=pb.Linkage.Value(f"LINKAGE_{name}"),
            cluster_count=count,
        )
        tree = HierarchicalClustering(max_clusters=count, linkage_method=LinkageMethod[name])
        model = HierarchicalEqualRiskContribution(hierarchical_clustering_estimator=tree)
        np.testing.assert_allclose(answer.weights, model.fit(returns).weights_, atol=1e-12)


@pytest.mark.parametrize("name", LINKAGES)
@pytest.mark.parametrize("seed", range(3))
async def test_nco_is_least_variance_in_clusters_and_of_them(
    client: Client, seed: int, name: str
) -> None:
    """By SciPy's clusters and programs of cvxpy; skfolio's solver, on the sample, comes near."""
    from skfolio.cluster import HierarchicalClustering, LinkageMethod
    from skfolio.optimization import MeanRisk, NestedClustersOptimization

    returns = market(seed)
    values, n = np.cov(returns.T), returns.shape[1]
    between = squareform(np.sqrt((1.0 - np.corrcoef(returns.T).clip(-1, 1)) / 2), checks=False)
    for count in range(1, n + 1):
        answer = await allocated(
            client,
            values,
            pb.HIERARCHY_METHOD_NCO,
            linkage=pb.Linkage.Value(f"LINKAGE_{name}"),
            cluster_count=count,
        )
        label = fcluster(linkage(between, name.lower()), count, "maxclust")
        inside = np.zeros((n, label.max()))
        for k in range(label.max()):
            places = np.flatnonzero(label == k + 1)
            inside[places, k] = least_variance(values[np.ix_(places, places)])
        expected = inside @ least_variance(inside.T @ values @ inside)
        np.testing.assert_allclose(answer.weights, expected, atol=1e-8)
        if count == 2:
            tree = HierarchicalClustering(max_clusters=2, linkage_method=LinkageMethod[name])
            model = NestedClustersOptimization(
                inner_estimator=MeanRisk(),
                outer_estimator=MeanRisk(),
                clustering_estimator=tree,
                cv="ignore",
            )
            np.testing.assert_allclose(answer.weights, model.fit(returns).weights_, atol=2e-3)


async def test_a_lower_bound_above_the_upper_one_is_refused(client: Client) -> None:
    found = await refusal(
        allocated(
            client,
            np.diag([0.01, 0.04]),
            pb.HIERARCHY_METHOD_HRP,
            lower=[0.0, 0.5],
            upper=[1.0, 0.2],
        )
    )
    assert found.fields == {"lower[1]": "CONTRADICTORY"}


async def test_a_perfect_hedge_has_no_risk_and_no_shares_of_it(client: Client) -> None:
    values = np.array([[0.04, -0.06], [-0.06, 0.09]])
    answer = await allocated(client, values, pb.HIERARCHY_METHOD_NCO)
    assert list(answer.weights) == pytest.approx([0.6, 0.4], abs=1e-9)
    assert answer.volatility == 0.0
    assert not answer.risk_share


async def test_nco_of_risks_of_unlike_size(client: Client) -> None:
    """Of independent instruments least variance is inverse to variances, whatever their size."""
    variance = np.array([1e-18, 1e-16, 4e-4, 1.0])
    answer = await allocated(client, np.diag(variance), pb.HIERARCHY_METHOD_NCO, cluster_count=2)
    expected = 1.0 / variance / (1.0 / variance).sum()
    np.testing.assert_allclose(answer.weights, expected, rtol=1e-9, atol=2e-12)
