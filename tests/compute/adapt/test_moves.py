"""What has moved since it was told: every move adds up, and small drawdowns wait."""

from hypothesis import given
from hypothesis import strategies as st

from compute.adapt.adjustment import Adjustment, AdjustmentSource, fraction_multiplier
from compute.adapt.moves import DRAWDOWN_BAND, after_moves, moves, multipliers, smallest

SOURCES = (AdjustmentSource.SCHEDULE, AdjustmentSource.CONDITION, AdjustmentSource.DRAWDOWN_FLOOR)


def rule(name: str, multiplier: float, source: AdjustmentSource = SOURCES[0]) -> Adjustment:
    return Adjustment(source, name, multiplier, f"because of {name}")


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(SOURCES), st.sampled_from("ab"), st.floats(0.0, 1.0)),
            max_size=4,
        ),
        max_size=6,
    )
)
def test_what_was_told_is_what_there_is_within_the_band(looks: list[list[tuple]]) -> None:
    told: dict = {}
    for look in looks:
        found = [rule(name, multiplier, source) for source, name, multiplier in look]
        moved = moves(told, found, ())
        assert all(item.before != item.after for item in moved)
        told = after_moves(told, moved)
        assert abs(smallest(told) - fraction_multiplier(found)) <= DRAWDOWN_BAND
        exact = {k: v for k, v in multipliers(found, ()).items() if k[0] is not SOURCES[2]}
        assert {k: v for k, v in told.items() if k[0] is not SOURCES[2]} == exact
        assert moves(told, found, ()) == []


def test_drawdowns_are_told_by_steps_and_at_the_ends() -> None:
    told: dict = {}
    path = (1.0, 0.99, 0.96, 0.93, 0.95, 0.02, 0.01, 0.0, 0.01, 1.0)
    seen = []
    for multiplier in path:
        moved = moves(told, [rule("floor", multiplier, SOURCES[2])], ())
        told = after_moves(told, moved)
        seen.append([(item.before, item.after) for item in moved])
    expected = {1: (1.0, 0.99), 3: (0.99, 0.93), 5: (0.93, 0.02), 7: (0.02, 0.0), 8: (0.0, 0.01)}
    expected[9] = (0.01, 1.0)
    assert {place: item[0] for place, item in enumerate(seen) if item} == expected


def test_each_instrument_of_a_rule_moves_by_itself() -> None:
    ids, source = ("A", "B"), AdjustmentSource.CONDITION
    first = [Adjustment(source, "calm", 0.5, "A: high", (0.5, 1.0))]
    (one,) = moves({}, first, ids)
    assert (one.key, one.before, one.after) == ((source, "calm", "A"), 1.0, 0.5)
    told = after_moves({}, [one])
    second = moves(told, [Adjustment(source, "calm", 0.2, "B: high", (1.0, 0.2))], ids)
    assert [(m.key[2], m.before, m.after) for m in second] == [("A", 0.5, 1.0), ("B", 1.0, 0.2)]
    (over,) = moves(after_moves(told, second), [], ids)
    assert (over.key[2], over.after, over.explanation) == ("B", 1.0, "is no longer in force")
    assert smallest(told) == 1.0, "rules of lines leave the fraction"
