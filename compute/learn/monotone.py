"""Whether trees only rise, or only fall, with a feature, everything else being equal.

A tree is a number for each of the boxes that its leaves are. It rises with feature j where of any
two boxes that agree in every other feature, values or both missing, the one with more of j has the
value that is not smaller. Libraries that take constraints promise it of each tree, and so does the
sum; here it is looked at exactly, box by box. A line that lacks j has no more and no less of it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compute.learn.trees import LEAF, Nodes, TreeError, Trees
from compute.market import Floats, Integers

RISING, FALLING = 1, -1


class NotMonotoneError(TreeError):
    """A tree that breaks a constraint."""


def check(trees: Trees, rising: Sequence[str], falling: Sequence[str]) -> None:
    """Raises `NotMonotoneError`: the first tree that goes the other way, and where."""
    directions = [(name, RISING) for name in rising] + [(name, FALLING) for name in falling]
    places = {trees.features.index(name): (name, sign) for name, sign in directions}
    nodes, ends = trees.nodes, [*trees.nodes.root[1:].tolist(), len(trees.nodes.feature)]
    for tree, (first, after) in enumerate(zip(nodes.root.tolist(), ends, strict=True)):
        used = np.unique(nodes.feature[first:after])
        constrained = [int(place) for place in used if int(place) in places]
        if constrained:
            boxes = _Boxes(nodes, first, after, used[used != LEAF])
            for place in constrained:
                _check_one(tree, boxes, place, *places[place])


def _check_one(tree: int, boxes: "_Boxes", place: int, name: str, sign: int) -> None:
    low, high, value = boxes.broken(place, sign)
    if len(low):
        verb = "falls" if sign == RISING else "rises"
        text = f"{verb} with {name!r}, from {value[low[0]]:g} to {value[high[0]]:g}"
        edge = boxes.low[high[0], boxes.column(place)]
        raise NotMonotoneError(f"tree {tree}", f"{text}, as it comes to be above {edge:g}")


class _Boxes:
    """Of L leaves, by the K features that their tree splits: above `low` and at most `high`, or
    missing where `missing`, (L, K) each; value (L,)."""

    def __init__(self, nodes: Nodes, first: int, after: int, features: Integers) -> None:
        self._features = features.tolist()
        count, k = after - first, len(features)
        low, high = np.full((count, k), -np.inf), np.full((count, k), np.inf)
        missing = np.ones((count, k), dtype=bool)
        for node in range(first, after):  # parents come first
            if nodes.feature[node] == LEAF:
                continue
            own, bound = self.column(int(nodes.feature[node])), nodes.threshold[node]
            at, goes_left = node - first, bool(nodes.missing_left[node])
            left, right = int(nodes.left[node]) - first, int(nodes.right[node]) - first
            for child in (left, right):
                low[child], high[child], missing[child] = low[at], high[at], missing[at]
            high[left, own] = min(high[at, own], bound)
            low[right, own] = max(low[at, own], bound)
            missing[left, own] &= goes_left
            missing[right, own] &= not goes_left
        leaf = nodes.feature[first:after] == LEAF
        self.low, self.high, self.missing = low[leaf], high[leaf], missing[leaf]
        self.value: Floats = nodes.value[first:after][leaf]

    def column(self, place: int) -> int:
        """Where a feature is among those that the tree splits by."""
        return int(self._features.index(place))

    def broken(self, place: int, sign: int) -> tuple[Integers, Integers, Floats]:
        """Pairs of leaves, the one with less of the feature first, that go against `sign`."""
        own = self.column(place)
        others = [column for column in range(len(self._features)) if column != own]
        agree = np.ones((len(self.value),) * 2, dtype=bool)
        for column in others:
            agree &= self._meet(column)
        low, high = self.low[:, own], self.high[:, own]
        has = low < high  # else only missing values end there
        below = (high[:, None] <= low[None, :]) & has[:, None] & has[None, :]
        worse = sign * (self.value[None, :] - self.value[:, None]) < 0.0
        first, second = np.nonzero(agree & below & worse)
        return first, second, self.value

    def _meet(self, column: int) -> NDArray[np.bool_]:
        low, high = self.low[:, column], self.high[:, column]
        both = np.maximum.outer(low, low) < np.minimum.outer(high, high)
        lacking = self.missing[:, column]
        return np.asarray(both | (lacking[:, None] & lacking[None, :]))
