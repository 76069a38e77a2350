"""How long a solve may go on: looked at between iterations, cuts, points and explanations.

    check()     go on, or raise: the time is over, or nobody waits any more
    expect(s)   raise at once where what follows takes longer than there is time
    least(s)    seconds for one piece of work that can't look by itself (a call of HiGHS)

Work that takes a limit is handed one. What has many loops and no other use for it says `checkpoint`
in them, which looks at the limit that the whole piece of work runs `under`.

No clock is read here: whoever has a deadline hands in what is left of it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass


class StoppedError(RuntimeError):
    """A solve was ended from outside; there is no answer, and the problem is not at fault."""


class OutOfTimeError(StoppedError):
    """The time was over before the answer."""


class TooLongError(StoppedError):
    """The time will be over before the answer, by what has been seen of the work so far."""


class AbandonedError(StoppedError):
    """Nobody waits for the answer any more."""


def _for_ever() -> float:
    return math.inf


def _never() -> bool:
    return False


@dataclass(frozen=True)
class TimeLimit:
    """left_s: seconds that remain, now. is_cancelled: whether nobody waits any more."""

    left_s: Callable[[], float] = _for_ever
    is_cancelled: Callable[[], bool] = _never

    def check(self) -> None:
        """Raises `OutOfTimeError` or `AbandonedError` where there is no reason to go on."""
        self.least(0.0)

    def expect(self, seconds: float, words: str) -> None:
        """Raises `TooLongError` where `words`, which take so long, don't fit into what is left."""
        left = self.left_s()
        if seconds > left:
            raise TooLongError(f"{words} take about {seconds:.2g} s; {left:.2g} s are left")

    def least(self, seconds: float) -> float:
        """`seconds`, or what is left where that is less. Raises as `check` does."""
        if self.is_cancelled():
            raise AbandonedError("nobody waits for the answer any more")
        left = self.left_s()
        if left <= 0.0:
            raise OutOfTimeError("the time was over before the answer")
        return min(seconds, left)


ENDLESS = TimeLimit()
"""No deadline, and nobody who could go away."""

_CURRENT: ContextVar[TimeLimit] = ContextVar("time limit", default=ENDLESS)


@contextlib.contextmanager
def under(limit: TimeLimit) -> Iterator[None]:
    """What runs inside, in this thread, ends at its next `checkpoint` where the limit says so."""
    token = _CURRENT.set(limit)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def checkpoint() -> None:
    """Between iterations: go on, or raise as `TimeLimit.check` does. Changes no result."""
    _CURRENT.get().check()
