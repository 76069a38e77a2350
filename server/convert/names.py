"""Ids, times and pages: the small things that every request has."""

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from compute.ranges import RANGES
from server.calls.errors import FieldViolation, invalid

ID_LENGTH_MAX = 128
_ID = re.compile(rf"[A-Za-z0-9._:\-]{{1,{ID_LENGTH_MAX}}}")
PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX = 50, 1000
TEXT_LENGTH_MAX = 1000
TIME_MIN = datetime(1678, 1, 1, tzinfo=UTC)
"""Histories keep nanoseconds in 64 bits, whose first whole year it is; and nothing that looks a
little before a time falls off the calendar."""
NO_TIME = "must be a time from year 1678 to 9999"
CLOCKS_DIFFER = timedelta(minutes=5)


def id_violations(value: str, path: str) -> Iterator[FieldViolation]:
    """An id chosen by a caller."""
    if not value:
        yield FieldViolation(path, "MISSING", "must be given")
    elif not _ID.fullmatch(value):
        is_long = len(value) > ID_LENGTH_MAX
        what = f"has {len(value)} characters" if is_long else f"is {value!r}"
        text = f"{what}; it must be 1 to {ID_LENGTH_MAX} characters of A-Z a-z 0-9 . _ : -"
        yield FieldViolation(path, "BAD_FORMAT", text)


def checked_id(value: str, path: str) -> str:
    """The id, or INVALID_ARGUMENT."""
    for violation in id_violations(value, path):
        raise invalid(violation.field, violation.reason, violation.description)
    return value


def optional_id(value: str, path: str) -> str:
    """The id, empty allowed, or INVALID_ARGUMENT."""
    return checked_id(value, path) if value else value


def uuid(value: str, path: str) -> UUID:
    """A UUID in its usual form, or INVALID_ARGUMENT."""
    if not value:
        raise invalid(path, "MISSING", "must be given: a UUID")
    try:
        return UUID(value)
    except ValueError:
        text = f"is {value[:50]!r}; it must be a UUID"
        raise invalid(path, "BAD_FORMAT", text) from None


def with_usual_ids(message: Message) -> None:
    """Writes the UUIDs of a request in their usual form, so that one id is one content.

    What is no UUID stays, to be refused where it is read.
    """
    for name in ("request_id", "decision_id"):
        if name in message.DESCRIPTOR.fields_by_name and (given := getattr(message, name)):
            with contextlib.suppress(ValueError):
                setattr(message, name, str(UUID(given)))


def timestamp(moment: datetime) -> Timestamp:
    """A time as a message."""
    out = Timestamp()
    out.FromDatetime(moment)
    return out


def moment(value: Timestamp, path: str) -> datetime:
    """A message as a time in UTC, or INVALID_ARGUMENT."""
    if (found := known_moment(value)) is None:
        raise invalid(path, "OUT_OF_RANGE", NO_TIME)
    return found


def known_moment(value: Timestamp) -> datetime | None:
    """A message as a time in UTC; None where it is none that a caller may give."""
    try:
        found = value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return found if found >= TIME_MIN else None


def optional_moment(message: Message, name: str, path: str = "") -> datetime | None:
    """A time field of a message; None where it is unset. Raises `Refusal`."""
    return moment(getattr(message, name), path + name) if message.HasField(name) else None


def past_moment(value: Timestamp, path: str) -> datetime:
    """When something was true: a time that is not in the future, but for clocks that differ.

    A future one would stay the latest, and never grow stale, until that day.
    """
    then = moment(value, path)
    if then > datetime.now(UTC) + CLOCKS_DIFFER:
        text = f"is {then:%Y-%m-%dT%H:%M:%SZ}; it must not be in the future"
        raise invalid(path, "OUT_OF_RANGE", text)
    return then


def page_size(value: int) -> int:
    """The number of entries to return."""
    if value < 0:
        text = f"is {value}; it must be {RANGES['ListDecisionsRequest.page_size'].text}"
        raise invalid("page_size", "OUT_OF_RANGE", text)
    return min(value or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def page_token(request: Message, *values: Any) -> str:
    """An opaque token of where the page after `request` starts; good for no other list."""
    return base64.urlsafe_b64encode(json.dumps([_list_of(request), *values]).encode()).decode()


def page_start(request: Any, *readers: Callable[[Any], Any]) -> list[Any] | None:
    """What `page_token` was made of, each value through its reader; None for the first page."""
    if not request.page_token:
        return None
    try:
        of, *values = json.loads(base64.urlsafe_b64decode(request.page_token.encode()))
        if of == _list_of(request):
            return [read(value) for read, value in zip(readers, values, strict=True)]
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        pass  # told below, the same for all
    text = "is not a token of this list: the method, and all fields but page_size, as before"
    raise invalid("page_token", "BAD_FORMAT", text)


def _list_of(request: Message) -> str:
    """What tells one list from another: the method, and what it is asked for."""
    asked = type(request)()
    asked.CopyFrom(request)
    for field in ("page_size", "page_token"):
        asked.ClearField(field)
    content = asked.SerializeToString(deterministic=True)
    return f"{request.DESCRIPTOR.name}/{hashlib.sha256(content).hexdigest()[:16]}"


def position(value: Any) -> int:
    """A reader of `page_start`: a number that a row can have."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(value)
    return value


def name(value: Any) -> str:
    """A reader of `page_start`: an id."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(value)
    return value


def instant(value: Any) -> datetime:
    """A reader of `page_start`: a time with its zone."""
    read = datetime.fromisoformat(value)
    if read.tzinfo is None:
        raise ValueError(value)
    return read.astimezone(UTC)  # an OverflowError beyond the years 1 to 9999, as a database has


def text_violations(value: str, path: str) -> Iterator[FieldViolation]:
    """Text for people or for names: what a database can hold, and not a book."""
    if "\x00" in value:
        yield FieldViolation(path, "BAD_FORMAT", "must not contain the character NUL")
    elif len(value) > TEXT_LENGTH_MAX:
        text = f"has {len(value)} characters; at most {TEXT_LENGTH_MAX} are accepted"
        yield FieldViolation(path, "TOO_LONG", text)


def reason_violations(reason: str) -> Iterator[FieldViolation]:
    """Why somebody did what has to have a reason; the field is called `reason`."""
    yield from text_violations(reason, "reason")
    if not reason.strip():
        yield FieldViolation("reason", "MISSING", "must be given, for the history")


INSTRUMENTS_MAX = 1000


def some_instruments_violations(ids: Sequence[str], path: str) -> Iterator[FieldViolation]:
    """Of a rule that is for some instruments only."""
    if len(ids) > INSTRUMENTS_MAX:
        text = f"has {len(ids)} entries; at most {INSTRUMENTS_MAX} are accepted"
        yield FieldViolation(path, "TOO_MANY", text)
        return
    seen: set[str] = set()
    for place, name in enumerate(ids):
        yield from text_violations(name, f"{path}[{place}]")
        if not name:
            yield FieldViolation(f"{path}[{place}]", "MISSING", "must be given")
        elif name in seen:
            yield FieldViolation(f"{path}[{place}]", "DUPLICATE", f"{name!r} is given twice")
        seen.add(name)
