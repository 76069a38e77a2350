"""Signals of each session: given as a table, or by a rule that knows closes up to that session.

A rule is a pure function of the history and the session; what it says of session t is the same
whatever comes after t.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from compute.market import Floats, Integers
from compute.signals import Signals
from compute.simulate.history import PriceHistory
from compute.waterfall.layout import Source


@dataclass(frozen=True)
class SessionSignals:
    """Signals of one session: instruments by place in the history, (n,), and their edges."""

    instrument: Integers
    signals: Signals


class Strategy(Protocol):
    """Says the signals of a session; None where it says nothing and positions stay as they are."""

    def __call__(self, history: PriceHistory, session: int) -> SessionSignals | None:
        """The signals known at the close of `session`."""


@dataclass(frozen=True, eq=False)
class GivenSignals:
    """Signals that the caller gives, by date. Equal to itself alone: arrays have no one answer."""

    by_date: Mapping[str, SessionSignals] = field(default_factory=dict)

    def __call__(self, history: PriceHistory, session: int) -> SessionSignals | None:
        """The caller's signals of that date."""
        return self.by_date.get(history.dates[session])


@dataclass(frozen=True)
class MeanReturn:
    """The mean return of the last sessions is expected to go on, or to turn.

    expected_return: the mean m of the last `sessions` returns, times -1 for `is_reversal`; its
    error s / sqrt(sessions); volatility: exponentially weighted. The side is the sign of the mean;
    `long_only` leaves out the rest.
    """

    sessions: int = 252
    is_reversal: bool = False
    is_long_only: bool = False

    def __call__(self, history: PriceHistory, session: int) -> SessionSignals | None:
        """Instruments with a price now and a whole window behind."""
        if session < self.sessions:
            return None
        window = history.total_return[session + 1 - self.sessions : session + 1]
        mean = window.mean(axis=0) * (-1.0 if self.is_reversal else 1.0)
        error = window.std(axis=0, ddof=1) / np.sqrt(self.sessions)
        volatility = history.daily_volatility[session]
        started = ~np.isnan(history.last_close[session - self.sessions])
        usable = started & ~np.isnan(history.close[session]) & (volatility > 0.0)
        if self.is_long_only:
            usable &= mean > 0.0
        chosen = np.flatnonzero(usable & (mean != 0.0))
        if not len(chosen):
            return None
        return of_moments(chosen, mean[chosen], volatility[chosen], error[chosen])


def of_moments(
    instrument: Integers, mean: Floats, volatility: Floats, error: Floats
) -> SessionSignals:
    """Signals of means a session and what is around them; a mean below 0 is a short, (n,) each."""
    side = np.where(mean < 0.0, -1.0, 1.0)
    return SessionSignals(
        instrument,
        Signals(
            side=side,
            source=np.full(len(mean), int(Source.RETURN_VOLATILITY)),
            expected_return=np.abs(mean),
            volatility=volatility,
            expected_return_error=error,
        ),
    )
