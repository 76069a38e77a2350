"""Where work is computed: short work between the steps of the event loop, the rest in a thread.

    ComputeLoop     what takes less than handing it to a thread and back would, or little more
    ComputeThread   all else, so that the event loop waits for none of it

No timer starts work: whenever a place is free it takes what waits, of whoever has had the least
time. A queue is bounded by time: work that could not begin within its deadline, by what work has
taken lately, is refused at once. Work whose caller has gone or whose time is over is dropped unrun,
and work under way sees both in its `TimeLimit`.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from compute.optimize.time_limit import TimeLimit, under
from server.calls.errors import Refusal
from server.calls.fair_queue import FairQueue, overloaded

T = TypeVar("T")

INTERACTIVE_LINES = 256
"""Requests of up to this many lines go before larger ones."""

BULK_WAIT_MAX_S = 0.05
"""A large request that has waited this long goes next."""

ROUNDS = 24
"""Times that the event loop goes round between two pieces of short work, at most.

gRPC hands over one new call in a few rounds. With a piece in each, calls would come in more slowly
than they are answered: under overload they would wait where nobody counts them, until their time is
over. A round of nothing takes some microseconds.
"""

INTAKE = 0.5
"""Of the time of a piece, what those rounds may take: refusing calls must not starve the others."""

_MEMORY = 0.9
"""What earlier work took counts for so much beside the latest, in the estimate of the next."""


def check_time(wait_s: float, deadline_s: float) -> None:
    """Raises `Refusal` where the time is over, or would be before the turn comes."""
    if deadline_s <= 0.0:
        raise late()
    if wait_s > deadline_s:
        text = f"its turn would come in about {wait_s:.2g} s, after its deadline"
        raise overloaded(text, min(wait_s - deadline_s + 0.05, 30.0))


class ComputeLoop:
    """Runs short work on the event loop itself, in order: a piece every `ROUNDS` times round.

    Between two pieces the loop takes in what has arrived, so that calls are admitted, refused and
    answered while others wait for their turn.
    """

    def __init__(self, waiting_max: int = 1024) -> None:
        self._waiting: FairQueue[tuple[float, asyncio.Future[None]]] = FairQueue(waiting_max)
        self._is_taken = False
        self._turn_s = 0.0
        self._began = self._ended = 0.0
        self._whose = ""
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Pieces of work whose turn has not come."""
        return len(self._waiting)

    async def run(self, work: Callable[[], T], *, deadline_s: float, caller: str = "") -> T:
        """The result of `work`, at once where nothing was run just now.

        Raises `Refusal`: UNAVAILABLE where too much waits, DEADLINE_EXCEEDED where the time is
        over before its turn.
        """
        if self._is_taken:
            check_time(self._waiting.wait_s(caller, self._turn_s), deadline_s)
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            displaced = self._waiting.push(caller, (time.monotonic() + deadline_s, turn))
            if displaced is not None and not displaced[1].done():
                displaced[1].set_exception(gave_way())
            await turn
        else:
            self._waiting.begin(caller)
            self._take(caller, time.monotonic())
        return work()

    def _take(self, caller: str, now: float) -> None:
        self._is_taken, self._began, self._whose = True, now, caller
        asyncio.get_running_loop().call_soon(self._next, ROUNDS)

    def _next(self, rounds: int) -> None:
        """The next turn: it belongs to whoever has had the least of those who wait."""
        now = time.monotonic()
        if rounds == ROUNDS:
            self._ended = now
        if rounds > 1 and now - self._ended < INTAKE * (self._ended - self._began):
            asyncio.get_running_loop().call_soon(self._next, rounds - 1)
            return
        self._turn_s = _MEMORY * self._turn_s + (1.0 - _MEMORY) * (now - self._began)
        self._waiting.charge(self._whose, self._ended - self._began)
        while len(self._waiting):
            caller, (deadline, turn) = self._waiting.pop()
            if turn.done():  # its caller has gone
                self.dropped += 1
            elif now > deadline:
                self.dropped += 1
                turn.set_exception(late())
            else:
                turn.set_result(None)
                self._take(caller, now)
                return
        self._is_taken = False


@dataclass(eq=False)
class _Work:
    run: Callable[[TimeLimit], Any]
    deadline: float
    enqueued: float
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]

    def limit(self) -> TimeLimit:
        """What the work sees of its deadline, and of its caller."""
        return TimeLimit(lambda: self.deadline - self.clock(), self.future.cancelled)


