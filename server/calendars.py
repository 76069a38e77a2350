"""Sessions of exchanges, for schedules that name one: tables of the package exchange-calendars.

It is optional (extra `calendars`), and slow to load, which is done beside the event loop, once a
year and exchange. Without it schedules that name an exchange are refused, and stored ones are in
force at all times.
"""

import asyncio
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec

import numpy as np

from compute.adapt.schedule import NO_SESSIONS, Schedule, Sessions

PACKAGE = "exchange_calendars"


def is_available() -> bool:
    """Whether the package is installed."""
    return find_spec(PACKAGE) is not None


@cache
def exchanges() -> frozenset[str]:
    """Codes of the exchanges that are known, mostly ISO 10383."""
    if not is_available():
        return frozenset()
    from exchange_calendars import get_calendar_names

    return frozenset(get_calendar_names(include_aliases=False))


async def sessions(schedule: Schedule) -> Mapping[str, Sessions]:
    """Of the exchanges that the schedule names, as far as they are known."""
    if not schedule.exchanges:
        return NO_SESSIONS
    names, year = sorted(schedule.exchanges), datetime.now(UTC).year
    tables = await asyncio.to_thread(lambda: [_table(name, year) for name in names])
    return {name: table for name, table in zip(names, tables, strict=True) if table is not None}


@cache
def _table(exchange: str, year: int) -> Sessions | None:
    """Sessions from the year before to the end of the one after, as far as they are planned."""
    if exchange not in exchanges():
        return None
    from exchange_calendars import get_calendar

    with warnings.catch_warnings():  # of its use of pandas
        warnings.simplefilter("ignore", DeprecationWarning)
        calendar = get_calendar(exchange, start=f"{year - 1}-01-01")
    seconds = [
        column.dt.tz_convert("UTC")
        .dt.tz_localize(None)
        .to_numpy("datetime64[s]")
        .astype(np.float64)
        for column in (calendar.opens, calendar.closes)
    ]
    return Sessions(*seconds)
