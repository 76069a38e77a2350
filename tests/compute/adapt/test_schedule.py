"""Spans of local time, over the days on which summer time begins and ends."""

from datetime import UTC, datetime, timedelta

import pytest

from compute.adapt.adjustment import (
    Adjustment,
    AdjustmentSource,
    edge_decay,
    edge_multiplier,
    fraction_multiplier,
    scheduled,
)
from compute.adapt.schedule import Schedule, ScheduleRow

NEW_YORK, LONDON = "America/New_York", "Europe/London"


def minutes_of(row: ScheduleRow, day: str) -> list[datetime]:
    """All minutes in UTC in which a row is in force, from 12 hours before the day to 36 after."""
    start = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(hours=12)
    times = [start + timedelta(minutes=minute) for minute in range(48 * 60)]
    return [time for time in times if row.holds(time)]


@pytest.mark.parametrize(
    ("zone", "day", "from_h", "to_h", "first_utc", "minutes"),
    [
        # The session's close, half an hour: 15:30 is 20:30 UTC in winter and 19:30 in summer.
        (NEW_YORK, "2024-03-08", 15.5, 16.0, "2024-03-08T20:30", 30),
        (NEW_YORK, "2024-03-11", 15.5, 16.0, "2024-03-11T19:30", 30),
        (NEW_YORK, "2024-11-01", 15.5, 16.0, "2024-11-01T19:30", 30),
        (NEW_YORK, "2024-11-04", 15.5, 16.0, "2024-11-04T20:30", 30),
        # 02:00 to 03:00 is skipped on the first and 01:00 to 02:00 comes twice on the second.
        (NEW_YORK, "2024-03-10", 2.0, 3.0, None, 0),
        (NEW_YORK, "2024-03-10", 1.0, 4.0, "2024-03-10T06:00", 120),
        (NEW_YORK, "2024-11-03", 1.0, 2.0, "2024-11-03T05:00", 120),
        (LONDON, "2024-03-31", 1.0, 2.0, None, 0),
        (LONDON, "2024-03-31", 0.0, 3.0, "2024-03-31T00:00", 120),
        (LONDON, "2024-03-31", 8.0, 16.5, "2024-03-31T07:00", 510),
        # Days of 23 and 25 hours.
        (NEW_YORK, "2024-03-10", 0.0, 24.0, "2024-03-10T05:00", 23 * 60),
        (NEW_YORK, "2024-11-03", 0.0, 24.0, "2024-11-03T04:00", 25 * 60),
        # Over midnight: it belongs to the day it begins on, and in March is an hour shorter.
        (NEW_YORK, "2024-03-09", 22.0, 4.0, "2024-03-10T03:00", 300),
    ],
)
def test_spans_are_those_of_the_wall_clock(
    zone: str, day: str, from_h: float, to_h: float, first_utc: str | None, minutes: int
) -> None:
    row = ScheduleRow("r", zone, 0.5, (), (day,), int(3600 * from_h), int(3600 * to_h))
    found = minutes_of(row, day)
    assert len(found) == minutes
    if first_utc is not None:
        assert found[0] == datetime.fromisoformat(first_utc).replace(tzinfo=UTC)


def test_spans_are_half_open() -> None:
    row = ScheduleRow("close", NEW_YORK, 0.5, (), (), 15 * 3600 + 1800, 16 * 3600)
    start = datetime(2024, 7, 1, 19, 30, tzinfo=UTC)
    assert row.holds(start)
    assert not row.holds(start - timedelta(microseconds=1))
    assert row.holds(start + timedelta(minutes=30, microseconds=-1))
    assert not row.holds(start + timedelta(minutes=30))


def test_weekdays_and_dates_add_up() -> None:
    row = ScheduleRow("r", "UTC", 0.0, weekdays=(5,), dates=("2024-12-24",))
    held = [day for day in range(20, 31) if row.holds(datetime(2024, 12, day, 12, tzinfo=UTC))]
    assert held == [20, 24, 27]


def test_the_smallest_counts_and_ages_multiply_the_edge() -> None:
    rows = (ScheduleRow("a", "UTC", 0.5), ScheduleRow("b", "UTC", 0.8), ScheduleRow("c", "UTC", 1))
    found = scheduled(Schedule(rows), datetime(2024, 1, 1, tzinfo=UTC))
    assert fraction_multiplier(found) == 0.5
    assert edge_multiplier(found) == 1.0
    found.append(Adjustment(AdjustmentSource.EDGE_AGE, "edge_half_life", 0.25, ""))
    assert fraction_multiplier(found) == 0.5
    assert edge_multiplier(found) == 0.25
    assert fraction_multiplier([]) == edge_multiplier([]) == 1.0


def test_an_edge_halves_in_its_half_life() -> None:
    assert [edge_decay(age, 5.0) for age in (-1.0, 0.0, 5.0, 15.0)] == [1.0, 1.0, 0.5, 0.125]
    # The mean over a holding time h is H / (h ln 2) (1 - 2^(-h/H)); here as a fine sum.
    for half_life, holding, mean in (
        (5.0, 5.0, 0.7213475204),
        (5.0, 1.0, 0.9337803019),
        (20.0, 5.0, 0.9181518108),
        (2.0, 10.0, 0.2795221642),
    ):
        steps = 20_000
        total = sum(edge_decay((i + 0.5) * holding / steps, half_life) for i in range(steps))
        assert abs(total / steps - mean) < 1e-9
