"""What counts as loosening, against a second, plain comparison of two limits."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.correlation.linkage import Linkage
from compute.limits.loosening import loosened, loosened_shared
from compute.limits.policy import (
    ClusterLimit,
    GroupLimit,
    InstrumentLimit,
    JointLimits,
    Limits,
    LinearLimit,
    SharedLimits,
    StressLimit,
    TailLimit,
    Tighter,
    rule_of,
)
from compute.limits.tightest import in_force
from compute.risk.tail_method import TailKind, TailMethod

NUMBERS = st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0, 2.0])


def record(kind: type, **fixed: Any) -> st.SearchStrategy[Any]:
    columns = {
        item.name: st.none()
        | (st.booleans() if rule in (Tighter.FORBIDDEN, Tighter.REQUIRED) else NUMBERS)
        for item in fields(kind)
        if (rule := rule_of(item)) is not Tighter.ADDED
    }
    return st.builds(kind, **columns, **fixed)


SCOPES = record(
    Limits,
    instruments=st.dictionaries(st.sampled_from("XY"), record(InstrumentLimit), max_size=2),
    restricted=st.frozensets(st.sampled_from("XY"), max_size=2),
    joint=record(JointLimits),
)


def allows(limits: Limits, name: str, other: Limits) -> bool:
    """Whether `limits` allow in one field what `other` forbid."""
    mine, theirs = getattr(limits, name), getattr(other, name)
    rule = rule_of(next(item for item in fields(limits) if item.name == name))
    if theirs is None:
        return False
    if mine is None:
        return theirs is not {Tighter.FORBIDDEN: True, Tighter.REQUIRED: False}.get(
            rule, theirs is None
        )
    if rule in (Tighter.LARGER, Tighter.REQUIRED):
        return bool(mine < theirs)
    return bool(mine > theirs)


@given(st.lists(SCOPES, max_size=2), SCOPES, SCOPES)
def test_where_nothing_is_loosened_no_book_is_allowed_more(
    others: list[Limits], old: Limits, new: Limits
) -> None:
    if loosened(old, new):
        new = replace(old, **{name: getattr(new, name) for name in ("weight_max", "positions_max")})
        if loosened(old, new):
            return
    before, after = in_force([*others, old]), in_force([*others, new])
    names = [item.name for item in fields(Limits) if rule_of(item) is not Tighter.ADDED]
    has_day = before.day_loss_max is not None
    more = [name for name in names if allows(after, name, before)]
    assert [name for name in more if has_day or name != "day_loss_resumes"] == []
    assert before.restricted <= after.restricted


@given(SCOPES)
def test_the_same_limits_loosen_nothing(limits: Limits) -> None:
    assert loosened(limits, limits) == ()


@given(SCOPES, SCOPES)
def test_dropping_all_limits_names_every_bound(old: Limits, other: Limits) -> None:
    del other
    bounds = [
        item.name
        for item in fields(Limits)
        if rule_of(item) in (Tighter.SMALLER, Tighter.LARGER)
        and getattr(old, item.name) is not None
    ]
    assert set(bounds) <= set(loosened(old, Limits()))


ALIKE = ClusterLimit("a", Linkage.SINGLE, distance_max=0.4, gross_weight_max=0.2)


def test_every_field_that_is_no_single_value_is_looked_at() -> None:
    """A new one has to be compared in `compute/limits/loosening.py`, and named here."""
    for kind, looked_at in (
        (
            Limits,
            {
                *("instruments", "groups", "clusters", "restricted", "joint"),
                *("currency", "foreign"),
            },
        ),
        (JointLimits, {"linear", "tails", "stress"}),
    ):
        rows = {item.name for item in fields(kind) if rule_of(item) is Tighter.ADDED}
        assert rows == looked_at


CASES = [
    ({"weight_max": 0.1}, {"weight_max": 0.2}, ("weight_max",)),
    ({"weight_max": 0.1}, {"weight_max": 0.05}, ()),
    ({"weight_max": 0.1}, {}, ("weight_max",)),
    ({}, {"weight_max": 5.0}, ()),
    ({}, {"allow_short": True}, ("allow_short",)),
    ({"allow_short": True}, {}, ()),
    ({"allow_short": False}, {}, ("allow_short",)),
    ({}, {"participation_rate": 0.5}, ("participation_rate",)),
    ({}, {"participation_rate": 0.01}, ()),
    ({"stop_required": True}, {"stop_required": False}, ("stop_required",)),
    ({"cash_buffer": 0.05}, {"cash_buffer": 0.01}, ("cash_buffer",)),
    ({"restricted": frozenset("X")}, {"restricted": frozenset()}, ("restricted_instrument_ids",)),
    ({"notional_max": 1e6}, {"notional_max": 1e6, "currency": "JPY"}, ("currency",)),
    ({"day_loss_max": 0.02, "day_loss_resumes": False},
     {"day_loss_max": 0.02, "day_loss_resumes": True}, ("day_loss_resumes",)),
    ({}, {"day_loss_max": 0.02, "day_loss_resumes": True}, ()),
    ({"instruments": {"KO": InstrumentLimit(weight_max=0.05)}, "weight_max": 0.1},
     {"weight_max": 0.1}, ("instruments[KO].weight_max",)),
    ({"instruments": {"KO": InstrumentLimit(weight_max=0.05)}, "weight_max": 0.1},
     {"weight_max": 0.04}, ()),
    ({"instruments": {"KO": InstrumentLimit(quantity_max=10.0)}},
     {"instruments": {"KO": InstrumentLimit(quantity_max=100.0)}},
     ("instruments[KO].quantity_max",)),
    ({"groups": (GroupLimit("tech", sector="T", gross_weight_max=0.3),)},
     {"groups": (GroupLimit("it", sector="T", gross_weight_max=0.2),)}, ()),
    ({"groups": (GroupLimit("tech", sector="T", gross_weight_max=0.3),)},
     {"groups": (GroupLimit("tech", sector="U", gross_weight_max=0.2),)}, ("groups[tech]",)),
    ({"clusters": (ALIKE,)}, {"clusters": (replace(ALIKE, name="b", gross_weight_max=0.1),)}, ()),
    ({"clusters": (ALIKE,)}, {"clusters": (replace(ALIKE, gross_weight_max=0.3),)},
     ("clusters[a]",)),
    ({"clusters": (ALIKE,)}, {"clusters": (replace(ALIKE, distance_max=0.3),)}, ("clusters[a]",)),
    ({"joint": JointLimits(cvar_max=0.05)}, {"joint": JointLimits(cvar_max=0.05, cvar_level=0.9)},
     ("joint.cvar_level",)),
    ({"joint": JointLimits(cvar_max=0.05)}, {"joint": JointLimits(cvar_max=0.04, cvar_level=0.99)},
     ()),
    ({"joint": JointLimits(linear=(LinearLimit("b", {"X": 1.0}, upper=0.1),))},
     {"joint": JointLimits(linear=(LinearLimit("b", {"X": 1.0}, upper=0.1, soft_price=9.0),))},
     ("joint.linear[b]",)),
    ({"joint": JointLimits(tails=(TailLimit(TailKind.VALUE_AT_RISK, TailMethod.NORMAL, 0.02),))},
     {"joint": JointLimits(
         tails=(TailLimit(TailKind.VALUE_AT_RISK, TailMethod.NORMAL, 0.02, 0.9),))},
     ("joint.tails[normal 95 % VaR]",)),
    ({"joint": JointLimits(stress=(StressLimit("crash", 0.1),))},
     {"joint": JointLimits(stress=(StressLimit("crash", 0.2),))}, ("joint.stress[crash]",)),
    ({"joint": JointLimits(stress=(StressLimit("crash", 0.1),))},
     {"joint": JointLimits(stress=(StressLimit("oil", 0.3), StressLimit("crash", 0.05)))}, ()),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "wanted"), CASES)
def test_what_is_loosened_is_named(
    old: dict[str, Any], new: dict[str, Any], wanted: tuple[str, ...]
) -> None:
    assert loosened(Limits(**old), Limits(**new)) == wanted


def test_shared_limits() -> None:
    old = SharedLimits(gross_notional_max=10.0, instrument_notional_max=5.0)
    assert loosened_shared(None, old) == ()
    assert loosened_shared(old, None) == ("gross_notional_max", "instrument_notional_max")
    assert loosened_shared(old, replace(old, gross_notional_max=9.0)) == ()
    assert loosened_shared(old, replace(old, gross_notional_max=None)) == ("gross_notional_max",)
    both = ("gross_notional_max", "instrument_notional_max")
    assert loosened_shared(old, replace(old, currency="JPY")) == both
