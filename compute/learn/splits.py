"""Which rows may teach what is tried on which: walk-forward, purged and embargoed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compute.learn.rows import Rows
from compute.market import Integers


@dataclass(frozen=True)
class Fold:
    """Places of rows. Every outcome of `train` was known before the first row of `test`."""

    train: Integers
    test: Integers


def walk_forward(rows: Rows, folds: int, embargo: int) -> list[Fold]:
    """`folds` later blocks of about as many rows, each tried on what came before it.

    rows: by time. Rows of one start are never parted. Purged: a row teaches only where its outcome
    was known before the block begins, by more than `embargo` (nanoseconds). The first block in time
    only teaches; blocks with nothing before them are left out.
    """
    cuts = [len(rows) * i // (folds + 1) for i in range(1, folds + 1)]
    firsts = np.unique(np.searchsorted(rows.start, rows.start[cuts]))
    found = []
    for first, after in zip(firsts, [*firsts[1:], len(rows)], strict=True):
        train = before(rows, int(rows.start[first]), embargo)
        if len(train):
            found.append(Fold(train, np.arange(first, after)))
    return found


def held_back(rows: Rows, share: float, embargo: int) -> Fold:
    """The last `share` of the rows and those before that may teach what is tried on them."""
    first = int(np.searchsorted(rows.start, rows.start[int(len(rows) * (1.0 - share))]))
    return Fold(before(rows, int(rows.start[first]), embargo), np.arange(first, len(rows)))


def before(rows: Rows, time: int, embargo: int = 0) -> Integers:
    """Places of the rows whose outcome was known before `time`, by more than `embargo`."""
    return np.flatnonzero(rows.end < time - embargo)


def windows(rows: Rows) -> Integers:
    """A number for each row, (n,), rising by time: rows of different windows don't overlap.

    A window begins with the first row that starts after all rows of the one before have ended. It
    takes in the rows that start before those that began it have ended; what starts later, but
    before all of it has ended, belongs to none and has -1. rows: by time.
    """
    number = np.full(len(rows), -1)
    for count, (first, after) in enumerate(_windows(rows)):
        number[first:after] = count
    return number


def _windows(rows: Rows) -> Iterator[tuple[int, int]]:
    first = 0
    while first < len(rows):
        opening = rows.start == rows.start[first]
        after = int(np.searchsorted(rows.start, rows.end[opening].max(), side="left"))
        after = max(after, int(np.searchsorted(rows.start, rows.start[first], side="right")))
        yield first, after
        first = int(np.searchsorted(rows.start, rows.end[first:after].max(), side="right"))
