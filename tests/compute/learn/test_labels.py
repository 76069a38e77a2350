"""Labels, splits and windows: numbers of the literature, and nothing that looks ahead."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.learn.evidence import e_value
from compute.learn.labels import triple_barrier, uniqueness
from compute.learn.rows import Rows
from compute.learn.splits import walk_forward, windows

CLOSES = np.array([100.0, 101.0, 100.5, 102.2, 101.0, 99.0, 98.5])


@pytest.mark.parametrize(
    ("up", "down", "horizon", "end", "side", "outcome"),
    [
        (0.02, 0.02, 6, 3, 1, 0.022),
        (0.03, 0.01, 6, 5, -1, -0.01),
        (0.03, 0.02, 4, 4, 0, 0.01),
    ],
)
def test_the_first_barrier_counts(
    up: float, down: float, horizon: int, end: int, side: int, outcome: float
) -> None:
    width = np.full(7, up), np.full(7, down)
    found = triple_barrier(CLOSES, *width, horizon)
    assert (found.end[0], found.side[0]) == (end, side)
    assert found.outcome[0] == pytest.approx(outcome, abs=1e-12)
    after_cost = triple_barrier(CLOSES, *width, horizon, cost=0.001).outcome[0]
    assert after_cost == pytest.approx(outcome - 0.001, abs=1e-12)


@pytest.mark.parametrize("future", [np.nan, 1e9])
def test_labels_do_not_look_beyond_their_end(future: float) -> None:
    closes = 100.0 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.02, 200)))
    width = np.full(200, 0.03)
    whole = triple_barrier(closes, width, width, 10)
    for cut in (50, 120):
        changed = closes.copy()
        changed[cut:] = future
        again = triple_barrier(changed, width, width, 10)
        over = (whole.end >= 0) & (whole.end < cut)
        assert (again.outcome[over] == whole.outcome[over]).all()
        assert (again.end[over] == whole.end[over]).all()


def test_uniqueness_is_that_of_the_book() -> None:
    found = uniqueness(np.array([0, 2, 4]), np.array([2, 3, 5]))
    assert found == pytest.approx([5 / 6, 3 / 4, 1.0], abs=1e-15)


def rows_of(start: np.ndarray, span: np.ndarray) -> Rows:
    n = len(start)
    ones = np.ones(n)
    zeros = np.zeros(n, dtype=np.int64)
    end = start + span
    return Rows(("x",), np.zeros((n, 1)), start, end, zeros * 1.0, ones, ones, zeros).by_time()


STARTS = st.lists(st.integers(0, 300), min_size=30, max_size=120)


@given(STARTS, st.integers(1, 40), st.integers(0, 20), st.integers(1, 6))
def test_no_row_teaches_what_overlaps_it(
    starts: list[int], span: int, embargo: int, folds: int
) -> None:
    rows = rows_of(np.array(starts), np.full(len(starts), span))
    seen: list[int] = []
    for fold in walk_forward(rows, folds, embargo):
        opening = rows.start[fold.test].min()
        assert (rows.end[fold.train] + embargo < opening).all()
        # No row that would do is left out, and rows of one start stay together.
        assert (rows.end + embargo < opening).sum() == len(fold.train)
        seen += fold.test.tolist()
    assert len(seen) == len(set(seen))
    assert seen == sorted(seen)


@given(STARTS, st.lists(st.integers(1, 60), min_size=120, max_size=120))
def test_windows_never_overlap(starts: list[int], spans: list[int]) -> None:
    rows = rows_of(np.array(starts), np.array(spans[: len(starts)]))
    number = windows(rows)
    assert number[0] == 0
    last = -1
    for window in range(number.max() + 1):
        own = number == window
        assert rows.start[own].min() > last
        last = rows.end[own].max()


def test_bets_that_run_together_are_one_bet_of_evidence() -> None:
    ratio = np.full(6, 2.0)
    assert e_value(np.array([0, 1, 2, 3, 4, 5]), ratio) == pytest.approx(64.0)
    assert e_value(np.zeros(6, dtype=np.int64), ratio) == pytest.approx(2.0)
    assert e_value(np.array([0, -1, -1, 1, -1, -1]), ratio) == pytest.approx(4.0)


def test_luck_alone_rarely_makes_evidence() -> None:
    """Ville: with no edge, wealth reaches 20 in at most one of 20 histories."""
    random, reached = np.random.default_rng(5), 0
    for _ in range(400):
        won = random.random((60, 8)) < 0.5
        won[:, 1:] = won[:, :1]  # eight instruments that move as one
        claimed = random.uniform(0.35, 0.65, (60, 8))
        ratio = np.where(won, claimed, 1.0 - claimed) / 0.5
        reached += e_value(np.repeat(np.arange(60), 8), ratio.ravel()) >= 20.0
    assert reached <= 0.05 * 400
