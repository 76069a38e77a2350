"""What rules take off the Kelly fraction or the edges in one decision.

    fraction = c min_i m_i        edge = edge_0 2^(-age / H)

The minimum and not the product: several multipliers that answer to the same storm would otherwise
take off several times for one cause.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from compute.adapt.condition import ConditionRule, Observation, is_readable, state_after
from compute.adapt.schedule import NO_SESSIONS, Schedule, ScheduleRow, Sessions
from compute.money.text import money
from compute.parameters import EffectiveParameters


class AdjustmentSource(IntEnum):
    """Where a multiplier comes from. The numbers are those of the contract."""

    SCHEDULE = 1
    EDGE_AGE = 2
    DRAWDOWN_FLOOR = 3
    CONDITION = 4
    VOLATILITY = 5
    SIZE_MODEL = 6


@dataclass(frozen=True)
class Adjustment:
    """A multiplier in [0, 1] with its rule; `explanation` is for people.

    lines: of SIZE_MODEL, and of rules for some instruments (`line_rules.py`), the multiplier of
    each line's edge and of its error (`edge.multiplied`); `multiplier` is the smallest then.
    """

    source: AdjustmentSource
    name: str
    multiplier: float
    explanation: str
    lines: tuple[float, ...] = ()

    @property
    def is_on_edge(self) -> bool:
        """Whether it multiplies the edge, not the Kelly fraction."""
        return self.source is AdjustmentSource.EDGE_AGE or bool(self.lines)


def fraction_multiplier(adjustments: Iterable[Adjustment]) -> float:
    """The smallest of those on the Kelly fraction of all lines; 1 where there are none."""
    return min((item.multiplier for item in adjustments if not item.is_on_edge), default=1.0)


def edge_multiplier(adjustments: Iterable[Adjustment]) -> float:
    """The product of those on the edges of all lines; 1 where there are none."""
    product = 1.0
    for item in adjustments:
        product *= item.multiplier if item.source is AdjustmentSource.EDGE_AGE else 1.0
    return product


def scheduled(
    schedule: Schedule, time: datetime, sessions: Mapping[str, Sessions] = NO_SESSIONS
) -> list[Adjustment]:
    """One for each row in force at `time`."""
    return [
        Adjustment(
            AdjustmentSource.SCHEDULE,
            row.name,
            row.multiplier,
            span_text(row, sessions),
        )
        for row in schedule.in_force(time, sessions)
        if not row.instrument_ids
    ]


def span_text(row: ScheduleRow, sessions: Mapping[str, Sessions]) -> str:
    """When a row is in force, in words."""
    if not row.exchange:
        return f"from {_clock(row.from_s)} to {_clock(row.to_s)} {row.time_zone}"
    if row.exchange not in sessions:
        return f"the sessions of {row.exchange} are not known here: in force at all times"
    ends = ((row.from_close, row.from_s), (row.to_close, row.to_s))
    begin, end = (f"{'close' if c else 'open'} {s / 60:+g} min" for c, s in ends)
    return f"from {begin} to {end} of {row.exchange}"


def edge_decay(age_s: float, half_life_s: float) -> float:
    """2^(-age / H), in [0, 1]; of an age below 0, as clocks differ, 1."""
    return float(2.0 ** (-max(age_s, 0.0) / half_life_s))


def aged(age_s: float, half_life_s: float) -> Adjustment:
    """The multiplier of edges of that age."""
    text = f"edges are {age_s:.0f} s old, with a half-life of {half_life_s:.0f} s"
    return Adjustment(
        AdjustmentSource.EDGE_AGE, "edge_half_life", edge_decay(age_s, half_life_s), text
    )


def conditional(
    rule: ConditionRule, seen: Sequence[Observation], now: datetime, *, is_whole: bool
) -> Adjustment:
    """What a rule comes to after these observations (`condition.state_after`)."""
    source, about = AdjustmentSource.CONDITION, rule.condition_id
    if not seen:
        text = f"{about} has never been observed"
        return Adjustment(source, rule.name, rule.stale_multiplier, text)
    newest = seen[-1]
    age_s = (now - newest.as_of_time).total_seconds()
    if rule.age_max_s is not None and age_s > rule.age_max_s:
        text = f"{about} is {age_s:.0f} s old; at most {rule.age_max_s:.0f} s count"
        return Adjustment(source, rule.name, rule.stale_multiplier, text)
    if not is_readable(newest, rule):
        wanted, given = ("category", "number") if rule.categories else ("number", "category")
        text = f"{about} was last observed as a {given}; the rule needs a {wanted}"
        return Adjustment(source, rule.name, rule.stale_multiplier, text)
    state = state_after(seen, rule, is_whole=is_whole)
    told = newest.category if newest.value is None else f"{newest.value:.6g}"
    words = "applies" if state.applies else "does not apply"
    if not state.applies and state.multiplier < 1.0:
        words = f"no longer applies and gives back {rule.rise_max:.6g} an observation"
    text = f"{about} is {told}; the rule {words}"
    return Adjustment(source, rule.name, state.multiplier, text)


def floor_multiplier(equity: float, floor: float, times: float = 1.0) -> float:
    """min(1, k (1 - F / W)+) with floor F and equity W, money, and `times` k >= 1.

    With F = a M of the highest equity M, k = 1 is Grossman and Zhou (1993): at the peak it is
    1 - a, which is the price of the floor; at W <= F it is 0, and stays so. Above 1 it is the
    time-invariant portfolio protection of Estep and Kritzman (1988), whose floor breaks on a fall
    of what is held of more than 1 / k. With an F that does not rise it is constant proportion
    portfolio insurance (Black and Jones 1987).
    """
    return min(1.0, times * max(0.0, 1.0 - floor / equity)) if equity > 0.0 else 0.0


def floored(parameters: EffectiveParameters, equity: float, highest: float) -> list[Adjustment]:
    """What the floors of a portfolio come to, where it has any; money in base currency."""
    found, times = [], parameters.drawdown_multiplier
    part, fixed = parameters.drawdown_floor, parameters.equity_floor
    if part is not None:
        closed = "until the high-water mark is set anew (RebaseHighWaterMark)"
        kind = "drawdown_floor", f", {part:g} of {money(highest)}", closed
        found.append(_over(equity, part * highest, times, *kind))
    if fixed is not None:
        kind = "equity_floor", "", "until money is paid in or the floor is set lower"
        found.append(_over(equity, fixed, times, *kind))
    return found


def _over(
    equity: float, floor: float, times: float, name: str, origin: str, closed: str
) -> Adjustment:
    """One floor; says where nothing is left."""
    multiplier = floor_multiplier(equity, floor, times)
    text = f"equity {money(equity)} over a floor of {money(floor)}{origin}"
    text += f", cushion times {times:g}" if times != 1.0 else ""
    if multiplier == 0.0:
        text = f"equity {money(equity)} is at the floor {money(floor)}: positions stay closed "
        text += closed
    return Adjustment(AdjustmentSource.DRAWDOWN_FLOOR, name, multiplier, text)


def _clock(second: int) -> str:
    return f"{second // 3600:02d}:{second // 60 % 60:02d}"
