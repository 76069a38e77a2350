"""Rules on conditions: hysteresis and dwell, the reference sequence, and no look ahead."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from compute.adapt.adjustment import conditional
from compute.adapt.condition import (
    UNKNOWN,
    ConditionRule,
    Observation,
    RuleState,
    state_after,
    step,
)

START = datetime(2024, 1, 1, tzinfo=UTC)
P = (0.1, 0.3, 0.55, 0.72, 0.68, 0.5, 0.45, 0.31, 0.29, 0.6, 0.75, 0.74, 0.2)


def rule(enter: float, leave: float, dwell: int = 0, **given_: object) -> ConditionRule:
    return ConditionRule("r", "c", 0.5, enter, leave, dwell=dwell, **given_)  # type: ignore[arg-type]


def seen(values: list[float] | tuple[float, ...]) -> list[Observation]:
    return [Observation(START + timedelta(hours=i), value) for i, value in enumerate(values)]


def path(values: list[float] | tuple[float, ...], used: ConditionRule) -> list[int]:
    state, out = RuleState(applies=False, held=used.dwell), []
    for item in seen(values):
        state = step(state, item, used)
        out.append(int(state.applies))
    return out


def test_the_reference_sequence_d7_18() -> None:
    assert path(P, rule(0.7, 0.3, 3)) == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1]
    assert path(P, rule(0.5, 0.5)) == [0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0]


def test_small_numbers_may_be_the_bad_ones() -> None:
    mirrored = [1.0 - value for value in P]
    assert path(mirrored, rule(0.3, 0.7, 3)) == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1]


def multipliers(values: list[float] | tuple[float, ...], used: ConditionRule) -> list[float]:
    state, out = RuleState(applies=False, held=used.dwell), []
    for item in seen(values):
        state = step(state, item, used)
        out.append(round(state.multiplier, 12))
    return out


def test_what_was_taken_at_once_comes_back_by_so_much_an_observation() -> None:
    slow, quick = rule(0.7, 0.3, rise_max=0.2), rule(0.7, 0.3)
    values = (0.1, 0.8, 0.5, 0.2, 0.25, 0.9, 0.1, 0.1, 0.1, 0.1)
    assert multipliers(values, quick) == [1.0, 0.5, 0.5, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert multipliers(values, slow) == [1.0, 0.5, 0.5, 0.7, 0.9, 0.5, 0.7, 0.9, 1.0, 1.0]
    told = conditional(slow, seen(values[:4]), START + timedelta(hours=4), is_whole=True)
    assert round(told.multiplier, 12) == 0.7
    assert "gives back 0.2 an observation" in told.explanation


def test_a_category_that_the_rule_cannot_read_gives_nothing_back() -> None:
    used, state = rule(0.7, 0.3, rise_max=0.2), RuleState(False, 3, 0.7)
    assert step(state, Observation(START, None, "CALM"), used).multiplier == 0.7


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.01, 1))
def test_slowly_given_back_is_never_more_than_at_once(values: list[float], rise: float) -> None:
    slow, quick = rule(0.7, 0.3, 2, rise_max=rise), rule(0.7, 0.3, 2)
    pairs = zip(multipliers(values, slow), multipliers(values, quick), strict=True)
    assert all(a <= b for a, b in pairs)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1), st.floats(0, 1),
       st.integers(0, 4), st.data())  # fmt: skip
def test_nothing_looks_ahead(
    values: list[float], enter: float, leave: float, dwell: int, data: st.DataObject
) -> None:
    used, cut = rule(enter, leave, dwell), data.draw(st.integers(1, len(values)))
    for future in (float("nan"), 1e9):
        changed = values[:cut] + [future] * (len(values) - cut)
        assert path(changed, used)[:cut] == path(values, used)[:cut]


def test_at_what_nobody_has_looked_up_every_rule_applies() -> None:
    for used in (rule(0.7, 0.3), rule(0.3, 0.7), rule(0.5, 0.5), rule(0.7, 0.3, 3)):
        assert path([UNKNOWN, 0.5], used)[0] == 1


@given(st.lists(st.floats(0, 1), max_size=30))
def test_what_is_forgotten_counts_as_the_worst(values: list[float]) -> None:
    used = rule(0.7, 0.3)
    whole = state_after(seen(values), used, is_whole=True)
    part = state_after(seen(values), used, is_whole=False)
    assert part.applies or not whole.applies


def test_stale_and_missing_conditions_are_the_fallback() -> None:
    used = rule(0.7, 0.3, age_max_s=60.0, stale_multiplier=0.25)
    now = START + timedelta(seconds=61)
    assert conditional(used, [], now, is_whole=True).multiplier == 0.25
    assert conditional(used, seen([0.1]), now, is_whole=True).multiplier == 0.25
    assert conditional(used, seen([0.1]), START, is_whole=True).multiplier == 1.0
    assert conditional(used, seen([0.8]), START, is_whole=True).multiplier == 0.5
