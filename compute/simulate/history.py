"""Prices of the past, point in time, as a backtest reads them.

Row t of each array is session t, column i instrument i. A price that is missing is NaN: the
instrument can't be traded in that session, and what is held is marked at the last price known.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from compute.market import Floats
from compute.simulate.delisting import Delisting, wrong_delistings

DECAY = 0.97
"""Of the exponentially weighted volatility, a session."""

COLUMNS = ("close", "open", "dividend", "split", "volume")
"""What a history says of each instrument in each session."""

VOLUME_SESSIONS = 20
"""Average daily volume is the median of so many sessions: one index rebalance moves a mean."""


class HistoryError(ValueError):
    """A history that can't be used; says the session, and the instrument where there is one."""

    def __init__(self, reason: str, message: str, session: int, instrument: int | None) -> None:
        super().__init__(message)
        self.reason = reason
        self.session = session
        self.instrument = instrument


@dataclass(frozen=True)
class PriceHistory:
    """Sessions of m instruments, rising in time.

    dates: ISO dates, (T,). close, open: prices in one currency, (T, m); without `open`, orders are
    filled at the next close. dividend: cash a unit, going ex in that session, for units held at the
    close before. split: units for one unit, effective before that session opens, 1 for none.
    volume: units traded, for limits on the average daily volume. delistings: instruments that leave
    the market, at most one each; without one, what is held of prices that end stays at the last.
    """

    dates: tuple[str, ...]
    instrument_ids: tuple[str, ...]
    close: Floats
    open: Floats | None = None
    dividend: Floats | None = None
    split: Floats | None = None
    volume: Floats | None = None
    sector: tuple[str, ...] = ()
    delistings: tuple[Delisting, ...] = ()

    def __post_init__(self) -> None:
        """Raises `HistoryError` for the first thing that is wrong."""
        self._check_dates()
        shape = (len(self.dates), len(self.instrument_ids))
        for name in COLUMNS:
            column = getattr(self, name)
            if column is None:
                continue
            if column.shape != shape:
                text = f"{name} is {column.shape}; {shape} sessions and instruments are expected"
                raise HistoryError("LENGTH_MISMATCH", text, 0, None)
            positive = name in ("close", "open", "split")
            wrong = np.isinf(column) | (column <= 0.0 if positive else column < 0.0)
            if wrong.any():
                session, instrument = (int(i) for i in np.argwhere(wrong)[0])
                text = (
                    f"{name} of {self.instrument_ids[instrument]!r} on {self.dates[session]} is "
                    f"{column[session, instrument]:g}; it must be {'> 0' if positive else '>= 0'}"
                )
                raise HistoryError("OUT_OF_RANGE", text, session, instrument)
        given = (self.delistings, self.close, self.dates, self.instrument_ids)
        for bad in wrong_delistings(*given):
            item = self.delistings[bad.place]
            raise HistoryError(bad.reason, bad.message, item.session, item.instrument)

    def _check_dates(self) -> None:
        if not self.dates or not self.instrument_ids:
            raise HistoryError("MISSING", "a history needs sessions and instruments", 0, None)
        if len(set(self.instrument_ids)) != len(self.instrument_ids):
            raise HistoryError("DUPLICATE", "an instrument is given twice", 0, None)
        for session, (before, date) in enumerate(zip(self.dates, self.dates[1:], strict=False), 1):
            if date <= before:
                reason = "DUPLICATE" if date == before else "NOT_SORTED"
                text = f"session {session} is {date}, after {before}: dates must rise"
                raise HistoryError(reason, text, session, None)

    @cached_property
    def last_close(self) -> Floats:
        """The newest close known at each session, adjusted for splits since, (T, m).

        NaN before the first, and from the delisting on.
        """
        last = np.empty_like(self.close)
        known = np.full(self.close.shape[1], np.nan)
        for session, row in enumerate(self.close):
            if self.split is not None:
                known = known / self.split[session]
            known = np.where(np.isnan(row), known, row)
            last[session] = known
        for item in self.delistings:
            last[item.session :, item.instrument] = np.nan
        return last

    @cached_property
    def delisting_price(self) -> Floats | None:
        """At which what is held is closed in each session, (T, m), NaN where it isn't.

        None where nothing is delisted.
        """
        if not self.delistings:
            return None
        price = np.full_like(self.close, np.nan)
        for item in self.delistings:
            price[item.session, item.instrument] = item.price
        return price

    @cached_property
    def total_return(self) -> Floats:
        """Return of holding each instrument from the close before, (T, m): splits and dividends in.

        The last one of a delisted instrument is to its delisting price. 0 in the first session and
        where either price is missing.
        """
        marks = self.last_close
        if self.delisting_price is not None:
            marks = np.where(np.isnan(marks), self.delisting_price, marks)
        out = np.zeros_like(marks)
        split = 1.0 if self.split is None else self.split[1:]
        paid = 0.0 if self.dividend is None else self.dividend[1:]
        before = np.where(marks[:-1] > 0.0, marks[:-1], np.nan)  # 0: it was delisted, worthless
        out[1:] = (split * marks[1:] + paid) / before - 1.0
        return np.nan_to_num(out)

    @cached_property
    def daily_volatility(self) -> Floats:
        """Exponentially weighted volatility known at each close, around zero, (T, m).

        Returns of sessions 1 to t with weights 0.97^age, summing to 1; NaN where there is none.
        """
        square, weight = np.zeros(self.close.shape[1]), 0.0
        out = np.full_like(self.close, np.nan)
        for session in range(1, len(self.dates)):
            square = DECAY * square + self.total_return[session] ** 2
            weight = DECAY * weight + 1.0
            out[session] = np.sqrt(square / weight)
        return out

    @cached_property
    def forecasts(self) -> dict[tuple[float, int], Floats]:
        """What `volatility_forecast.forecasts` has made of this history, by half-life and start."""
        return {}

    def until(self, end: int) -> "PriceHistory":
        """The sessions before `end`: what was known then."""
        columns = {name: getattr(self, name) for name in COLUMNS}
        cut: dict[str, Any] = {n: None if c is None else c[:end] for n, c in columns.items()}
        left = tuple(item for item in self.delistings if item.session < end)
        return replace(self, dates=self.dates[:end], delistings=left, **cut)

    def average_daily_volume(self, session: int) -> Floats | None:
        """Median units traded in the last sessions, (m,); None without volumes."""
        if self.volume is None:
            return None
        window = self.volume[max(session + 1 - VOLUME_SESSIONS, 0) : session + 1]
        return np.nan_to_num(np.nanmedian(window, axis=0))
