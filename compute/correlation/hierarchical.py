"""Weights by hierarchy: HRP, HERC and NCO, long only, summing to one, with bounds kept.

They need no expected returns, and but for NCO no inverse. `bounded` puts their weights into a box
afterwards and keeps the sum, which implementations that clip while they bisect don't do (skfolio
#141: weights beyond their bounds, or a sum below one).
"""

import numpy as np
from scipy.cluster.hierarchy import leaves_list
from scipy.linalg import cho_factor, cho_solve

from compute.correlation.clusters import clustered, tree_of
from compute.correlation.linkage import Method
from compute.correlation.sample import correlation_of
from compute.history import Floats, Integers
from compute.optimize.time_limit import checkpoint

_BLOCKS_MAX = 3
"""Exchanges of many names at once that may go by without a smaller number of them."""
_ROUNDING = 1e-13


def inverse_variance(covariance: Floats) -> Floats:
    """1 / s_i^2, summing to one, (n,)."""
    inverse = 1.0 / np.diag(covariance)
    return np.asarray(inverse / inverse.sum())


def hierarchical_risk_parity(
    covariance: Floats, method: Method = "single", *, ordered: bool = False
) -> Floats:
    """HRP (Lopez de Prado 2016, J. Portfolio Management 42(4)), (n,).

    Instruments in leaf order are bisected; each half gets a share inverse to its variance under
    inverse-variance weights. Distances condensed, single linkage, leaves as they come, as in
    PyPortfolioOpt, Riskfolio-Lib and skfolio; the paper's listing differs (`clusters.tree_of`).
    """
    correlation, _ = correlation_of(covariance)
    n = len(covariance)
    if n == 1:
        return np.ones(1)
    order = np.asarray(leaves_list(tree_of(correlation, method, ordered=ordered)), dtype=np.int64)
    weights = np.ones(n)
    parts = [order]
    while parts:
        halves = [
            half
            for part in parts
            for half in (part[: len(part) // 2], part[len(part) // 2 :])
            if len(part) > 1
        ]
        for left, right in zip(halves[::2], halves[1::2], strict=True):
            checkpoint()
            risk_left, risk_right = _variance(covariance, left), _variance(covariance, right)
            share = risk_right / (risk_left + risk_right)
            weights[left] *= share
            weights[right] *= 1.0 - share
        parts = [half for half in halves if len(half) > 1]
    return weights


def _variance(covariance: Floats, places: Integers) -> float:
    """Variance of some instruments under inverse-variance weights."""
    part = covariance[np.ix_(places, places)]
    weights = inverse_variance(part)
    return float(weights @ part @ weights)


def hierarchical_equal_risk(
    covariance: Floats, method: Method = "ward", cluster_count: int = 0
) -> Floats:
    """HERC (Raffinot 2018, "The hierarchical equal risk contribution portfolio"), (n,).

    The tree is followed from the top down to the clusters: at each join both sides get shares
    inverse to the sum of their clusters' risk (variance under inverse-variance weights).
    Within a cluster weights are inverse to variances.
    """
    correlation, _ = correlation_of(covariance)
    n = len(covariance)
    if n == 1:
        return np.ones(1)
    found = clustered(correlation, method, cluster_count)
    members = [np.flatnonzero(found.label == k) for k in range(1, found.count + 1)]
    risk = np.array([_variance(covariance, places) for places in members])
    weights = np.zeros(n)
    shares = _shares(found.tree, found.label, risk)
    for places, share in zip(members, shares, strict=True):
        checkpoint()
        weights[places] = share * inverse_variance(covariance[np.ix_(places, places)])
    return weights


def nested_clusters(covariance: Floats, method: Method = "ward", cluster_count: int = 0) -> Floats:
    """NCO (Lopez de Prado 2019, "A robust estimator of the efficient frontier"), (n,).

    Least variance within each cluster, long only; then of the clusters, whose covariance is that of
    the books so found. One cluster, or one instrument each, is least variance itself.
    """
    correlation, _ = correlation_of(covariance)
    found = clustered(correlation, method, cluster_count)
    inside = np.zeros((len(covariance), found.count))
    for k in range(found.count):
        checkpoint()
        places = np.flatnonzero(found.label == k + 1)
        inside[places, k] = least_variance(covariance[np.ix_(places, places)])
    return np.asarray(inside @ least_variance(inside.T @ covariance @ inside))


def least_variance(covariance: Floats) -> Floats:
    """min w'Sw with w >= 0 and sum w = 1, (n,).

    By min 1/2 x'Sx - 1'x over x >= 0, whose solution has the direction of w. Its optimum is where
    x >= 0 and y = Sx - 1 >= 0 with x'y = 0, found by exchanging all names of the wrong sign at
    once, and only the last of them, which can't cycle, where that stops to help (Judice and Pires
    1994, "A block principal pivoting algorithm for large-scale strictly monotone linear
    complementarity problems"). For singular S variances are larger by a millionth of a millionth.
    """
    n = len(covariance)
    scale = np.sqrt(np.diag(covariance))
    scale = np.where(scale > 0.0, scale, 1.0)
    matrix = covariance / np.outer(scale, scale) + 1e-12 * np.eye(n)
    aim = float(scale.min()) / scale
    held, fewest, tries = np.ones(n, dtype=np.bool_), n + 1, _BLOCKS_MAX
    point = np.zeros(n)
    for _ in range(100 + 20 * n):  # rounding could go round for ever
        checkpoint()
        point = np.zeros(n)
        if held.any():
            point[held] = cho_solve(cho_factor(matrix[np.ix_(held, held)]), aim[held])
        wrong = np.where(
            held, point < -_ROUNDING * np.abs(point).max(), matrix @ point - aim < -_ROUNDING
        )
        count = int(wrong.sum())
        if count == 0:
            break
        if count < fewest:
            fewest, tries = count, _BLOCKS_MAX
        elif tries > 0:
            tries -= 1
        else:
            wrong[: int(np.flatnonzero(wrong)[-1])] = False
        held = held ^ wrong
    weights = np.maximum(point, 0.0) / scale
    return np.asarray(weights / weights.sum())


def _shares(tree: Floats, label: Integers, risk: Floats) -> Floats:
    """Share of each cluster, (k,), from the top of the tree."""
    n = len(label)
    leaves: list[frozenset[int]] = [frozenset([int(label[i]) - 1]) for i in range(n)]
    for left, right in tree[:, :2].astype(int):
        checkpoint()
        leaves.append(leaves[left] | leaves[right])
    shares = np.ones(len(risk))
    for left, right in tree[::-1, :2].astype(int):
        checkpoint()
        ours, theirs = leaves[left], leaves[right]
        if ours == theirs and len(ours) == 1:
            continue  # inside a cluster
        mine, other = list(ours), list(theirs)
        total_left, total_right = risk[mine].sum(), risk[other].sum()
        shares[mine] *= total_right / (total_left + total_right)
        shares[other] *= total_left / (total_left + total_right)
    return shares


def bounded(weights: Floats, lower: Floats, upper: Floats) -> Floats:
    """The weights scaled into [lower, upper] with their sum kept: clip(c w, lower, upper), (n,).

    c is found by bisection; proportions stay as they are inside the bounds. Raises `ValueError`
    where no weights within the bounds have that sum.
    """
    total = float(weights.sum())
    if lower.sum() > total + 1e-12 or upper.sum() < total - 1e-12:
        raise ValueError(f"bounds reach from {lower.sum():g} to {upper.sum():g}, not {total:g}")
    # A name of weight 0 can only get its lower bound by scaling: all get a sliver.
    shape = np.maximum(weights, 1e-12 * max(total, 1e-300))
    low, high = 0.0, 1.0
    while np.clip(high * shape, lower, upper).sum() < total and high < 1e15:
        high *= 2.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if np.clip(middle * shape, lower, upper).sum() < total:
            low = middle
        else:
            high = middle
    out: Floats = np.clip(high * shape, lower, upper)
    free = (out > lower) & (out < upper)
    if free.any():  # what bisection left over
        out[free] += (total - out.sum()) * out[free] / out[free].sum()
    return np.clip(out, lower, upper)
