"""Schedules of the sizing parameters between the contract and the domain."""

import re
from collections.abc import Iterator
from datetime import date
from zoneinfo import available_timezones

from positionsizing.v1 import parameter_service_pb2 as pb

from compute.adapt.schedule import DAY_S, Schedule, ScheduleRow
from server import calendars
from server.calls.errors import FieldViolation
from server.convert.names import some_instruments_violations, text_violations

ROWS_MAX, DATES_MAX = 1000, 1000
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
_ZONES = available_timezones()
_ABOUT = re.compile(r"(open|close)(?:([+-])([01]\d|2[0-3]):([0-5]\d))?")


def schedule(message: pb.Schedule) -> Schedule:
    """The domain's schedule; the message has been checked (`violations`)."""
    return Schedule(tuple(map(_row, message.rows)))


def _row(row: pb.ScheduleRow) -> ScheduleRow:
    if row.exchange:
        begin, end = _about(row.from_time or "open"), _about(row.to_time or "close")
        return ScheduleRow(
            name=row.name,
            time_zone="UTC",
            multiplier=row.multiplier,
            from_s=begin[1],
            to_s=end[1],
            exchange=row.exchange,
            from_close=begin[0],
            to_close=end[0],
            instrument_ids=tuple(row.instrument_ids),
        )
    return ScheduleRow(
        name=row.name,
        time_zone=row.time_zone,
        multiplier=row.multiplier,
        weekdays=tuple(row.weekdays),
        dates=tuple(row.dates),
        from_s=second_of(row.from_time) if row.from_time else 0,
        to_s=second_of(row.to_time) if row.to_time else DAY_S,
        instrument_ids=tuple(row.instrument_ids),
    )


def message_of(found: Schedule) -> pb.Schedule:
    """The contract's form."""
    return pb.Schedule(rows=map(_row_message, found.rows))


def _row_message(row: ScheduleRow) -> pb.ScheduleRow:
    if row.exchange:
        return pb.ScheduleRow(
            name=row.name,
            multiplier=row.multiplier,
            exchange=row.exchange,
            from_time=_about_text(is_close=row.from_close, offset_s=row.from_s),
            to_time=_about_text(is_close=row.to_close, offset_s=row.to_s),
            instrument_ids=row.instrument_ids,
        )
    return pb.ScheduleRow(
        name=row.name,
        time_zone=row.time_zone,
        multiplier=row.multiplier,
        weekdays=[pb.Weekday.ValueType(day) for day in row.weekdays],
        dates=row.dates,
        from_time=_clock(row.from_s),
        to_time=_clock(row.to_s),
        instrument_ids=row.instrument_ids,
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
    yield from some_instruments_violations(row.instrument_ids, f"{path}.instrument_ids")
    if row.exchange:
        yield from _exchange_violations(row, path)
        return
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
        if text and not (is_clock(text) or (name, text) == ("to_time", "24:00")):
            told = f"is {text[:40]!r}; it must be a local time such as '15:30'"
            yield FieldViolation(f"{path}.{name}", "BAD_FORMAT", told)
    if row.from_time and row.from_time == row.to_time:
        text = "is from_time; leave both empty for the whole day"
        yield FieldViolation(f"{path}.to_time", "CONTRADICTION", text)


def _exchange_violations(row: pb.ScheduleRow, path: str) -> Iterator[FieldViolation]:
    if not calendars.is_available():
        text = "needs the package exchange-calendars on the server (extra `calendars`)"
        yield FieldViolation(f"{path}.exchange", "NOT_AVAILABLE", text)
    elif row.exchange not in calendars.exchanges():
        text = f"is {row.exchange[:40]!r}; it must be the code of an exchange such as 'XNYS'"
        yield FieldViolation(f"{path}.exchange", "UNKNOWN_VALUE", text)
    for name in ("time_zone", "weekdays", "dates"):
        if getattr(row, name):
            text = "is not for rows of an exchange, whose calendar says it"
            yield FieldViolation(f"{path}.{name}", "NOT_APPLICABLE", text)
    for name in ("from_time", "to_time"):
        text = getattr(row, name)
        if text and not _ABOUT.fullmatch(text):
            told = f"is {text[:40]!r}; it must be such as 'open', 'open+00:15' or 'close-00:30'"
            yield FieldViolation(f"{path}.{name}", "BAD_FORMAT", told)
    if (row.from_time or "open") == (row.to_time or "close"):
        yield FieldViolation(f"{path}.to_time", "CONTRADICTION", "is from_time")


def _about(text: str) -> tuple[bool, int]:
    """Whether it is about the close, and seconds after it."""
    found = _ABOUT.fullmatch(text)
    if found is None:  # not of a message that has been checked
        raise ValueError(text)
    anchor, sign, hours, minutes = found.groups()
    offset = 3600 * int(hours or 0) + 60 * int(minutes or 0)
    return anchor == "close", -offset if sign == "-" else offset


def _about_text(*, is_close: bool, offset_s: int) -> str:
    anchor = "close" if is_close else "open"
    return f"{anchor}{'+' if offset_s > 0 else '-'}{_clock(abs(offset_s))}" if offset_s else anchor


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def is_clock(text: str) -> bool:
    """Whether it is a local time, "HH:MM" or "HH:MM:SS"."""
    return _CLOCK.fullmatch(text) is not None


def second_of(text: str) -> int:
    """Seconds after midnight of a local time that has been checked."""
    hours, minutes, seconds = (*map(int, text.split(":")), 0)[:3]
    return 3600 * hours + 60 * minutes + seconds


def _clock(second: int) -> str:
    text = f"{second // 3600:02d}:{second // 60 % 60:02d}"
    return f"{text}:{second % 60:02d}" if second % 60 else text
