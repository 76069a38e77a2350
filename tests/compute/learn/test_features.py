"""Features and bets of closes: of the past alone, and right."""

import numpy as np
import pytest

from compute.learn.features import (
    FEATURES,
    barrier_widths,
    bets_of_closes,
    carried_forward,
    close_features,
)

DAY = 86_400_000_000_000
T = 400


def closes(seed: int = 0) -> np.ndarray:
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.0, 0.02, T)))


@pytest.mark.parametrize("future", [np.nan, 1e9])
@pytest.mark.parametrize("cut", [260, 311, 399])
def test_the_future_changes_nothing(future: float, cut: int) -> None:
    whole = closes()
    changed = whole.copy()
    changed[cut:] = future
    assert np.array_equal(
        close_features(whole)[:cut], close_features(changed)[:cut], equal_nan=True
    )
    before, after = barrier_widths(whole, 10, 0.5), barrier_widths(changed, 10, 0.5)
    assert np.array_equal(before[:cut], after[:cut], equal_nan=True)
    times = np.arange(T) * DAY
    rows, again = (bets_of_closes(item, times, 10, 0.5, 0.001, 0) for item in (whole, changed))
    known, still = rows.end < cut * DAY, again.end < cut * DAY
    assert known.sum() == still.sum()
    assert np.array_equal(rows.features[known], again.features[still])
    assert np.array_equal(rows.won[known], again.won[still])


def test_features_are_what_they_are_called() -> None:
    values = closes(3)
    logs, found = np.log(values), close_features(values)
    returns = np.diff(logs)
    assert np.isnan(found[:252]).any(axis=1).all()
    bar = 320
    short, long = returns[bar - 21 : bar].std(), returns[bar - 252 : bar].std()
    expected = [
        (logs[bar] - logs[bar - 21]) / (long * 21**0.5),
        (logs[bar] - logs[bar - 126]) / (long * 126**0.5),
        (logs[bar] - logs[bar - 5]) / (short * 5**0.5),
        np.log(short / long),
        logs[bar] - logs[bar - 251 : bar + 1].max(),
    ]
    assert found[bar] == pytest.approx(expected, rel=1e-10)
    assert len(FEATURES) == found.shape[1]


def test_bets_pay_what_the_barriers_say_less_the_cost() -> None:
    values, times = closes(5), np.arange(T) * DAY
    rows = bets_of_closes(values, times, 10, 0.5, 0.001, 0)
    wide = barrier_widths(values, 10, 0.5)
    for row in range(0, len(rows), 17):
        start, end = int(rows.start[row] // DAY), int(rows.end[row] // DAY)
        assert 1 <= end - start <= 10
        outcome = values[end] / values[start] - 1.0 - 0.001
        assert rows.won[row] == (outcome > 0.0)
        assert rows.payoff[row] == pytest.approx(wide[start] - 0.001, rel=1e-12)
        assert rows.loss[row] == pytest.approx(wide[start] + 0.001, rel=1e-12)
    flat = bets_of_closes(np.full(T, 5.0), times, 10, 0.5, 0.001, 0)
    assert len(flat) == 0


def test_nobody_bets_where_there_is_no_close() -> None:
    """A gap of three bars and an end of trading: a plain reading of each bet, bar by bar."""
    values, times, horizon, cost = closes(7), np.arange(T) * DAY, 5, 0.001
    values[300:303] = np.nan
    values[370:] = np.nan
    rows = bets_of_closes(values, times, horizon, 0.5, cost, 0)
    told = {
        int(s // DAY): (int(e // DAY), bool(w))
        for s, e, w in zip(rows.start, rows.end, rows.won, strict=True)
    }
    wide = barrier_widths(carried_forward(values[:, None])[:, 0], horizon, 0.5)
    for start in range(252, T):
        expected = None
        for bar in range(start + 1, T):
            change = values[bar] / values[start] - 1.0
            if abs(change) >= wide[start] or (bar >= start + horizon and np.isfinite(change)):
                expected = bar, change > cost
                break
        assert told.get(start) == expected, start
    assert max(told) < 370
    assert not set(range(300, 303)) & set(told)
