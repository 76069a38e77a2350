"""No accepted book gets lots beyond any limit, whatever the book, by a check of its own."""

import os

import numpy as np
import pytest
from plain_limits import breaches
from random_books import Case, case

from compute.book import MissingInputError, prepare
from compute.columns import Stage
from compute.decide import LineStatus, Sizing, size
from compute.guard import Guard
from compute.inputs import Inputs
from compute.shapes import KernelRegistry
from compute.sizing import GRID

# A hundred thousand where it counts, fewer where somebody waits; `make books` runs a million.
BOOKS = int(os.environ.get("BOOKS", "100000" if os.environ.get("CI") == "true" else "10000"))
CHUNKS = 20


def decided(item: Case, kernels: KernelRegistry) -> Sizing:
    """The decision on a case."""
    sheet = prepare(item.market, item.positions, item.limits, item.shared)
    guard = Guard(item.market, item.positions, item.limits, item.shared)
    inputs = Inputs(
        signals=item.signals,
        index=item.index,
        active=item.active,
        known=np.ones(len(item.index), dtype=bool),
        sheet=sheet,
        parameters=item.parameters,
        reducing=item.reducing,
    )
    return size(inputs, guard, kernels)


def telescopes(stages: np.ndarray) -> bool:
    """Whether the steps, added one by one in doubles, lead exactly from the first row to the last.

    Steps are exact for weights up to 2^13; books with more than eight thousand times their equity
    in one instrument round in the last digit.
    """
    exact = np.abs(stages).max(axis=0) <= 2.0**12
    total = stages[0].copy()
    for step in np.diff(stages, axis=0):
        total += step
    on_grid = stages * GRID == np.rint(stages * GRID)
    return bool((total == stages[-1])[exact].all() and on_grid.all())


@pytest.mark.timeout(max(600, BOOKS // 100))
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_book_gets_lots_beyond_a_limit(chunk: int, kernels: KernelRegistry) -> None:
    rng = np.random.default_rng([20260801, chunk])
    accepted = traded = 0
    for number in range(BOOKS // CHUNKS):
        item = case(rng)
        try:
            made = decided(item, kernels)
        except MissingInputError as refused:
            assert refused.reason == "TOO_MANY_LOTS"
            continue
        accepted += 1
        where = f"chunk {chunk}, book {number}"
        broken = breaches(
            item.market,
            item.positions,
            item.limits,
            item.shared,
            item.index.tolist(),
            made.trade_lots.tolist(),
            reducing=item.reducing,
        )
        assert not broken, f"{where}: {broken}"
        assert telescopes(made.stages), where
        assert not made.trade_lots[~item.active].any(), where
        assert (made.status[~item.active] == LineStatus.REFUSED).all(), where
        assert np.isfinite(made.stages).all(), where
        before = made.stages[Stage.RECONCILE][~item.active]
        assert (made.stages[-1][~item.active] == before).all(), where
        traded += bool(made.trade_lots.any())
    assert accepted > 0.9 * (BOOKS // CHUNKS)
    assert traded > 0.5 * accepted, "most books should lead to a trade"
