"""Conformal margins and adaptive miss rates: published numbers, promises kept, and closed doors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.learn.conformal import MISS_RATE, STEP, adapted, adaptive, beyond, coverage, margin
from compute.learn.rows import Rows

HOUR = 3_600_000_000_000


def bets(won: np.ndarray, per_day: int = 20) -> Rows:
    """`per_day` bets at each of many days, each over before the next day."""
    n = len(won)
    start = np.arange(n) // per_day * 24 * HOUR
    one = np.ones(n)
    return Rows((), np.zeros((n, 0)), start, start + HOUR, won, one, one, np.arange(n) % per_day)


def test_the_margin_is_that_of_the_reference() -> None:
    """M10.15."""
    low = -1e-3 * np.array([20, 15, 10, 30, 12, 20, 18, 25, 10])
    y = 1e-3 * np.array([10, -20, 12, 5, -11, 25, -30, 0, 8])
    scores = np.sort(beyond(low, -0.9 * low, y))
    assert margin(scores, 0.1) == pytest.approx(0.012, abs=1e-15)
    assert margin(scores, 0.2) == pytest.approx(0.007, abs=1e-15)
    assert margin(scores, 0.05) == np.inf  # the tenth smallest of nine
    assert margin(scores, 0.0) == np.inf
    assert margin(scores, 1.0) == -np.inf


def test_the_miss_rate_moves_as_in_the_reference() -> None:
    """M10.16."""
    rate, seen = 0.1, []
    for missed in (0, 0, 1, 1, 0, 1, 0, 0, 0, 1):
        rate = adapted(rate, bool(missed), 0.1, 0.05)
        seen.append(rate)
    want = [0.105, 0.11, 0.065, 0.02, 0.025, -0.02, -0.015, -0.01, -0.005, -0.05]
    assert seen == pytest.approx(want, abs=1e-15)


@given(st.lists(st.floats(-5.0, 5.0), min_size=50, max_size=400), st.floats(0.0, 3.0))
def test_the_mean_miss_is_bounded_whatever_comes(scores: list[float], drift: float) -> None:
    """The theorem: no distribution, no independence; also where scores drift away."""
    worse = np.array(scores) + drift * np.arange(len(scores))
    margins, _ = adaptive(worse)
    missed = int((worse > margins[:-1]).sum())
    bound = (max(MISS_RATE, 1.0 - MISS_RATE) + STEP) / (STEP * len(scores))
    assert abs(missed / len(scores) - MISS_RATE) <= bound + 1e-12


def test_exchangeable_windows_are_covered_as_promised() -> None:
    random = np.random.default_rng(0)
    p = random.uniform(0.3, 0.7, 20_000)
    found = coverage(bets((random.random(20_000) < p).astype(float)), p, np.zeros(20_000))
    assert found.windows == 1000
    assert found.own == pytest.approx(0.9, abs=0.04)  # luck is all there is, and it is known
    assert found.conformal == pytest.approx(0.9, abs=0.019)
    assert not found.is_closed
    assert abs(found.margin) < 0.05


def test_bets_that_win_together_need_wider_intervals() -> None:
    random = np.random.default_rng(1)
    together = np.repeat(random.random(400) < 0.5, 20).astype(float)
    found = coverage(bets(together), np.full(8000, 0.5), np.zeros(8000))
    assert found.own < 0.1
    assert found.conformal > 0.85
    assert found.margin > 0.2


def test_a_model_that_turns_wrong_closes() -> None:
    """A hundred windows as said, then each day surer of bets that are lost."""
    random = np.random.default_rng(3)
    rows = bets(np.concatenate([(random.random(2000) < 0.5).astype(float), np.zeros(100)]))
    surer = np.repeat([0.6, 0.7, 0.8, 0.9, 0.99], 20)
    p = np.concatenate([np.full(2000, 0.5), surer])
    assert not coverage(rows.take(np.arange(2000)), p[:2000], np.zeros(2000)).is_closed
    found = coverage(rows, p, np.zeros(2100))
    assert found.is_closed
    assert found.margin == np.inf


@pytest.mark.parametrize("future", [np.nan, 1e9])
def test_what_comes_later_changes_nothing(future: float) -> None:
    scores = np.random.default_rng(2).normal(size=100)
    margins, rates = adaptive(scores)
    for cut in (1, 17, 60):
        changed = scores.copy()
        changed[cut:] = future
        again = adaptive(changed)
        assert np.array_equal(again[0][: cut + 1], margins[: cut + 1])
        assert np.array_equal(again[1][: cut + 1], rates[: cut + 1])


def test_nothing_to_judge_is_neither_good_nor_closed() -> None:
    found = coverage(bets(np.zeros(0)), np.zeros(0), np.zeros(0))
    assert (found.windows, found.margin, found.is_closed) == (0, np.inf, False)
