"""What joint work is expected to take, by what work of its kind took lately.

Nothing is known of a kind before its first time. Of a size that has not been seen it is at least
what smaller ones took, in proportion to the numbers read. What was expected too long, and so
refused, is expected a little less of the next time: a slow moment must not refuse a size for ever.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from compute.optimize.problem import Problem
from compute.optimize.time_limit import TooLongError

KEYS_MAX = 256
FORGOTTEN = 0.9
"""What a refusal leaves of the expectation that led to it."""


@dataclass(frozen=True)
class Size:
    """Problems that take about as long: same work, same kinds, sizes within a factor of two.

    kind: the work, its objectives and its limits on tails. instruments, periods: logarithms of
    their numbers to the base 2.
    """

    kind: tuple[str, ...]
    instruments: int
    periods: int

    def times_larger(self, other: "Size") -> float | None:
        """How many times more numbers this has than another of its kind; None where it hasn't."""
        more = self.instruments - other.instruments, self.periods - other.periods
        if self.kind != other.kind or min(more) < 0:
            return None
        return float(2 ** sum(more))


def size_of(work: Callable[..., object], problem: Problem) -> Size:
    """The size of a problem for one sort of work."""
    limits = problem.limits
    tails = [
        name
        for name in ("cvar_max", "cdar_max", "drawdown_max", "drawdown_risk", "var_max")
        if getattr(limits, name) is not None
    ]
    periods = 0 if problem.scenarios is None else len(problem.scenarios)
    parts = (problem.objective, *(part for _, part in problem.objective.terms))
    kinds = sorted({part.kind.name for part in parts})
    sizes = (round(math.log2(max(count, 1))) for count in (problem.size, periods))
    return Size((work.__name__, *kinds, *tails), *sizes)


class Expected:
    """Seconds a unit (a point of a frontier, or the whole) of joint work, by its size."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[Size, float] = OrderedDict()

    def check(self, size: Size, units: int, left_s: float, words: str) -> None:
        """Raises `TooLongError` where so much work, named by `words`, will not end in time."""
        each = self._each(size)
        if each * units <= left_s:
            return
        self._keep(size, FORGOTTEN * each)
        fitting = int(left_s / each)
        advice = f", enough for {fitting} points" if units > 1 and fitting > 1 else ""
        raise TooLongError(
            f"{words} take about {each * units:.2g} s; {left_s:.2g} s are left{advice}"
        )

    def learn(self, size: Size, units: int, seconds: float, *, finished: bool) -> None:
        """So long it took, or at least so long where it did not finish."""
        known = self._seconds.get(size, 0.0)
        each = seconds / units
        self._keep(size, 0.5 * (known + each) if finished and known else max(known, each))

    def _each(self, size: Size) -> float:
        """Seconds a unit as far as anything is known, else 0."""
        if (known := self._seconds.get(size)) is not None:
            return known
        smaller = ((size.times_larger(other), each) for other, each in self._seconds.items())
        return max((times * each for times, each in smaller if times is not None), default=0.0)

    def _keep(self, size: Size, each: float) -> None:
        self._seconds[size] = each
        self._seconds.move_to_end(size)
        while len(self._seconds) > KEYS_MAX:
            self._seconds.popitem(last=False)
