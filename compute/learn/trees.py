"""Sums of decision trees as numbers, and their value for new features.

A line goes left where its feature is at most the threshold, right where it is above; a missing
feature (NaN) goes as the node says. The logit of a group is its base and the values of the leaves
of its trees, summed in their order, as the libraries sum them.

Trees aren't walked. Of a tree's leaves, in order from left to right, each node that sends a line
right rules out those to its left, whatever the other nodes say, and the first leaf that is left is
the line's (Lucchese and others 2015, "QuickScorer"). Which leaves a feature rules out depends only
on its place among the thresholds: so a line looks up one row a feature in a table that was made
before, of one 64 bit word a tree, and joins them by `and`. That is a handful of array operations
whatever the depth, with nothing to compile, and what a line gets doesn't depend on its neighbours.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from compute.learn.calibration import Calibrator
from compute.learn.members import Member, jackknifed
from compute.market import Floats, Integers

LEAVES_MAX = 64
"""Of a tree: bits of a word."""
NODES_MAX = 50_000
"""Of all trees of a member."""
LEAF = -1
"""In the place of a feature."""
_EVERY = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_Words = NDArray[np.uint64]


class TreeError(ValueError):
    """Why numbers are no trees; `where` names the node."""

    def __init__(self, where: str, text: str) -> None:
        super().__init__(f"{where} {text}")
        self.where = where
        self.text = text


@dataclass(frozen=True)
class Nodes:
    """All nodes of all trees, those of a tree together, its root first and parents before children.

    root: (T,), where each tree begins, rising from 0. The rest is (N,): feature, a column, or -1 of
    a leaf; threshold and missing_left of nodes; left and right, places in these arrays, later than
    the node's own; value of leaves.
    """

    root: Integers
    feature: Integers
    threshold: Floats
    left: Integers
    right: Integers
    missing_left: Integers
    value: Floats

    def check(self, n_features: int) -> None:
        """Raises `TreeError` where these are no trees over so many features."""
        n = len(self.feature)
        if not 1 <= n <= NODES_MAX or not len(self.root):
            raise TreeError("the trees", f"have {n} nodes; from 1 to {NODES_MAX} are read")
        for name in ("threshold", "left", "right", "missing_left", "value"):
            if len(getattr(self, name)) != n:
                raise TreeError(name, f"has {len(getattr(self, name))} entries of {n}")
        starts = self.root.tolist()
        if starts[0] != 0 or starts[-1] >= n or (np.diff(self.root) <= 0).any():
            raise TreeError("root", "must rise from 0")
        for tree, (first, after) in enumerate(zip(starts, [*starts[1:], n], strict=True)):
            self._check_tree(tree, first, after, n_features)

    def _check_tree(self, tree: int, first: int, after: int, n_features: int) -> None:
        parents, leaves = np.zeros(after - first, dtype=np.int64), 0
        for node in range(first, after):
            where = f"tree {tree}, node {node - first},"
            if self.feature[node] == LEAF:
                leaves += 1
                if not np.isfinite(self.value[node]):
                    raise TreeError(where, "has a value that is no finite number")
                continue
            if not 0 <= self.feature[node] < n_features:
                text = f"reads feature {self.feature[node]} of {n_features}"
                raise TreeError(where, text)
            if not np.isfinite(self.threshold[node]):
                raise TreeError(where, "has a threshold that is no finite number")
            for child in (int(self.left[node]), int(self.right[node])):
                if not node < child < after:
                    raise TreeError(where, "has a child that is not later in the same tree")
                parents[child - first] += 1
        if (parents[1:] != 1).any():
            raise TreeError(f"tree {tree}", "has a node that isn't the child of exactly one other")
        if leaves > LEAVES_MAX:
            raise TreeError(f"tree {tree}", f"has {leaves} leaves; at most {LEAVES_MAX} are read")


@dataclass(frozen=True)
class Trees(Member):
    """Boosted trees, calibrated. base: the logit each of G groups begins with, (G,); group: of each
    tree, (T,), rising. Groups are fits that lack a stretch of the rows each (`jackknifed`); trees
    from elsewhere are one group."""

    features: tuple[str, ...]
    nodes: Nodes
    base: Floats
    group: Integers
    calibrator: Calibrator = field(default_factory=Calibrator)

    def score(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Member`."""
        return jackknifed(self.logits(x))

    def logits(self, x: Floats) -> Floats:
        """Of each group, (G, n); x: (n, k), which may be NaN."""
        values = self._leaf_values(x)
        first = np.searchsorted(self.group, np.arange(len(self.base) + 1))
        out = np.empty((len(self.base), len(x)))
        for g, base in enumerate(self.base):
            total = np.full(len(x), base)
            for tree in range(first[g], first[g + 1]):  # one after the other, as the libraries do
                total += values[tree]
            out[g] = total
        return out

    def _leaf_values(self, x: Floats) -> Floats:
        """Of each tree, (T, n)."""
        tables = self._tables
        alive = np.full((len(x), len(self.nodes.root)), _EVERY)
        for place, (thresholds, ruled_out) in enumerate(tables.by_feature):
            column = x[:, place]
            rank = np.searchsorted(thresholds, column, "left")
            rank = np.where(np.isnan(column), len(thresholds) + 1, rank)
            alive &= ruled_out[rank]
        below_first = ~alive & (alive - np.uint64(1))  # the bits below the lowest that is set
        leaf = np.bitwise_count(below_first).T
        found: Floats = tables.leaf_value[np.arange(len(leaf))[:, None], leaf]
        return found

    @cached_property
    def _tables(self) -> "_Tables":
        return _tables(self.nodes, len(self.features))


