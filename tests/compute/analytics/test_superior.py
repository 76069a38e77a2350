"""The best of many strategies against other sizes, after counting how many there are."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pytest

from compute.analytics.effectiveness import Outcome
from compute.analytics.superior import DatedOutcome, superior
from compute.simulate.superiority import superiority

FIRST = date(2024, 1, 1)


def strategy(
    moves: Sequence[float],
    chosen: float = 0.5,
    full: float = 1.0,
    days: Sequence[int] | None = None,
) -> list[DatedOutcome]:
    """One long a day: full Kelly and what was chosen of it, and what came."""
    where = range(len(moves)) if days is None else days
    side = np.ones(1)
    return [
        DatedOutcome(
            FIRST + timedelta(days=day),
            Outcome(np.array([[full], [chosen]]), side, np.array([move])),
        )
        for day, move in zip(where, moves, strict=True)
    ]


def moves(count: int, n: int = 250, edge: float = 0.0, seed: int = 7) -> np.ndarray:
    return edge + 0.02 * np.random.default_rng(seed).standard_normal((n, count))


def test_it_is_the_test_of_the_differences_day_by_day() -> None:
    came = moves(6)
    found = superior([strategy(column, 0.4, 0.9) for column in came.T])
    others = {"nothing": 0.0, "full Kelly": 0.9, "half Kelly": 0.45, "equal": 0.4}
    assert [item.benchmark for item in found] == list(others)
    for item, other in zip(found, others.values(), strict=True):
        difference = np.log1p(0.4 * came) - np.log1p(other * came)
        assert (item.compared, item.days) == (6, 250)
        wanted = superiority(difference)
        if other == 0.4:
            assert (wanted, item.reason) == (None, "NOTHING_DIFFERS")
            assert item.consistent_p is item.reality_check_p is None
            continue
        assert (item.consistent_p, item.reality_check_p) == pytest.approx(wanted)
        assert item.best == difference.mean(axis=0).argmax()
        assert item.difference is not None
        assert item.difference.mean == pytest.approx(difference.mean(axis=0).max(), abs=1e-15)


def test_one_good_strategy_is_told_and_luck_is_not() -> None:
    """Of 20 with no edge the best alone looks good in one of many samples; among 20 it doesn't."""
    fooled = {"alone": 0, "among all": 0}
    for seed in range(40):
        came = moves(20, seed=seed)
        tried = [strategy(column, 1.0) for column in came.T]
        nothing = superior(tried)[0]
        assert nothing.best is not None
        alone = superior([tried[nothing.best]])[0]
        assert alone.consistent_p is not None
        assert nothing.consistent_p is not None
        fooled["alone"] += alone.consistent_p < 0.05
        fooled["among all"] += nothing.consistent_p < 0.05
    assert fooled["alone"] > 20, "the best of twenty looks good"
    assert fooled["among all"] <= 6, "a 5 % test of 40 samples rejects more than 6 in 1.4 % of runs"
    good = moves(1, edge=0.01)  # 7.9 standard errors
    found = superior([*(strategy(column) for column in moves(19).T), strategy(good[:, 0], 1.0)])[0]
    assert found.best == 19
    assert found.consistent_p is not None
    assert found.consistent_p < 0.01


def test_days_without_a_decision_add_nothing_and_decisions_of_a_day_add_up() -> None:
    came = moves(2, 80)
    each_day = strategy(came[:, 0])
    every_other = strategy(came[::2, 1], days=range(0, 80, 2))
    twice = strategy(came[:40, 1], days=[day // 2 for day in range(40)])
    found = superior([each_day, every_other, twice])[0]
    columns = np.zeros((80, 3))
    columns[:, 0] = np.log1p(0.5 * came[:, 0])
    columns[::2, 1] = np.log1p(0.5 * came[::2, 1])
    columns[:20, 2] = np.log1p(0.5 * came[:40, 1]).reshape(20, 2).sum(axis=1)
    wanted = superiority(columns)
    assert found.days == 80
    assert (found.consistent_p, found.reality_check_p) == pytest.approx(wanted)
    # Whatever the order of the decisions.
    again = superior([each_day[::-1], every_other[::-1], twice[::-1]])[0]
    assert (again.best, again.consistent_p) == (found.best, found.consistent_p)


def test_too_few_outcomes_are_an_answer() -> None:
    for n in (0, 1, 59):
        (nothing, *_) = superior([strategy(moves(1, n)[:, 0]), strategy([])])
        assert nothing.reason == "TOO_FEW_OUTCOMES"
        assert nothing.consistent_p is nothing.reality_check_p is None
        assert nothing.days == n
        assert nothing.compared == (n > 0)
        assert (nothing.best is None) == (n == 0)
    (nothing, *_) = superior([strategy(moves(1, 60)[:, 0])])
    assert nothing.reason == ""
    assert nothing.consistent_p is not None
    assert len(superior([])) == 4
    assert {item.reason for item in superior([])} == {"TOO_FEW_OUTCOMES"}


def test_ruin_is_not_among_the_best_and_a_ruined_benchmark_counts_nothing() -> None:
    came = moves(2, 90)
    came[5, 0] = -0.6
    ruined = strategy(came[:, 0], chosen=2.0, full=2.0)
    (nothing, *_) = superior([ruined, strategy(came[:, 1])])
    assert (nothing.compared, nothing.best) == (1, 1)
    assert {item.reason for item in superior([ruined])} == {"ALL_RUINED"}
    lived = superior([strategy(came[:, 0], chosen=0.5, full=2.0)])[1]
    assert lived.benchmark == "full Kelly"
    difference = np.log1p(0.5 * came[:, 0]) - np.log1p(
        np.where(came[:, 0] > -0.5, 2.0, 0.0) * came[:, 0]
    )
    difference[5] = 0.0
    assert lived.difference is not None
    assert lived.difference.mean == pytest.approx(difference.mean(), abs=1e-15)
