"""What a backtest tries: a strategy with everything that sizes it."""

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import IntEnum
from zoneinfo import ZoneInfo

from compute.limits.policy import Limits
from compute.limits.stress_limits import StressEvent
from compute.parameters import EffectiveParameters
from compute.simulate.account import TradingCosts
from compute.simulate.estimates import Estimates
from compute.simulate.strategies import Strategy


class FillAt(IntEnum):
    """When an order decided at a close is filled. The numbers are those of the contract."""

    NEXT_OPEN = 1
    NEXT_CLOSE = 2
    SAME_CLOSE = 3
    """At the price it was decided on: for comparison with engines that do so; not attainable."""


@dataclass(frozen=True)
class Clock:
    """The time of day of the decisions: seconds after midnight on the wall of an IANA zone."""

    second: int
    time_zone: str

    def moment(self, day: str) -> datetime:
        """The decision of the session on an ISO date."""
        wall = datetime.combine(date.fromisoformat(day), time(0)) + timedelta(seconds=self.second)
        return wall.replace(tzinfo=ZoneInfo(self.time_zone))


@dataclass(frozen=True)
class Setting:
    """What is tried: a strategy with everything that sizes it.

    cash: at the start. lot_size: of every instrument. rebalance_sessions: a decision every so many
    sessions. estimates: what is estimated from the history before each decision; None: nothing.
    clock: when decisions are made, for schedules. stress: the scenarios that limits name.
    """

    strategy: Strategy
    parameters: EffectiveParameters
    limits: Limits
    name: str = ""
    cash: float = 1e6
    costs: TradingCosts = field(default_factory=TradingCosts)
    fill_at: FillAt = FillAt.NEXT_OPEN
    lot_size: float = 1.0
    rebalance_sessions: int = 1
    estimates: Estimates | None = None
    clock: Clock | None = None
    stress: tuple[StressEvent, ...] = ()
