"""Who may come in: a bounded number of calls at once, and none while the service stops."""

import asyncio
import contextlib
import time

import grpc

from server.errors import Refusal


class Admission:
    """Counts the calls being answered; `enter` before and `leave` after each."""

    def __init__(self, in_flight_max: int) -> None:
        self._in_flight_max = in_flight_max
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.in_flight = 0
        self.refused = 0
        self._refused_at = 0.0

    def enter(self, *, is_urgent: bool = False) -> None:
        """Raises `Refusal`, with advice when to come again, where the call may not come in.

        An urgent one comes in however many are inside: the kill switch has to work under overload.
        """
        if self._draining:
            raise self._refusal("DRAINING", "the service is stopping; ask another replica", 0.5)
        if self.in_flight >= self._in_flight_max and not is_urgent:
            text = f"{self.in_flight} calls are being answered, which is as many as may be"
            raise self._refusal("OVERLOADED", text, 0.05)
        self.in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        """An admitted call has been answered."""
        self.in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()

    async def drain(self, timeout_s: float) -> int:
        """Admits nothing more and waits for the calls inside; returns how many are left."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        return self.in_flight

    async def quiet(self, quiet_s: float, timeout_s: float) -> None:
        """Waits until for `quiet_s` no call has come and been refused, at most `timeout_s`.

        While a server closes its connections gRPC itself answers what arrives, with CANCELLED,
        which callers don't take for a reason to try again. So they are told UNAVAILABLE first.
        """
        started = time.monotonic()
        while True:
            now = time.monotonic()
            left = min(max(started, self._refused_at) + quiet_s, started + timeout_s) - now
            if left <= 0:
                return
            await asyncio.sleep(left)

    def _refusal(self, reason: str, message: str, retry_after_s: float) -> Refusal:
        self.refused += 1
        self._refused_at = time.monotonic()
        code = grpc.StatusCode.UNAVAILABLE
        return Refusal(code, reason, message, retry_after_s=retry_after_s)
