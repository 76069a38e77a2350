"""Returns by calendar month and year of a path of equity.

    r = W_last / W_before - 1

W_last: at the last session of the month, W_before at the last one before the month; in the first
month W_before is at the first session, so that it may be of a part of the month only, as the last.
"""

from collections.abc import Sequence
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
    spans: dict[str, tuple[int, int]] = {}
    for t, day in enumerate(dates):
        for span in (day[:4], day[:7]):
            spans[span] = (spans.get(span, (t,))[0], t)
    return [
        _return(spans.get(f"{year:04}-{month:02}" if month else f"{year:04}"), equity, year, month)
        for year in range(int(dates[0][:4]), int(dates[-1][:4]) + 1)
        for month in (*MONTHS, YEAR)
    ]


def _return(span: tuple[int, int] | None, equity: Floats, year: int, month: int) -> CalendarReturn:
    """Of the sessions from the first to the last of a span; None: it has none."""
    if span is None:
        return CalendarReturn(year, month, None, "NO_SESSION")
    before, last = max(span[0] - 1, 0), span[1]
    if last == before:
        return CalendarReturn(year, month, None, "FIRST_SESSION")
    if not equity[before] > 0.0:
        return CalendarReturn(year, month, None, "RUINED")
    return CalendarReturn(year, month, float(equity[last] / equity[before]) - 1.0)
