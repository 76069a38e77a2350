"""What the numbers of the contract are called when people read them: its own labels."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import typer
from positionsizing.v1 import label_pb2, sizing_pb2, types_pb2


def percent(value: float, digits: int = 2) -> str:
    """A fraction as a percentage."""
    return f"{value + 0.0:.{digits}%}"


def amount(value: float, more: int = 0) -> str:
    """An amount to six digits at least: large ones without cents, a coin with its parts.

    more: further digits.
    """
    shown = f".{more}f" if abs(value) >= 1e5 else f".{6 + more}g"
    return f"{value + 0.0:,{shown}}"


money = amount
"""Of money."""


def booked(value: float, currency: str) -> str:
    """Money of the books: to the cent, of crypto-assets to the eighth decimal."""
    from server.convert.currencies import CRYPTO

    return f"{value + 0.0:,.{8 if currency in CRYPTO else 2}f}"


def count_words(count: int, what: str) -> str:
    """So many of something: "1 line", "2,000 lines"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def units(value: float, sign: str = "") -> str:
    """A quantity with all of its digits; sign: "+" shows that of what is above 0 as well."""
    return f"{value:{sign},.12g}"


_SHOWN: Mapping[int, Callable[[float, int], str]] = {
    label_pb2.LABEL_UNIT_UNSPECIFIED: amount,
    label_pb2.LABEL_UNIT_SHARE: lambda value, more: percent(value, 2 + more),
    label_pb2.LABEL_UNIT_MONEY: money,
    label_pb2.LABEL_UNIT_NUMBER: amount,
}
"""A number in the unit of a label, with so many further digits."""

MORE_DIGITS_MAX = 10


STAGES: tuple[int, ...] = tuple(
    value.number for value in types_pb2.SizingStage.DESCRIPTOR.values if value.number
)
"""Numbers of the stages in the order in which they are applied."""

METHODS = {
    value.name.removeprefix("SIZING_METHOD_").lower().replace("_", "-"): value.number
    for value in types_pb2.SizingMethod.DESCRIPTOR.values
    if value.number
}
"""Numbers of the methods by what people type."""


@cache
def label_of(enum: Any, value: int) -> label_pb2.Label:
    """The label of a value in the contract; of a number of a newer release, the number."""
    known = enum.DESCRIPTOR.values_by_number.get(value)
    if known is None:
        return label_pb2.Label(name=str(value))
    label: label_pb2.Label = known.GetOptions().Extensions[label_pb2.label]
    return label


def stage_label(stage: int) -> tuple[str, str]:
    """Short name and reason of a stage."""
    label = label_of(types_pb2.SizingStage, stage)
    return label.name, label.text


def stage_name(stage: int) -> str:
    """The short name alone."""
    return stage_label(stage)[0]


def is_before_limits(stage: int) -> bool:
    """Whether a stage belongs to the stake: what edge and risk rules ask for."""
    return label_of(types_pb2.SizingStage, stage).is_stake


def limit_text(kind: int, bound: float, group: str = "", more: int = 0) -> str:
    """A limit in words with its bound, of so many further digits; empty for none."""
    if kind == 0:
        return ""
    label = label_of(types_pb2.LimitKind, kind)
    if not label.text:
        return f"limit {kind}"
    told = label.text.format(_SHOWN[label.unit](bound, more), group=group)
    return f"{told} ({group})" if group and "{group}" not in label.text else told


def limit_and_value(kind: int, bound: float, value: float, group: str = "") -> tuple[str, str]:
    """A limit in words and the value that it bounds, with digits enough to tell these apart."""
    shown = _SHOWN[label_of(types_pb2.LimitKind, kind).unit]
    digits = range(MORE_DIGITS_MAX)
    more = next((n for n in digits if shown(bound, n) != shown(value, n)), 0)
    return limit_text(kind, bound, group, more), shown(value, more)


def group_name(sizes: sizing_pb2.PositionSizes, place: int) -> str:
    """The name of a group by its place, counted from 1; empty for 0, which is no group."""
    return str(sizes.group_names[place - 1]) if place else ""


def binding_words(sizes: sizing_pb2.PositionSizes, line: int) -> str:
    """What set the size of a line."""
    group = group_name(sizes, sizes.binding_group[line])
    return limit_text(sizes.binding[line], sizes.binding_bound[line], group)


def enum_words(enum: object, value: int, prefix: str) -> str:
    """An enum value in small letters without its prefix."""
    known = enum.DESCRIPTOR.values_by_number.get(value)  # type: ignore[attr-defined]
    return known.name.removeprefix(prefix).lower().replace("_", " ") if known else str(value)


def enum_value(enum: object, prefix: str, text: str, option: str) -> Any:
    """The value of an enum that people write in small letters."""
    known = enum.DESCRIPTOR.values_by_name  # type: ignore[attr-defined]
    found = known.get(prefix + text.upper().replace("-", "_"))
    if found is None or found.number == 0:
        words = [name.removeprefix(prefix).lower().replace("_", "-") for name in known]
        raise typer.BadParameter(f"must be one of: {', '.join(words[1:])}", param_hint=option)
    return found.number
