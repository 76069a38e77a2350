"""Returns by calendar month and year of a path of equity.

    r = W_last / W_before - 1

W_last: at the last session of the month, W_before at the last one before the month; in the first
month W_before is at the first session, so that it may be of a part of the month only, as the last.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compute.market import Floats

YEAR = 0
"""In the place of a month: all of the year."""
MONTHS = range(1, 13)


@dataclass(frozen=True)
class CalendarReturn:
    """Simple return of a month (1 to 12), or of a year where month is YEAR.

    value is None where it is not defined; then `reason` says why.
    """

    year: int
    month: int
    value: float | None
    reason: str = ""


def calendar_returns(dates: Sequence[str], equity: Floats) -> list[CalendarReturn]:
    """Every month of every year, each year before the next; equity (T,), 0 from ruin on."""
    years = range(int(dates[0][:4]), int(dates[-1][:4]) + 1)
    return [
        found
        for year in years
        for month in (*MONTHS, YEAR)
        for found in _returns(dates, equity, year, month)
    ]


def _returns(
    dates: Sequence[str], equity: Floats, year: int, month: int
) -> Iterator[CalendarReturn]:
    prefix = f"{year:04}-" if month == YEAR else f"{year:04}-{month:02}-"
    inside = [t for t, day in enumerate(dates) if day.startswith(prefix)]
    if not inside:
        yield CalendarReturn(year, month, None, "NO_SESSION")
        return
    before = max(inside[0] - 1, 0)
    if inside[-1] == before:
        yield CalendarReturn(year, month, None, "FIRST_SESSION")
    elif not equity[before] > 0.0:
        yield CalendarReturn(year, month, None, "RUINED")
    else:
        yield CalendarReturn(year, month, float(equity[inside[-1]] / equity[before]) - 1.0)