@dataclass(frozen=True)
class _Tables:
    """by_feature: of each feature its thresholds, rising, (m,), and the leaves that are left at
    each place among them, (m + 2, T); the last row is a missing one's. leaf_value: (T, L)."""

    by_feature: list[tuple[Floats, _Words]]
    leaf_value: Floats


def _tables(nodes: Nodes, n_features: int) -> _Tables:
    left_leaves, leaf_value = _leaves(nodes)
    tree = np.searchsorted(nodes.root, np.arange(len(nodes.feature)), "right") - 1
    found = []
    for feature in range(n_features):
        own = np.flatnonzero(nodes.feature == feature)
        thresholds, places = np.unique(nodes.threshold[own], return_inverse=True)
        table = np.full((len(thresholds) + 2, len(nodes.root)), _EVERY)
        for node, place in zip(own, places, strict=True):
            table[place + 1, tree[node]] &= ~left_leaves[node]
            if not nodes.missing_left[node]:
                table[-1, tree[node]] &= ~left_leaves[node]
        np.bitwise_and.accumulate(table[:-1], axis=0, out=table[:-1])
        found.append((thresholds, table))
    return _Tables(found, leaf_value)


def _leaves(nodes: Nodes) -> tuple[_Words, Floats]:
    """The leaves to the left of each node as bits, (N,), and the values of each tree's leaves from
    left to right, (T, L)."""
    n, count = len(nodes.feature), np.ones(len(nodes.feature), dtype=np.int64)
    for node in range(n - 1, -1, -1):  # children come later
        if nodes.feature[node] != LEAF:
            count[node] = count[nodes.left[node]] + count[nodes.right[node]]
    first, left = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.uint64)
    values = np.zeros((len(nodes.root), int(count[nodes.root].max())))
    tree = np.searchsorted(nodes.root, np.arange(n), "right") - 1
    for node in range(n):
        if nodes.feature[node] == LEAF:
            values[tree[node], first[node]] = nodes.value[node]
            continue
        one, other = nodes.left[node], nodes.right[node]
        first[one], first[other] = first[node], first[node] + count[one]
        left[node] = ((1 << int(count[one])) - 1) << int(first[node])
    return left, values
