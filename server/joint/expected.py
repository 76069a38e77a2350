"""What joint work is expected to take, by what work of its size took lately.

Nothing is known before the first time. What was expected too long, and so refused, is expected a
little less of the next time: one slow moment must not refuse a size for ever.
"""

import math
from collections import OrderedDict
from collections.abc import Callable

from compute.optimize.problem import Problem
from compute.optimize.time_limit import TooLongError

KEYS_MAX = 256
FORGOTTEN = 0.9
"""What a refusal leaves of the expectation that led to it."""

Size = tuple[str, ...]


def size_of(work: Callable[..., object], problem: Problem) -> Size:
    """Problems that take about as long: same work, same kinds, sizes within a factor of two."""
    limits = problem.limits
    tails = [
        name
        for name in ("cvar_max", "cdar_max", "drawdown_max", "drawdown_risk", "var_max")
        if getattr(limits, name) is not None
    ]
    periods = 0 if problem.scenarios is None else len(problem.scenarios)
    parts = (problem.objective, *(part for _, part in problem.objective.terms))
    kinds = sorted({part.kind.name for part in parts})
    sizes = (f"{math.log2(max(count, 1)):.0f}" for count in (problem.size, periods))
    return (work.__name__, *kinds, *tails, *sizes)


class Expected:
    """Seconds a unit (a point of a frontier, or the whole) of joint work, by its size."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[Size, float] = OrderedDict()

    def check(self, size: Size, units: int, left_s: float, words: str) -> None:
        """Raises `TooLongError` where so much work, named by `words`, will not end in time."""
        each = self._seconds.get(size)
        if each is None or each * units <= left_s:
            return
        self._seconds[size] = FORGOTTEN * each
        raise TooLongError(f"{words} take about {each * units:.2g} s; {left_s:.2g} s are left")

    def learn(self, size: Size, units: int, seconds: float, *, finished: bool) -> None:
        """So long it took, or at least so long where it did not finish."""
        known = self._seconds.get(size, 0.0)
        each = seconds / units
        self._seconds[size] = 0.5 * (known + each) if finished and known else max(known, each)
        self._seconds.move_to_end(size)
        while len(self._seconds) > KEYS_MAX:
            self._seconds.popitem(last=False)
