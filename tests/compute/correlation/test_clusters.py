"""Clusters and hierarchical weights against published numbers and skfolio."""

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import leaves_list

from compute.correlation.clusters import clustered, cut, distances, mean_correlations, tree_of
from compute.correlation.hierarchical import (
    bounded,
    hierarchical_equal_risk,
    hierarchical_risk_parity,
    inverse_variance,
    least_variance,
    nested_clusters,
)
from compute.correlation.sample import scaled

VOLATILITY = np.array([0.1, 0.2, 0.3, 0.4])
R12 = np.array([[1, 0.8, 0.1, 0.2], [0.8, 1, 0.3, 0.1], [0.1, 0.3, 1, 0.6], [0.2, 0.1, 0.6, 1]])
R12B = np.array(
    [[1, -0.12, 0.56, 0.34], [-0.12, 1, 0.47, 0.38], [0.56, 0.47, 1, 0.52], [0.34, 0.38, 0.52, 1]]
)


def blocks(sizes: list[int], inside: float, between: float) -> np.ndarray:
    label = np.repeat(np.arange(len(sizes)), sizes)
    out = np.where(label[:, None] == label[None, :], inside, between)
    np.fill_diagonal(out, 1.0)
    return out


def test_hrp_r12() -> None:
    weights = hierarchical_risk_parity(scaled(R12, VOLATILITY))
    expected = [0.69897745, 0.17474436, 0.08081804, 0.04546015]
    np.testing.assert_allclose(weights, expected, atol=5e-9)


def test_hrp_takes_distances_condensed_r12b() -> None:
    weights = hierarchical_risk_parity(scaled(R12B, VOLATILITY))
    expected = [0.69867540, 0.17895520, 0.07763060, 0.04473880]
    np.testing.assert_allclose(weights, expected, atol=5e-9)
    assert leaves_list(tree_of(R12B, "single", ordered=False)).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("weigh", [hierarchical_risk_parity, hierarchical_equal_risk])
def test_hierarchical_properties_r12c(weigh) -> None:  # type: ignore[no-untyped-def]
    two = scaled(np.array([[1, 0.4], [0.4, 1]]), VOLATILITY[:2])
    np.testing.assert_allclose(weigh(two), inverse_variance(two), rtol=1e-12)
    if weigh is hierarchical_risk_parity:  # HERC adds up the risks of clusters, which is not that
        diagonal = np.diag(VOLATILITY**2)
        np.testing.assert_allclose(weigh(diagonal), inverse_variance(diagonal), rtol=1e-12)
    rng = np.random.default_rng(0)
    root = rng.normal(size=(7, 40))
    covariance = root @ root.T / 40
    weights = weigh(covariance)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert (weights >= 0).all()
    order = rng.permutation(7)
    again = weigh(covariance[np.ix_(order, order)])
    if weigh is hierarchical_equal_risk:  # bisection by leaf order depends on it
        np.testing.assert_allclose(again, weights[order], rtol=1e-9)
    np.testing.assert_allclose(weigh(covariance * 7.0), weights, rtol=1e-9)
    assert weigh(np.array([[0.04]])).tolist() == [1.0]


def test_hrp_is_that_of_skfolio() -> None:
    from skfolio.cluster import HierarchicalClustering, LinkageMethod
    from skfolio.distance import PearsonDistance
    from skfolio.optimization import HierarchicalRiskParity
    from skfolio.prior import EmpiricalPrior
    from skfolio.seriation import HierarchicalSeriation

    returns = np.random.default_rng(4).normal(size=(300, 8)) @ np.diag(np.linspace(0.01, 0.03, 8))
    returns[:, 4:] += 0.02 * np.random.default_rng(5).normal(size=(300, 1))
    model = HierarchicalRiskParity(
        prior_estimator=EmpiricalPrior(),
        distance_estimator=PearsonDistance(),
        seriation_estimator=HierarchicalSeriation(
            hierarchical_clustering_estimator=HierarchicalClustering(
                linkage_method=LinkageMethod.SINGLE
            )
        ),
    ).fit(returns)
    ours = hierarchical_risk_parity(np.cov(returns.T), ordered=True)
    np.testing.assert_allclose(ours, model.weights_, rtol=1e-6)


def test_clusters_are_found_and_ordered() -> None:
    truth = blocks([4, 3, 5], 0.7, 0.1)
    order = np.random.default_rng(1).permutation(12)
    shuffled = truth[np.ix_(order, order)]
    found = clustered(shuffled)
    assert found.count == 3
    groups = np.repeat([0, 1, 2], [4, 3, 5])[order]
    for k in range(3):
        assert len(set(found.label[groups == k])) == 1
    assert (np.diff(found.label[found.order]) >= 0).all(), "counted in leaf order, side by side"
    within, between = mean_correlations(shuffled, found.label)
    assert (within, between) == pytest.approx((0.7, 0.1))
    assert clustered(shuffled, count=2).count == 2
    assert clustered(np.ones((1, 1))).label.tolist() == [1]


