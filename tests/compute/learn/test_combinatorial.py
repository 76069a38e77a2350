"""CPCV and the sequential bootstrap by Lopez de Prado's own small examples, and by brute force."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.learn.bootstrap import _Odds, drawn
from compute.learn.combinatorial import Combinatorial, path_forecasts, splits
from compute.learn.document import encode
from compute.learn.labels import uniqueness
from compute.learn.learners import Plan
from compute.learn.models import ModelKind
from compute.learn.rows import Rows
from compute.learn.training import TooFewRowsError, train
from tests.compute.learn.test_training import ALL, DAY, SPLIT, rows_of


def bets(start: list[int], end: list[int], group: list[int] | None = None) -> Rows:
    n = len(start)
    one = np.ones(n)
    return Rows(
        ("a",), np.zeros((n, 1)), np.array(start), np.array(end), one, one, one,
        np.zeros(n, dtype=np.int64) if group is None else np.array(group),
    )  # fmt: skip


def probabilities(rows: Rows, places: list[int]) -> np.ndarray:
    """Of the next draw after those of `places`."""
    odds = _Odds(rows)
    for place in places:
        odds.draw(place)
    return odds.uniqueness / odds.uniqueness.sum()


def test_m10_11_numbers_of_splits_and_paths() -> None:
    for (n, k), (count, paths) in {
        (6, 2): (15, 5), (10, 2): (45, 9), (16, 8): (12870, 6435), (5, 1): (5, 1),
    }.items():  # fmt: skip
        plan = Combinatorial(n, k)
        assert (plan.splits, plan.paths) == (count, paths)
        assert plan.paths * n == k * count


def test_the_paths_of_six_groups_are_those_of_the_book() -> None:
    """Figure 12.1: group 1 is tested in splits 1 to 5, group 2 in 1 and 6 to 9, ..."""
    rows = bets(list(range(12)), [x + 1 for x in range(12)])
    found = splits(rows, Combinatorial(6, 2))
    assert [split.tested for split in found[:6]] == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 2)]
    number = iter(range(1, 16))
    out = path_forecasts(rows, found, lambda _, test: np.full(len(test), float(next(number))))
    by_group = out[:, ::2].T.astype(int).tolist()
    assert (out[:, ::2] == out[:, 1::2]).all()
    assert by_group == [
        [1, 2, 3, 4, 5],
        [1, 6, 7, 8, 9],
        [2, 6, 10, 11, 12],
        [3, 7, 10, 13, 14],
        [4, 8, 11, 13, 15],
        [5, 9, 12, 14, 15],
    ]


@given(st.integers(0, 10**6), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_nothing_that_meets_a_tested_bet_teaches(seed: int, embargo: int) -> None:
    random = np.random.default_rng(seed)
    start = np.sort(random.integers(0, 40, 30))
    rows = bets(start.tolist(), (start + random.integers(1, 6, 30)).tolist()).by_time()
    for split in splits(rows, Combinatorial(5, 2), embargo):
        teaches = set(split.train.tolist())
        tested = set(split.fold.test.tolist())
        assert not teaches & tested
        for place in range(30):
            if place in tested:
                continue
            near = any(
                rows.start[place] <= rows.end[own].max() + embargo
                and rows.end[place] >= rows.start[own].min() - embargo
                for own in split.blocks
            )
            meets = any(
                rows.start[place] <= rows.end[t] and rows.end[place] >= rows.start[t]
                for t in tested
            )
            assert (place in teaches) == (not near)
            assert near or not meets
            if not embargo:
                assert near == meets, "the span of a group has no hole that a bet fits into"


def test_a_leaked_feature_is_worth_nothing_once_purged() -> None:
    """The label of the bet before, of bets that overlap: certain without a purge, luck with one."""
    random = np.random.default_rng(3)
    base = np.repeat(random.integers(0, 2, 120), 5).astype(float)  # five bets share an outcome
    start = np.repeat(np.arange(120) * 5, 5) + np.tile(np.arange(5), 120)
    rows = bets(start.tolist(), (np.repeat(np.arange(120) * 5, 5) + 5).tolist())
    rows = Rows(rows.names, start[:, None].astype(float), rows.start, rows.end, base, *[
        np.ones(600)] * 2, rows.group)  # fmt: skip

    def nearest(taught: Rows, test: Rows) -> np.ndarray:
        place = np.abs(test.features - taught.features.T).argmin(axis=1)
        return taught.won[place]

    kept = path_forecasts(rows, splits(rows, Combinatorial(6, 2)), nearest)
    purged = float((kept == rows.won).mean())
    assert 0.4 < purged < 0.6
    even = np.arange(600) % 2 == 0
    leaked = nearest(rows.take(np.flatnonzero(even)), rows.take(np.flatnonzero(~even)))
    assert float((leaked == rows.won[~even]).mean()) > 0.85


def test_m10_10_uniqueness_and_the_second_draw() -> None:
    rows = bets([0, 2, 4], [2, 3, 5])
    assert uniqueness(rows.start, rows.end) == pytest.approx([5 / 6, 3 / 4, 1.0])
    # Bars are the times that bets begin or end at: another instrument's are there for all six.
    rows = bets([0, 2, 4, 0, 1], [2, 3, 5, 1, 2], [0, 0, 0, 1, 2]).by_time()
    own = np.flatnonzero(rows.group == 0)
    assert probabilities(rows, []) == pytest.approx([1 / 5] * 5)
    second = probabilities(rows, [int(own[1])])[own]
    assert second / second.sum() == pytest.approx([5 / 14, 3 / 14, 6 / 14], rel=1e-14)


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_probabilities_are_those_of_the_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    start = np.sort(random.integers(0, 20, 15))
    group = random.integers(0, 3, 15).tolist()
    rows = bets(start.tolist(), (start + random.integers(1, 5, 15)).tolist(), group).by_time()
    places = random.integers(0, 15, 6).tolist()
    times = np.unique(np.concatenate([rows.start, rows.end]))
    mean = []
    for i in range(15):
        own = times[(times >= rows.start[i]) & (times <= rows.end[i])]
        alive = [
            sum(
                rows.group[j] == rows.group[i] and rows.start[j] <= t <= rows.end[j] for j in places
            )
            for t in own
        ]
        mean.append(np.mean([1.0 / (1.0 + c) for c in alive]))
    assert probabilities(rows, places) == pytest.approx(np.array(mean) / sum(mean), rel=1e-12)


def test_draws_follow_the_probabilities_and_overlap_less_than_even_ones() -> None:
    rows = bets([0, 1, 3], [1, 2, 4])
    second = np.zeros(3)
    for seed in range(4000):
        one = np.random.default_rng(seed).random(2)
        first = int(one[0] * 3)
        if first == 1:
            second += drawn(rows, 2, seed) - np.eye(3, dtype=np.int64)[1]
    expected = np.array([3, 2, 4]) / 9.0
    assert second / second.sum() == pytest.approx(expected, abs=0.04)
    many = bets(list(range(400)), [x + 9 for x in range(400)])
    counts = [drawn(many, 400, seed) for seed in range(5)]
    assert all(count.sum() == 400 for count in counts)
    even = np.bincount(np.random.default_rng(0).integers(0, 400, 400), minlength=400)

    def overlap(count: np.ndarray) -> float:
        places = np.repeat(np.arange(400), count)
        return float(uniqueness(many.start[places], many.end[places]).mean())

    assert min(map(overlap, counts)) > overlap(even)
    assert np.array_equal(counts[2], drawn(many, 400, 2)), "the same seed draws the same"


@pytest.mark.parametrize(
    ("kind", "members"), [(ModelKind.LOGISTIC, ALL), (ModelKind.LOG_POOL, SPLIT)]
)
def test_paths_of_what_can_be_learned(
    kind: ModelKind, members: tuple[tuple[str, ...], ...]
) -> None:
    rows = rows_of(1200)
    found = train(rows, Plan(kind, members, combinatorial=Combinatorial(5, 2), embargo=DAY))
    paths = found.paths
    assert paths is not None
    assert (paths.splits, len(paths.growth)) == (comb(5, 2), 4)
    assert (paths.over_climatology > 0.0).all()
    assert (paths.over_implied > 0.0).all()
    assert found.evidence is not None
    assert paths.log_loss == pytest.approx(np.full(4, found.evidence.log_loss), abs=0.05)
    alone = train(rows, Plan(kind, members, embargo=DAY))
    assert encode(alone.model) == encode(found.model), "the paths change nothing else"
    noise = train(
        rows_of(600, strength=0.0), Plan(ModelKind.LOGISTIC, ALL, combinatorial=Combinatorial(6, 2))
    ).paths
    assert noise is not None
    assert np.median(noise.over_climatology) < 0.005
    long = rows_of(60, per_day=1, span=25)
    with pytest.raises(TooFewRowsError, match="without groups"):
        train(long, Plan(kind, members, combinatorial=Combinatorial(4, 3)))


def test_each_split_is_forecast_by_the_others_alone() -> None:
    """Whatever the tested groups bring, their forecasts stay."""
    rows = rows_of(400)
    seen: list[tuple[int, ...]] = []

    def remember(taught: Rows, test: Rows) -> np.ndarray:
        seen.append(tuple(np.intersect1d(taught.start, test.start)))
        return np.full(len(test), 0.5)

    found = splits(rows, Combinatorial(4, 2))
    path_forecasts(rows, found, remember)
    assert seen == [()] * 6
    assert len(list(combinations(range(4), 2))) == len(found)


def test_members_of_a_sequential_bootstrap() -> None:
    rows = rows_of(900)
    plan = Plan(ModelKind.LOGISTIC, ALL * 3, draws=3)
    found = train(rows, plan)
    assert found.is_proven
    assert found.regret is None
    assert len(found.model.members) == 3
    assert found.model.weights == pytest.approx([1 / 3] * 3)
    told = [member.predict(rows.features[:50])[0] for member in found.model.members]
    assert np.abs(told[0] - told[1]).max() > 1e-4, "each has bets of its own"
    shuffled = rows.take(np.random.default_rng(1).permutation(900))
    assert encode(train(shuffled, plan).model) == encode(found.model)
