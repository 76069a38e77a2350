"""A circuit breaker: what keeps failing is left alone for a while, then tried once."""

from collections import deque

FAILURES, WITHIN_S, REST_S = 5, 30.0, 10.0


class Breaker:
    """Opens after `FAILURES` within `WITHIN_S`; after `REST_S` one question is let through.

    Times are given, seconds on a clock that never goes back.
    """

    def __init__(self) -> None:
        self._failed: deque[float] = deque(maxlen=FAILURES)
        self._opened: float | None = None
        self._is_trying = False

    def is_open(self, now_s: float) -> bool:
        """Whether nothing may be asked now."""
        return self._opened is not None and (self._is_trying or now_s < self._opened + REST_S)

    def enter(self, now_s: float) -> bool:
        """Takes the right to ask; False where there is none."""
        if self.is_open(now_s):
            return False
        self._is_trying = self._opened is not None
        return True

    def succeeded(self) -> None:
        """The answer was good: the circuit closes."""
        self._failed.clear()
        self._opened, self._is_trying = None, False

    def failed(self, now_s: float) -> None:
        """It wasn't."""
        self._failed.append(now_s)
        recent = len(self._failed) == FAILURES and now_s - self._failed[0] <= WITHIN_S
        if self._is_trying or recent:
            self._opened = now_s
        self._is_trying = False

    def left(self) -> None:
        """It was asked, but nothing is known of the answer: the caller went away."""
        self._is_trying = False
