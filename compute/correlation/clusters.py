"""Hierarchical clusters of instruments, and the order that puts alike ones side by side."""

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from compute.correlation.linkage import Method
from compute.history import Floats, Integers

DECIMALS = 12
"""Of correlations in `cut`: what is left of equal ones after arithmetic differs by less."""

ORDERED_MAX = 250
"""The optimal order of more takes long, time that grows with n^4 and that no thread can share."""


@dataclass(frozen=True)
class Clusters:
    """order (n,): places in leaf order, the optimal one up to `ORDERED_MAX`. label (n,): cluster of
    each place, counted from 1 in leaf order. tree (n-1, 4): SciPy's linkage matrix over places."""

    order: Integers
    label: Integers
    tree: Floats

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.label.max())


def distances(correlation: Floats) -> Floats:
    """sqrt((1 - rho) / 2), condensed (n(n-1)/2,): a metric, 0 for alike, 1 for opposite."""
    matrix = np.sqrt(np.clip(0.5 * (1.0 - correlation), 0.0, 1.0))
    np.fill_diagonal(matrix, 0.0)
    return np.asarray(squareform(0.5 * (matrix + matrix.T), checks=False))


def tree_of(correlation: Floats, method: Method, *, ordered: bool = True) -> Floats:
    """SciPy's linkage of the condensed distances, leaves in optimal order (Bar-Joseph et al. 2001).

    Distances are handed over condensed. A square matrix would be taken as points whose Euclidean
    distances are wanted, which gives another tree (the ambiguity of published HRP code).
    """
    between = distances(correlation)
    tree = linkage(between, method=method)
    return np.asarray(optimal_leaf_ordering(tree, between) if ordered else tree)


def clustered(correlation: Floats, method: Method = "ward", count: int = 0) -> Clusters:
    """Clusters of n instruments. count: how many; 0 for the largest gap between joins.

    One instrument is one cluster.
    """
    n = len(correlation)
    if n == 1:
        return Clusters(np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64), np.zeros((0, 4)))
    tree = tree_of(correlation, method, ordered=n <= ORDERED_MAX)
    order = np.asarray(leaves_list(tree), dtype=np.int64)
    raw = fcluster(tree, count or _natural_count(tree), criterion="maxclust")
    names: dict[int, int] = {}
    for place in order:
        names.setdefault(int(raw[place]), len(names) + 1)
    label = np.array([names[int(value)] for value in raw], dtype=np.int64)
    return Clusters(order, label, tree)


def cut(
    correlation: Floats,
    method: Method,
    *,
    distance_max: float | None = None,
    count: int | None = None,
) -> Integers:
    """The cluster of each of n instruments, numbered from 1 as they come, (n,).

    distance_max: clusters join up to this distance; else `count` of them are left, fewer where ties
    join. Correlations are taken to `DECIMALS`, so that those that are meant to be equal are.
    """
    n = len(correlation)
    if n == 1:
        return np.ones(1, dtype=np.int64)
    tree = tree_of(np.round(correlation, DECIMALS), method, ordered=False)
    if distance_max is None:
        raw = fcluster(tree, count, criterion="maxclust")
    else:
        raw = fcluster(tree, distance_max, criterion="distance")
    names: dict[int, int] = {}
    return np.array([names.setdefault(int(v), len(names) + 1) for v in raw], dtype=np.int64)


def _natural_count(tree: Floats) -> int:
    """Clusters left where the next join is the largest step, at least 2 and at most n / 2 + 1."""
    heights = tree[:, 2]
    n = len(heights) + 1
    if n <= 3:
        return min(2, n)
    steps = np.diff(heights)
    lowest = max(0, n - 1 - (n // 2 + 1))
    best = lowest + int(np.argmax(steps[lowest:]))
    return n - 1 - best


def mean_correlations(correlation: Floats, label: Integers) -> tuple[float, float]:
    """Mean over pairs within clusters, and between them; 0 where there is no such pair."""
    n, sizes = len(label), np.bincount(label)
    pairs, inside = n * (n - 1) // 2, int((sizes * (sizes - 1) // 2).sum())
    ones = float(np.trace(correlation))
    total = (float(correlation.sum()) - ones) / 2
    within = (float((correlation * (label[:, None] == label)).sum()) - ones) / 2
    between = (total - within) / (pairs - inside) if pairs > inside else 0.0
    return (within / inside if inside else 0.0), between
