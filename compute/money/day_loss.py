"""The largest loss of a trading day.

With equity S when the day began and R that losses count from, the loss at equity E is (R - E) / S.
R is S until the limit is passed; from then on it is the lowest equity seen, so that whoever lets
trading go on may lose as much again before it is stopped anew.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

_ROUNDING = 1.0 + 1e-12


@dataclass(frozen=True)
class TradingDay:
    """A day of a portfolio; equities in its base currency."""

    day: date
    equity_start: float
    equity_reference: float
    equity_last: float

    @classmethod
    def opened(cls, day: date, equity: float) -> "TradingDay":
        """A day that begins at an equity."""
        return cls(day, equity, equity, equity)

    @property
    def loss(self) -> float:
        """Lost since the day began, a fraction of the equity then; below 0 for a gain."""
        if self.equity_start <= 0.0:
            return 0.0
        return (self.equity_start - self.equity_last) / self.equity_start

    def passes(self, equity: float, loss_max: float) -> bool:
        """Whether more is lost than the limit allows; never of a day begun without equity."""
        lost = self.equity_reference - equity
        return self.equity_start > 0.0 and lost > loss_max * self.equity_start * _ROUNDING

    def seen(self, equity: float, *, is_restricted: bool) -> "TradingDay":
        """The day after a look; is_restricted: trading is reduced or halted already."""
        lowest = min(self.equity_reference, equity) if is_restricted else self.equity_reference
        return replace(self, equity_last=equity, equity_reference=lowest)


def day_at(moment: datetime, zone: str) -> date:
    """The trading day of a moment: the date on the wall of the zone."""
    return moment.astimezone(ZoneInfo(zone)).date()


def start_of(day: date, zone: str) -> datetime:
    """When a trading day begins: its midnight in the zone."""
    return datetime.combine(day, time(0), tzinfo=ZoneInfo(zone))
