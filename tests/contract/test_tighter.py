"""Every field of the limits says which of two values is the tighter one."""

from dataclasses import fields, replace
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.limits.policy import (
    GroupLimit,
    InstrumentLimit,
    JointLimits,
    Limits,
    LinearLimit,
    SaleProceeds,
    Tighter,
    rule_of,
)
from compute.limits.tightest import LEVEL, SAFE, in_force, tightest
from compute.parameters import without_none
from server.convert import limits as convert

RULES = {item.name: rule_of(item) for item in fields(Limits)}
NUMBERS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 2.0])


def record(kind: type, **fixed: Any) -> st.SearchStrategy[Any]:
    """A record with each number and permission given or not."""
    columns = {
        item.name: st.none()
        | (st.booleans() if rule in (Tighter.FORBIDDEN, Tighter.REQUIRED) else NUMBERS)
        for item in fields(kind)
        if (rule := rule_of(item)) is not Tighter.ADDED
    }
    return st.builds(kind, **columns, **fixed)


ROWS = st.lists(st.sampled_from([LinearLimit("a", upper=1.0), LinearLimit("b", lower=-1.0)]),
                unique_by=lambda row: row.name).map(tuple)  # fmt: skip
GROUPS = st.lists(st.sampled_from([GroupLimit("g", sector="A"), GroupLimit("h", sector="B")]),
                  unique_by=lambda group: group.name).map(tuple)  # fmt: skip
SCOPES = record(
    Limits,
    instruments=st.dictionaries(st.sampled_from("XY"), record(InstrumentLimit), max_size=2),
    groups=GROUPS,
    restricted=st.frozensets(st.sampled_from("XYZ"), max_size=2),
    joint=record(JointLimits, linear=ROWS),
)


def at_least_as_tight(merged: Any, scope: Any) -> None:
    """Field by field: what the merged limits allow, the scope allows."""
    for item in fields(scope):
        ours, theirs = getattr(merged, item.name), getattr(scope, item.name)
        rule = rule_of(item)
        if theirs is None or rule is Tighter.ADDED:
            continue
        assert ours is not None, item.name
        if rule is Tighter.FORBIDDEN:
            assert theirs or not ours, item.name
        elif rule is Tighter.REQUIRED:
            assert ours or not theirs, item.name
        elif rule is Tighter.LARGER:
            assert ours >= theirs, item.name
        else:
            assert ours <= theirs, item.name


def check(merged: Limits, scope: Limits) -> None:
    at_least_as_tight(merged, scope)
    at_least_as_tight(merged.joint, scope.joint)
    for bound, level in (("var_max", "var_level"), ("cvar_max", "cvar_level"),
                         ("cdar_max", "cdar_level")):  # fmt: skip
        if getattr(scope.joint, bound) is not None:  # at its level, said or not
            said = getattr(scope.joint, level)
            assert getattr(merged.joint, level) >= (LEVEL if said is None else said)
    for name, own in scope.instruments.items():
        at_least_as_tight(merged.instruments[name], own)
    assert set(scope.groups) <= set(merged.groups)
    assert scope.restricted <= merged.restricted
    assert {row.name for row in scope.joint.linear} <= {row.name for row in merged.joint.linear}


@given(st.lists(SCOPES, max_size=3), st.lists(SCOPES, max_size=2), SCOPES)
def test_a_scope_more_never_allows_more(
    book: list[Limits], narrower: list[Limits], further: Limits
) -> None:
    before = in_force(book, narrower)
    after = in_force(book, [*narrower, further])
    for scope in (*book, *narrower):
        check(before, scope)
    check(after, before)
    check(after, further)
    if all(scope.short_margin_rate is None for scope in book):
        assert before.short_margin_rate is not None
        assert before.short_margin_rate >= 1.0
    for name in ("allow_short", "allow_flip"):
        if not any(getattr(scope, name) for scope in book):
            assert getattr(after, name) is False


@given(st.lists(SCOPES, min_size=1, max_size=4), st.randoms())
def test_the_order_of_scopes_does_not_matter(scopes: list[Limits], random: Any) -> None:
    shuffled = random.sample(scopes, len(scopes))
    for item in fields(Limits):
        if rule_of(item) is not Tighter.ADDED:
            assert getattr(tightest(scopes), item.name) == getattr(tightest(shuffled), item.name)


@pytest.mark.parametrize("kind", [Limits, InstrumentLimit, JointLimits])
def test_numbers_and_permissions_say_which_of_two_values_is_the_tighter(kind: type) -> None:
    hints = get_type_hints(kind)
    single = {
        item.name: rule_of(item)
        for item in fields(kind)
        if without_none(hints[item.name]) in (float, int, bool, SaleProceeds)
    }
    assert single
    loose = [name for name, rule in single.items() if rule is Tighter.ADDED]
    assert not loose, f"declare them in compute/limits/policy.py with `declared`: {loose}"


def test_every_field_of_the_contract_is_one_of_the_policy() -> None:
    renamed = {"restricted_instrument_ids": "restricted", "instrument_id": None}
    for message, kind in (
        (convert.limits_pb2.Limits, Limits),
        (convert.limits_pb2.InstrumentLimit, InstrumentLimit),
        (convert.limits_pb2.JointLimits, JointLimits),
    ):
        contract = {renamed.get(field.name, field.name) for field in message.DESCRIPTOR.fields}
        # `foreign` holds what waits for its exchange rates.
        assert contract - {None} == {item.name for item in fields(kind)} - {"foreign"}


@pytest.mark.parametrize("name", [item.name for item in fields(SAFE)])
def test_permissions_and_rates_have_safe_defaults(name: str) -> None:
    """All that is not a bound: where nobody says anything, no permission, and the dearest rate."""
    rule = RULES[name]
    if rule is Tighter.FORBIDDEN:
        assert getattr(SAFE, name) is False
    loose = replace(Limits(), **{name: 0.0}) if rule is Tighter.LARGER else Limits()
    merged = getattr(in_force([], [loose]), name)
    assert merged is None or merged == getattr(SAFE, name) or rule is Tighter.ADDED or merged == 0.0
