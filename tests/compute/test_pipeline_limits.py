"""No accepted book gets lots beyond any limit, whatever the book, by a check of its own."""

import os

import numpy as np
import pytest

from compute.inputs import Inputs
from compute.limits.bounds import prepare
from compute.market import MissingInputError, equity_of
from compute.shapes import KernelRegistry
from compute.sizing import size_together
from compute.waterfall.layout import Stage
from compute.waterfall.pipeline import LineStatus, Sizing
from compute.waterfall.stages import GRID
from tests.compute.plain_limits import breaches
from tests.compute.random_books import Case, case

# Fifty thousand where it counts, fewer where somebody waits; `make books` runs a million.
BOOKS = int(os.environ.get("BOOKS", "50000" if os.environ.get("CI") == "true" else "10000"))
CHUNKS = 20
TOGETHER = 64
"""Books sized in one go, as the service does with what waits."""


def asked(item: Case) -> Inputs:
    """What a case asks to be sized. Raises `MissingInputError` where it is refused."""
    limit_bounds = prepare(item.market, item.positions, item.limits, item.shared)
    known = np.ones(len(item.index), dtype=bool)
    return Inputs(
        item.signals, item.index, item.active, known, limit_bounds, item.parameters, item.reducing
    )


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


def check(item: Case, made: Sizing) -> None:
    """Asserts what holds for every decision."""
    broken = breaches(
        item.market,
        item.positions,
        item.limits,
        item.shared,
        item.index.tolist(),
        made.trade_lots.tolist(),
        reducing=item.reducing,
    )
    assert not broken
    assert telescopes(made.stages)
    assert not made.trade_lots[~item.active].any()
    assert (made.status[~item.active] == LineStatus.REFUSED).all()
    assert np.isfinite(made.stages).all()
    before = made.stages[Stage.RECONCILE][~item.active]
    assert (made.stages[-1][~item.active] == before).all()
    # A size that is not what the edge and the risk rules ask for says which limit made it so.
    lot_weight = (item.market.price * item.market.lot_size)[item.index]
    lot_weight /= equity_of(item.market, item.positions)
    moved = np.abs(made.weight - made.stages[Stage.JOINT_OPTIMUM]) > 1.01 * lot_weight + 4.0 / GRID
    assert (made.binding.kind[item.active & moved] > 0).all()


@pytest.mark.timeout(max(600, BOOKS // 100))
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_book_gets_lots_beyond_a_limit(chunk: int, kernels: KernelRegistry) -> None:
    rng = np.random.default_rng([20260801, chunk])
    accepted = traded = 0
    for start in range(0, BOOKS // CHUNKS, TOGETHER):
        questions = {}
        for number in range(start, min(start + TOGETHER, BOOKS // CHUNKS)):
            item = case(rng)
            try:
                questions[number] = item, asked(item)
            except MissingInputError as refused:
                assert refused.reason == "TOO_MANY_LOTS"
        answers = size_together([asked for _, asked in questions.values()], kernels)
        for number, made in zip(questions, answers, strict=True):
            item, _ = questions[number]
            try:
                check(item, made)
            except AssertionError as failed:
                failed.add_note(f"chunk {chunk}, book {number}")
                raise
            traded += bool(made.trade_lots.any())
        accepted += len(answers)
    assert accepted > 0.9 * (BOOKS // CHUNKS)
    assert traded > 0.5 * accepted, "most books should lead to a trade"
