"""A limit in words: the field that states it, its bound with its unit, and what it bounds."""

from positionsizing.v1 import label_pb2, types_pb2

from compute.limits.policy import LimitKind

OF_THE_BOOK = ("portfolio", "group")
"""What limits that bound the whole are called."""


def limit_words(kind: LimitKind, bound: float, name: str) -> str:
    """ "weight_max 12 % of I18", "leverage_max 160 %", "beta: linear 0.3"; bound: in its own unit.

    The unit is that of the kind's label in the contract; kinds without one have no bound.
    """
    known = types_pb2.LimitKind.DESCRIPTOR.values_by_number[int(kind)]
    unit = known.GetOptions().Extensions[label_pb2.label].unit
    has_field = bool(kind.fields) and kind is not LimitKind.CASH  # whose bound is what is free
    field = kind.fields[0] if has_field else kind.name.lower()
    shown = {
        label_pb2.LABEL_UNIT_SHARE: f" {100.0 * bound:.6g} %",
        label_pb2.LABEL_UNIT_MONEY: f" {bound:,.2f} in base currency",
        label_pb2.LABEL_UNIT_NUMBER: f" {bound:.6g}",
    }
    has_bound = "{}" in known.GetOptions().Extensions[label_pb2.label].text
    told = field + (shown.get(unit, "") if has_bound else "")
    if name in OF_THE_BOOK:
        return told
    is_named = kind in (LimitKind.LINEAR, LimitKind.STRESS_LOSS_MAX)
    return f"{name}: {told}" if is_named else f"{told} of {name}"
