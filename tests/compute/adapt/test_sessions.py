"""Schedules about the sessions of an exchange: early closes, holidays, summer time, no calendar."""

from datetime import UTC, datetime

import numpy as np
import pytest

from compute.adapt.adjustment import scheduled
from compute.adapt.schedule import Schedule, ScheduleRow, Sessions

HOUR = 3600


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def seconds(*texts: str) -> np.ndarray:
    return np.array([utc(text).timestamp() for text in texts])


# New York in 2024: before and after summer time began, the day after Thanksgiving (early close).
NEW_YORK = Sessions(
    opens=seconds("2024-03-08T14:30", "2024-03-11T13:30", "2024-11-27T14:30", "2024-11-29T14:30"),
    closes=seconds("2024-03-08T21:00", "2024-03-11T20:00", "2024-11-27T21:00", "2024-11-29T18:00"),
)
LAST_HALF_HOUR = ScheduleRow(
    "close", "UTC", 0.5, from_s=-HOUR // 2, to_s=0, exchange="XNYS", from_close=True, to_close=True
)
CLOSED = ScheduleRow("closed", "UTC", 0.0, from_s=0, to_s=0, exchange="XNYS", from_close=True)


@pytest.mark.parametrize(
    ("time", "holds"),
    [
        ("2024-03-08T20:29:59", False),
        ("2024-03-08T20:30", True),
        ("2024-03-08T21:00", False),
        ("2024-03-11T19:30", True),
        ("2024-03-11T20:30", False),
        ("2024-11-28T20:30", False),  # Thanksgiving
        ("2024-11-29T17:30", True),  # the early close
        ("2024-11-29T20:30", False),
    ],
)
def test_the_last_half_hour_follows_the_calendar(time: str, holds: bool) -> None:
    assert LAST_HALF_HOUR.holds(utc(time), {"XNYS": NEW_YORK}) is holds


@pytest.mark.parametrize(
    ("time", "holds"),
    [
        ("2024-03-08T20:59:59", False),
        ("2024-03-08T21:00", True),
        ("2024-03-10T12:00", True),  # a Sunday
        ("2024-03-11T13:29:59", True),
        ("2024-03-11T13:30", False),
        ("2024-11-28T16:00", True),
    ],
)
def test_close_to_open_is_when_it_is_closed(time: str, holds: bool) -> None:
    assert CLOSED.holds(utc(time), {"XNYS": NEW_YORK}) is holds


def test_without_its_calendar_a_row_is_always_in_force() -> None:
    (item,) = scheduled(Schedule((LAST_HALF_HOUR,)), utc("2024-03-09T12:00"))
    assert item.multiplier == 0.5
    assert "not known here" in item.explanation
    (item,) = scheduled(Schedule((CLOSED,)), utc("2024-03-09T12:00"), {"XNYS": NEW_YORK})
    assert item.explanation == "from close +0 min to open +0 min of XNYS"
