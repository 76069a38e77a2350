"""Combinatorial purged cross-validation: many pasts in place of one (Lopez de Prado 2018, 12.3).

Bets by time are cut into N groups. Each choice of k of them is a split: the k are forecast by what
was learned from the others, without bets that overlap them or are nearer than the embargo. The
j-th split in which a group is tested makes its part of the j-th path, so that every path is
forecasts of all bets: C(N, k) splits make C(N - 1, k - 1) paths.

Splits learn from later bets as well. So the paths say how much a record depends on the stretch of
time that it is of, not what a model would have known; the evidence stays that of walk-forward.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from compute.learn.rows import Rows
from compute.learn.splits import Fold
from compute.market import Floats, Integers

Forecast = Callable[[Rows, Rows], Floats]
"""Probabilities of the second rows, by what the first teach."""


@dataclass(frozen=True)
class Combinatorial:
    """groups: N; tested: k, below N."""

    groups: int
    tested: int

    @property
    def splits(self) -> int:
        """How many trainings."""
        return comb(self.groups, self.tested)

    @property
    def paths(self) -> int:
        """How many forecasts of every bet."""
        return comb(self.groups - 1, self.tested - 1)


@dataclass(frozen=True)
class Split:
    """Groups that are tested, places of rows that teach, and the rows of each tested group."""

    tested: tuple[int, ...]
    train: Integers
    blocks: tuple[Integers, ...]

    @property
    def fold(self) -> Fold:
        """All tested rows together."""
        return Fold(self.train, np.concatenate(self.blocks))


def blocks(rows: Rows, groups: int) -> list[Integers]:
    """Places of about as many rows each, by time; rows of one start are never parted."""
    cuts = [len(rows) * i // groups for i in range(groups)]
    firsts = np.unique(np.searchsorted(rows.start, rows.start[cuts]))
    return [
        np.arange(first, after)
        for first, after in zip(firsts, [*firsts[1:], len(rows)], strict=True)
    ]


def splits(rows: Rows, plan: Combinatorial, embargo: int = 0) -> list[Split]:
    """All of them, in the order of their groups; rows: by time.

    Purged: a row teaches only where the time from its start to its end, both included, meets that
    of no tested row. embargo: nanoseconds kept free beside it on both sides of each tested group;
    Lopez de Prado's is after it alone. Fewer than `groups` starts make fewer groups.
    """
    parts = blocks(rows, plan.groups)
    found = []
    for tested in combinations(range(len(parts)), plan.tested):
        teaches = np.ones(len(rows), dtype=bool)
        for group in tested:
            own = parts[group]
            begin, end = int(rows.start[own[0]]), int(rows.end[own].max())
            is_before = rows.end < begin - embargo
            teaches &= is_before | (rows.start > end + embargo)
        found.append(
            Split(tested, np.flatnonzero(teaches), tuple(parts[group] for group in tested))
        )
    return found


def path_forecasts(rows: Rows, found: list[Split], forecast: Forecast) -> Floats:
    """Forecasts of every row on every path, (paths, n)."""
    seen: dict[int, int] = {}
    paths = sum(0 in split.tested for split in found)
    out = np.full((paths, len(rows)), np.nan)
    for split in found:
        said = forecast(rows.take(split.train), rows.take(split.fold.test))
        first = 0
        for group, own in zip(split.tested, split.blocks, strict=True):
            path = seen.get(group, 0)
            seen[group] = path + 1
            out[path, own] = said[first : first + len(own)]
            first += len(own)
    return out
