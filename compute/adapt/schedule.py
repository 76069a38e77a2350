"""Times of day and dates at which a smaller Kelly fraction is taken.

Rows are half-open spans of local time in a zone of the IANA database, so that summer time begins
and ends as its zone has it: the clock on the wall decides. An hour that is skipped never comes,
one that is repeated counts twice. Or they are spans about the sessions of an exchange, whose opens
and closes, early ones too, come as a table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from compute.market import Floats

DAY_S = 86400


@dataclass(frozen=True)
class Sessions:
    """Opens and closes of an exchange's sessions, rising, in seconds since 1970 UTC, (k,) each."""

    opens: Floats
    closes: Floats


NO_SESSIONS: Mapping[str, Sessions] = {}


@dataclass(frozen=True)
class ScheduleRow:
    """One span on some days.

    weekdays: 1 Monday to 7 Sunday; dates: ISO 8601. It is in force on the days of either; on all
    days where both are empty. from_s, to_s: seconds of the day on the local clock, [from, to); a
    span with to_s <= from_s ends on the day after, and belongs to the day it begins on.
    exchange: where it is given, from_s and to_s are seconds after the open of each of its sessions,
    or after the close (from_close, to_close), and a span that would end before it begins ends by
    the next session. instrument_ids: lines of these only; empty: all.
    """

    name: str
    time_zone: str
    multiplier: float
    weekdays: tuple[int, ...] = ()
    dates: tuple[str, ...] = ()
    from_s: int = 0
    to_s: int = DAY_S
    exchange: str = ""
    from_close: bool = False
    to_close: bool = False
    instrument_ids: tuple[str, ...] = ()

    def holds(self, time: datetime, sessions: Mapping[str, Sessions] = NO_SESSIONS) -> bool:
        """Whether it is in force at `time`, which has a zone.

        A row of an exchange whose sessions are not there is: the tighter answer.
        """
        if self.exchange:
            table = sessions.get(self.exchange)
            return table is None or self._holds_by(table, time.timestamp())
        local = time.astimezone(ZoneInfo(self.time_zone))
        second, today = 3600 * local.hour + 60 * local.minute + local.second, local.date()
        if self.from_s < self.to_s:
            return self.from_s <= second < self.to_s and self._is_on(today)
        if second >= self.from_s:
            return self._is_on(today)
        return second < self.to_s and self._is_on(today - timedelta(days=1))

    def _holds_by(self, table: Sessions, time_s: float) -> bool:
        begin = (table.closes if self.from_close else table.opens) + self.from_s
        end = (table.closes if self.to_close else table.opens) + self.to_s
        end = np.where(end > begin, end, np.append(end[1:], np.inf))
        return bool(((begin <= time_s) & (time_s < end)).any())

    def _is_on(self, day: date) -> bool:
        if not self.weekdays and not self.dates:
            return True
        return day.isoweekday() in self.weekdays or day.isoformat() in self.dates


@dataclass(frozen=True)
class Schedule:
    """Rows in any order; several may be in force at once."""

    rows: tuple[ScheduleRow, ...] = ()

    def in_force(
        self, time: datetime, sessions: Mapping[str, Sessions] = NO_SESSIONS
    ) -> list[ScheduleRow]:
        """The rows in force at `time`; `sessions` by exchange."""
        return [row for row in self.rows if row.holds(time, sessions)]

    @property
    def exchanges(self) -> frozenset[str]:
        """Those whose sessions it needs."""
        return frozenset(row.exchange for row in self.rows if row.exchange)


NO_SCHEDULE = Schedule()
