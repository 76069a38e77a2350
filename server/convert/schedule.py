"""Schedules of the sizing parameters between the contract and the domain."""

import re
from collections.abc import Iterator
from datetime import date
from zoneinfo import available_timezones

from positionsizing.v1 import parameter_service_pb2 as pb

from compute.adapt.schedule import DAY_S, Schedule, ScheduleRow
from server.convert.names import text_violations
from server.errors import FieldViolation

ROWS_MAX, DATES_MAX = 1000, 1000
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
_ZONES = available_timezones()


def schedule(message: pb.Schedule) -> Schedule:
    """The domain's schedule; the message has been checked (`violations`)."""
    return Schedule(
        tuple(
            ScheduleRow(
                name=row.name,
                time_zone=row.time_zone,
                multiplier=row.multiplier,
                weekdays=tuple(row.weekdays),
                dates=tuple(row.dates),
                from_s=_second(row.from_time) if row.from_time else 0,
                to_s=_second(row.to_time) if row.to_time else DAY_S,
            )
            for row in message.rows
        )
    )


def message_of(found: Schedule) -> pb.Schedule:
    """The contract's form."""
    return pb.Schedule(
        rows=[
            pb.ScheduleRow(
                name=row.name,
                time_zone=row.time_zone,
                multiplier=row.multiplier,
                weekdays=[pb.Weekday.ValueType(day) for day in row.weekdays],
                dates=row.dates,
                from_time=_clock(row.from_s),
                to_time=_clock(row.to_s),
            )
            for row in found.rows
        ]
    )


def violations(message: pb.Schedule, path: str) -> Iterator[FieldViolation]:
    """What is wrong with a schedule but its numbers, by field path."""
    if len(message.rows) > ROWS_MAX:
        text = f"has {len(message.rows)} entries; at most {ROWS_MAX} are accepted"
        yield FieldViolation(f"{path}.rows", "TOO_MANY", text)
        return
    for place, row in enumerate(message.rows):
        yield from _row_violations(row, f"{path}.rows[{place}]")


def _row_violations(row: pb.ScheduleRow, path: str) -> Iterator[FieldViolation]:
    if not row.name:
        yield FieldViolation(f"{path}.name", "MISSING", "must be given")
    yield from text_violations(row.name, f"{path}.name")
    if row.time_zone not in _ZONES:
        text = f"is {row.time_zone[:60]!r}; it must be an IANA zone, e.g. 'America/New_York'"
        yield FieldViolation(
            f"{path}.time_zone", "UNKNOWN_VALUE" if row.time_zone else "MISSING", text
        )
    for place, day in enumerate(row.weekdays):
        if not 1 <= day <= 7:
            text = f"is {day}; it must be a day of the week"
            yield FieldViolation(f"{path}.weekdays[{place}]", "UNKNOWN_VALUE", text)
    if len(row.dates) > DATES_MAX:
        text = f"has {len(row.dates)} entries; at most {DATES_MAX} are accepted"
        yield FieldViolation(f"{path}.dates", "TOO_MANY", text)
    for place, text in enumerate(row.dates[:DATES_MAX]):
        if not _is_date(text):
            told = f"is {text[:40]!r}; it must be a date such as '2026-12-24'"
            yield FieldViolation(f"{path}.dates[{place}]", "BAD_FORMAT", told)
    for name in ("from_time", "to_time"):
        text = getattr(row, name)
        if text and not (_CLOCK.fullmatch(text) or (name, text) == ("to_time", "24:00")):
            told = f"is {text[:40]!r}; it must be a local time such as '15:30'"
            yield FieldViolation(f"{path}.{name}", "BAD_FORMAT", told)
    if row.from_time and row.from_time == row.to_time:
        text = "is from_time; leave both empty for the whole day"
        yield FieldViolation(f"{path}.to_time", "CONTRADICTION", text)


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _second(text: str) -> int:
    hours, minutes, seconds = (*map(int, text.split(":")), 0)[:3]
    return 3600 * hours + 60 * minutes + seconds


def _clock(second: int) -> str:
    text = f"{second // 3600:02d}:{second // 60 % 60:02d}"
    return f"{text}:{second % 60:02d}" if second % 60 else text