@pytest.mark.parametrize("clusters", [1, 3, 9])
def test_mean_correlations_are_those_of_all_pairs(clusters: int) -> None:
    rng = np.random.default_rng(clusters)
    correlation = np.corrcoef(rng.normal(size=(9, 30)))
    label = np.arange(9) % clusters + 1
    pairs: dict[bool, list[float]] = {True: [], False: []}
    for i in range(9):
        for j in range(i):
            pairs[bool(label[i] == label[j])].append(correlation[i, j])
    expected = [float(np.mean(pairs[same])) if pairs[same] else 0.0 for same in (True, False)]
    assert mean_correlations(correlation, label) == pytest.approx(expected, abs=1e-14)


def test_leaf_order_is_no_worse_than_as_it_comes() -> None:
    from scipy.spatial.distance import squareform

    rng = np.random.default_rng(2)
    correlation = np.corrcoef(rng.normal(size=(20, 30)))
    square = squareform(distances(correlation))

    def length(ordered: bool) -> float:
        order = leaves_list(tree_of(correlation, "average", ordered=ordered))
        return float(square[order[:-1], order[1:]].sum())

    assert length(True) < length(False)


@given(st.integers(0, 10_000), st.integers(2, 12))
@settings(deadline=None)
def test_bounds_hold_and_the_sum_is_kept(seed: int, n: int) -> None:
    """skfolio #141: clipping while bisecting leaves weights out of bounds, or a sum below one."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(n) * 0.3)
    lower, upper = rng.uniform(0, 1 / n, n), rng.uniform(1 / n, 1, n)
    out = bounded(weights, lower, upper)
    assert (out >= lower).all()
    assert (out <= upper).all()
    assert out.sum() == pytest.approx(1.0, abs=1e-9)
    inside = (out > lower + 1e-9) & (out < upper - 1e-9) & (weights > 1e-6)
    ratio = out[inside] / weights[inside]
    assert np.ptp(ratio) <= 1e-6 * ratio.max() if inside.any() else True
    np.testing.assert_allclose(bounded(weights, np.zeros(n), np.ones(n)), weights, atol=1e-9)


def test_bounds_that_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="bounds reach"):
        bounded(np.array([0.5, 0.5]), np.zeros(2), np.array([0.4, 0.4]))


def test_least_variance_is_that_of_a_quadratic_program() -> None:
    root = np.random.default_rng(4).normal(size=(8, 20)) + 0.5
    covariance = root @ root.T / 20
    w = cp.Variable(8)
    cp.Problem(cp.Minimize(cp.quad_form(w, covariance)), [w >= 0, cp.sum(w) == 1]).solve(
        solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12
    )
    np.testing.assert_allclose(least_variance(covariance), w.value, atol=1e-6)


def test_nested_clusters_are_least_variance_in_two_steps() -> None:
    """Uncorrelated: inverse variances. Of blocks: least variance inside each, then of both."""
    diagonal = np.diag(VOLATILITY**2)
    np.testing.assert_allclose(nested_clusters(diagonal), inverse_variance(diagonal), rtol=1e-9)
    covariance = scaled(blocks([2, 3], 0.7, 0.1), np.array([0.1, 0.2, 0.15, 0.25, 0.3]))
    inside = np.zeros((5, 2))
    inside[:2, 0] = least_variance(covariance[:2, :2])
    inside[2:, 1] = least_variance(covariance[2:, 2:])
    expected = inside @ least_variance(inside.T @ covariance @ inside)
    weights = nested_clusters(covariance, "ward", 2)
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(nested_clusters(covariance, "ward", 1), least_variance(covariance))


def test_a_cut_takes_equal_correlations_as_equal() -> None:
    """0.3 thrice, off by what arithmetic leaves: at its distance all join, below none does."""
    correlation = np.full((3, 3), 0.3) + 0.7 * np.eye(3)
    correlation[0, 1] += 1e-15
    correlation[1, 2] -= 1e-15
    at = float(np.sqrt(0.35))
    assert cut(correlation, "complete", distance_max=at).tolist() == [1, 1, 1]
    assert cut(correlation, "complete", distance_max=at - 1e-9).tolist() == [1, 2, 3]
    assert cut(correlation[:1, :1], "ward", count=2).tolist() == [1]
