"""The as-of join: by known time, blind to the future, to the order of rows and to restatements."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.learn.asof import NOWHERE, KnownTimes, as_of_join

Row = tuple[int, int, int]


def plainly(rows: list[Row], group: int, moment: int, age_max: int | None) -> int:
    """The definition, row by row."""
    known = [i for i, (g, _, k) in enumerate(rows) if g == group and k < moment]
    if not known:
        return NOWHERE
    best = max(known, key=lambda i: (rows[i][1], rows[i][2]))
    return NOWHERE if age_max is not None and moment - rows[best][1] > age_max else best


def stored(rows: list[Row]) -> KnownTimes:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return KnownTimes(*columns)


ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 15), st.integers(0, 6)), max_size=40, unique=True
).map(lambda rows: [(g, a, a + lag) for g, a, lag in rows])
LINES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=1, max_size=20)


@given(ROWS, LINES, st.none() | st.integers(0, 10))
def test_it_is_the_definition(
    rows: list[Row], lines: list[tuple[int, int]], age_max: int | None
) -> None:
    group, moment = np.array(lines).T
    place, seen = as_of_join(stored(rows), group, moment, age_max)
    for i, (g, t) in enumerate(lines):
        assert place[i] == plainly(rows, g, t, age_max)
        assert seen[i] == plainly(rows, g, t, None)


@given(ROWS, LINES, st.integers(0, 20), st.integers(0, 1000))
def test_nothing_looks_ahead_and_no_order_matters(
    rows: list[Row], lines: list[tuple[int, int]], cut: int, seed: int
) -> None:
    """Values of rows not known before each moment may be anything, even not there."""
    group, moment = np.array(lines).T
    moment = np.minimum(moment, cut)
    values = np.arange(len(rows), dtype=np.float64) + 0.5

    def values_seen(rows: list[Row], values: np.ndarray) -> np.ndarray:
        place, _ = as_of_join(stored(rows), group, moment, None)
        return np.where(place == NOWHERE, -1.0, np.append(values, -1.0)[place])

    whole = values_seen(rows, values)
    future = np.array([k >= cut for _, _, k in rows], dtype=bool)
    for fill in (np.nan, 1e9):
        assert np.array_equal(values_seen(rows, np.where(future, fill, values)), whole)
    order = np.random.default_rng(seed).permutation(len(rows))
    kept = [int(i) for i in order if not future[i]]
    assert np.array_equal(values_seen([rows[i] for i in kept], values[kept]), whole)


def test_a_restatement_is_seen_from_when_it_is_known() -> None:
    rows = [(0, 10, 11), (0, 10, 20), (0, 15, 16)]  # day 10 is corrected at 20, after day 15 came
    moments = np.array([11, 12, 16, 17, 30])
    place, _ = as_of_join(stored(rows), np.zeros(5, dtype=np.int64), moments, None)
    assert place.tolist() == [NOWHERE, 0, 0, 2, 2]
    again = [(0, 10, 11), (0, 10, 20)]
    place, _ = as_of_join(stored(again), np.zeros(2, dtype=np.int64), np.array([20, 21]), None)
    assert place.tolist() == [0, 1]


@pytest.mark.parametrize(("age_max", "want"), [(5, 0), (4, NOWHERE)])
def test_what_is_too_old_is_missing_not_older(age_max: int, want: int) -> None:
    rows = [(0, 10, 10), (0, 2, 3)]
    place, seen = as_of_join(stored(rows), np.zeros(1, dtype=np.int64), np.array([15]), age_max)
    assert (place[0], seen[0]) == (want, 0)
