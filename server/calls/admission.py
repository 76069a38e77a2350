"""Who may come in: as many calls at once as are answered in time, and none while the service stops.

A queue that is bounded by number alone is too long on a slow day: then every call is answered late,
and most after their callers have gone. So the bound follows the latency of short calls: it falls by
a fifth where one takes longer than `latency_max_s`, and grows by one for as many answered in time
as there are inside (additive increase, multiplicative decrease: Chiu and Jain 1989). Long work, of
seconds, has bounded queues of its own (`batching.py`) and counts for nothing here.
"""

import asyncio
import contextlib
import time

import grpc

from server.calls.errors import Refusal

LIMIT_MIN = 16
"""So many short calls are always let in: on a machine that is slow for another reason a caller
with a handful of sessions is still answered, late, rather than refused."""

DECREASE = 0.8
"""What is left of the limit after a call that took too long."""


class Ticket:
    """One admitted call."""

    def __init__(self, admission: "Admission", started: float) -> None:
        self._admission = admission
        self.started = started
        self.is_long = False

    def takes_long(self) -> None:
        """The call has gone into a queue of long work: it doesn't count as a short one any more."""
        if not self.is_long:
            self.is_long = True
            self._admission.short_in_flight -= 1


class Admission:
    """Counts the calls being answered; `enter` before and `leave` after each."""

    def __init__(self, in_flight_max: int, latency_max_s: float = float("inf")) -> None:
        self._in_flight_max = in_flight_max
        self._latency_max_s = latency_max_s
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._limit = float(in_flight_max)
        self._usual_s = 0.0
        self._decreased_at = 0.0
        self.in_flight = 0
        self.short_in_flight = 0
        self.refused = 0
        self._refused_at = 0.0

    @property
    def is_draining(self) -> bool:
        """Whether the service stops."""
        return self._draining

    @property
    def limit(self) -> int:
        """Short calls that are let in at once, now."""
        return max(int(self._limit), min(LIMIT_MIN, self._in_flight_max))

    def enter(self, left_s: float = float("inf"), *, is_urgent: bool = False) -> Ticket:
        """Raises `Refusal`, with advice when to come again, where the call may not come in.

        left_s: until its deadline. An urgent one comes in however many are inside: the kill switch
        has to work under overload.
        """
        if self._draining:
            raise self._refusal("DRAINING", "the service is stopping; ask another replica", 0.5)
        if not is_urgent:
            self._check(left_s)
        self.in_flight += 1
        self.short_in_flight += 1
        self._idle.clear()
        return Ticket(self, time.monotonic())

    def _check(self, left_s: float) -> None:
        inside = self.short_in_flight
        if self.in_flight >= self._in_flight_max or inside >= self.limit:
            text = f"{self.in_flight} calls are being answered, which is as many as may be"
            raise self._refusal("OVERLOADED", text, max(0.05, min(self._usual_s, 1.0)))
        if inside >= LIMIT_MIN and self._usual_s > left_s:
            text = f"answers take {self._usual_s:.2g} s now, more than is left for this call"
            raise self._refusal("OVERLOADED", text, max(0.05, min(self._usual_s, 1.0)))

    def leave(self, ticket: Ticket) -> None:
        """An admitted call has been answered."""
        self.in_flight -= 1
        if not ticket.is_long:
            self._learn(ticket)
            self.short_in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()

    def _learn(self, ticket: Ticket) -> None:
        now = time.monotonic()
        took = now - ticket.started
        self._usual_s += 0.1 * (took - self._usual_s)
        if took > self._latency_max_s:
            # Once for all that were inside at the same time: they waited for each other.
            if ticket.started >= self._decreased_at:
                inside = min(self._limit, float(self.short_in_flight))
                self._limit = max(float(LIMIT_MIN), DECREASE * inside)
                self._decreased_at = now
        elif 2 * self.short_in_flight >= self.limit:
            self._limit = min(float(self._in_flight_max), self._limit + 1.0 / self._limit)

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