class ComputeThread:
    """Runs work in order, interactive before bulk; `await run(...)` from the event loop."""

    def __init__(
        self,
        waiting_max: int = 1024,
        name: str = "compute",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._interactive: FairQueue[_Work] = FairQueue(waiting_max)
        self._bulk: FairQueue[_Work] = FairQueue(waiting_max)
        self._wake = threading.Condition()
        self._stopped = False
        self._one_s = 0.0
        self._under_way: tuple[float, _Work] | None = None
        """When the work at hand began, and which it is."""
        self.busy_s = 0.0
        self.dropped = 0
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Pieces of work that have not begun."""
        return len(self._interactive) + len(self._bulk)

    async def run(
        self,
        work: Callable[[TimeLimit], T],
        *,
        n_lines: int,
        deadline_s: float,
        caller: str = "",
    ) -> T:
        """The result of `work`, run in the compute thread, within `deadline_s` from now.

        Raises `Refusal`: UNAVAILABLE where too much waits, DEADLINE_EXCEEDED where the time is
        over; `StoppedError` from the work itself.
        """
        loop = asyncio.get_running_loop()
        now = self._clock()
        item = _Work(work, now + deadline_s, now, loop.create_future(), loop, self._clock)
        with self._wake:
            queue = self._interactive if n_lines <= INTERACTIVE_LINES else self._bulk
            if self._under_way is not None:
                left_s = self._left_s(now, *self._under_way)
                check_time(queue.wait_s(caller, self._one_s) + left_s, deadline_s)
            displaced = queue.push(caller, item)
            self._wake.notify()
        if displaced is not None:
            _deliver(displaced, None, gave_way())
        timer = loop.call_later(deadline_s, _expire, item.future)
        try:
            result: T = await item.future
        finally:
            timer.cancel()
        return result

    def stop(self, timeout_s: float | None = None) -> None:
        """Ends the thread after the work at hand; what waits is refused with DRAINING."""
        with self._wake:
            self._stopped = True
            for queue in (self._interactive, self._bulk):
                while len(queue):
                    _deliver(queue.pop()[1], None, draining())
            self._wake.notify()
        self._thread.join(timeout_s)

    def _left_s(self, now: float, began: float, item: "_Work") -> float:
        """About how long the work at hand goes on: what is left of the time that work takes.

        Work that has taken longer than that is expected to take as long again, as nothing says that
        it is about to end but its deadline.
        """
        taken_s = now - began
        expected_s = self._one_s - taken_s if taken_s < self._one_s else taken_s
        return min(expected_s, max(item.deadline - now, 0.0))

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not (self.waiting or self._stopped):
                    self._wake.wait()
                if self._stopped:
                    return
                queue = self._next_queue()
                caller, item = queue.pop()
                began = self._clock()
                self._under_way = began, item
            self._run_one(item, began)
            with self._wake:
                queue.charge(caller, self._clock() - began)
                self._under_way = None

    def _next_queue(self) -> FairQueue[_Work]:
        """Where the next work is: interactive, or bulk that has waited long."""
        bulk = len(self._bulk) > 0
        overdue = bulk and self._clock() - self._bulk.first().enqueued > BULK_WAIT_MAX_S
        return self._bulk if overdue or not len(self._interactive) else self._interactive

    def _run_one(self, item: _Work, started: float) -> None:
        if item.future.done():
            self.dropped += 1
            return
        if started > item.deadline:
            self.dropped += 1
            _deliver(item, None, late())
            return
        try:
            limit = item.limit()
            with under(limit):
                result = item.run(limit)
        except BaseException as error:
            _deliver(item, None, error)
        else:
            _deliver(item, result, None)
        took = self._clock() - started
        self.busy_s += took
        usual = self._one_s or took
        self._one_s = _MEMORY * usual + (1.0 - _MEMORY) * took


def _expire(future: "asyncio.Future[Any]") -> None:
    if not future.done():
        future.set_exception(late())


def _deliver(item: _Work, result: Any, error: BaseException | None) -> None:
    def set_result() -> None:
        if item.future.done():
            return
        if error is None:
            item.future.set_result(result)
        else:
            item.future.set_exception(error)

    item.loop.call_soon_threadsafe(set_result)


def gave_way() -> Refusal:
    """RESOURCE_EXHAUSTED: the caller had more waiting than any other when the queue was full."""
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    text = "gave way to a caller with less work waiting"
    return Refusal(code, "CALLER_QUEUE_FULL", text, retry_after_s=0.1)


def draining() -> Refusal:
    """UNAVAILABLE: another replica can answer."""
    text = "the service is stopping; ask another replica"
    return Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING", text, retry_after_s=0.5)


def late() -> Refusal:
    """DEADLINE_EXCEEDED: the time of the call is over."""
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    return Refusal(code, "DEADLINE", "the time was over before the answer")
