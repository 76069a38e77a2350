"""Times of day and dates at which a smaller Kelly fraction is taken.

Rows are half-open spans of local time in a zone of the IANA database, so that summer time begins
and ends as its zone has it: the clock on the wall decides. An hour that is skipped never comes,
one that is repeated counts twice.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

DAY_S = 86400


@dataclass(frozen=True)
class ScheduleRow:
    """One span on some days.

    weekdays: 1 Monday to 7 Sunday; dates: ISO 8601. It is in force on the days of either; on all
    days where both are empty. from_s, to_s: seconds of the day on the local clock, [from, to); a
    span with to_s <= from_s ends on the day after, and belongs to the day it begins on.
    """

    name: str
    time_zone: str
    multiplier: float
    weekdays: tuple[int, ...] = ()
    dates: tuple[str, ...] = ()
    from_s: int = 0
    to_s: int = DAY_S

    def holds(self, time: datetime) -> bool:
        """Whether it is in force at `time`, which has a zone."""
        local = time.astimezone(ZoneInfo(self.time_zone))
        second, today = 3600 * local.hour + 60 * local.minute + local.second, local.date()
        if self.from_s < self.to_s:
            return self.from_s <= second < self.to_s and self._is_on(today)
        if second >= self.from_s:
            return self._is_on(today)
        return second < self.to_s and self._is_on(today - timedelta(days=1))

    def _is_on(self, day: date) -> bool:
        if not self.weekdays and not self.dates:
            return True
        return day.isoweekday() in self.weekdays or day.isoformat() in self.dates


@dataclass(frozen=True)
class Schedule:
    """Rows in any order; several may be in force at once."""

    rows: tuple[ScheduleRow, ...] = ()

    def in_force(self, time: datetime) -> list[ScheduleRow]:
        """The rows in force at `time`."""
        return [row for row in self.rows if row.holds(time)]


NO_SCHEDULE = Schedule()
