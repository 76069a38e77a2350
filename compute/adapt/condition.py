"""Whether a rule on a market condition applies: thresholds with hysteresis and a dwell time.

A rule begins to apply when the condition reaches `enter`, stops when it is back at `leave`, and
keeps either state for at least `dwell` observations. Between the thresholds nothing changes, so
that noise around one number doesn't move positions back and forth. What it takes away comes back at
once, or by `rise_max` an observation; it is never taken away slowly.

    state' = step(state, observation, rule)

is all there is to it: it looks at nothing but the observation and costs the same for any history.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from math import isnan

UNKNOWN = float("nan")
"""A value that nobody has looked up: taken as one at which every rule applies."""


@dataclass(frozen=True)
class Observation:
    """A condition at a time: a number, or a category where `value` is None."""

    as_of_time: datetime
    value: float | None
    category: str = ""


class ConditionScope(IntEnum):
    """Whose observation a rule looks at. The numbers are those of the contract."""

    FIRM = 0
    PORTFOLIO = 1
    STRATEGY = 2
    INSTRUMENT = 3


@dataclass(frozen=True)
class ConditionRule:
    """What to do under a condition.

    Of numbers: enter > leave applies to large ones, enter < leave to small ones, enter = leave to
    those of at least `enter`. categories: applies while the condition is one of them. multiplier:
    of the Kelly fraction while it applies. rise_max: the most that the multiplier rises with an
    observation once the rule no longer applies; None: to 1 at once. age_max_s: older observations,
    or none at all, count as `stale_multiplier`; None: any age will do. instrument_ids: lines of
    these only, which with scope INSTRUMENT look each at its own observation; empty: all.
    """

    name: str
    condition_id: str
    multiplier: float
    enter: float | None = None
    leave: float | None = None
    categories: tuple[str, ...] = ()
    dwell: int = 0
    age_max_s: float | None = None
    stale_multiplier: float = 0.0
    rise_max: float | None = None
    scope: ConditionScope = ConditionScope.FIRM
    instrument_ids: tuple[str, ...] = ()


def is_readable(seen: Observation, rule: ConditionRule) -> bool:
    """Whether an observation is of what a rule looks at: a number, or a category."""
    return bool(rule.categories) == (seen.value is None)


def decides(seen: Observation, rule: ConditionRule) -> bool:
    """Whether it says by itself, dwell aside, if the rule applies: no number between thresholds."""
    if seen.value is None or rule.enter is None or rule.leave is None:
        return is_readable(seen, rule)
    return not min(rule.enter, rule.leave) < seen.value < max(rule.enter, rule.leave)


def is_whole(seen: Sequence[Observation], rule: ConditionRule, limit: int) -> bool:
    """Whether the rule did not apply before these: they are all there are, or none that decides
    has ever been there.

    seen: the newest `limit` observations and, where none of them decides, the newest one that does
    with `limit` - 1 before it. Between the thresholds nothing changes, so what lies between the two
    may be left out.
    """
    return len(seen) < limit or not any(decides(item, rule) for item in seen)


@dataclass(frozen=True)
class RuleState:
    """Whether a rule applies, observations since that last changed, and the multiplier."""

    applies: bool
    held: int
    multiplier: float = 1.0


def step(state: RuleState, seen: Observation, rule: ConditionRule) -> RuleState:
    """The state after one more observation; one that the rule can't read changes nothing."""
    held = state.held + 1
    if not is_readable(seen, rule):
        return RuleState(state.applies, held, state.multiplier)
    wanted = _wanted(state.applies, seen, rule)
    applies = state.applies
    if wanted != applies and held >= rule.dwell:
        applies, held = wanted, 0
    if applies:
        return RuleState(applies, held, rule.multiplier)
    risen = 1.0 if rule.rise_max is None else state.multiplier + rule.rise_max
    return RuleState(applies, held, min(1.0, risen))


def state_after(seen: Sequence[Observation], rule: ConditionRule, *, is_whole: bool) -> RuleState:
    """The state after observations in the order of time.

    is_whole: the rule did not apply before them (`is_whole` above); else it is taken to have
    applied, until they say otherwise.
    """
    state = RuleState(not is_whole, rule.dwell, 1.0 if is_whole else rule.multiplier)
    for item in seen:
        state = step(state, item, rule)
    return state


def _wanted(applies: bool, seen: Observation, rule: ConditionRule) -> bool:
    if seen.value is None or rule.enter is None or rule.leave is None:
        return seen.category in rule.categories
    if isnan(seen.value):
        return True
    if rule.enter >= rule.leave:
        return (
            seen.value > rule.leave
            if applies and rule.enter > rule.leave
            else (seen.value >= rule.enter)
        )
    return seen.value < rule.leave if applies else seen.value <= rule.enter
