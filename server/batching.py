"""Where work is computed: short work between the steps of the event loop, the rest in a thread.

    ComputeLoop     what takes less than handing it to a thread and back would, or little more
    ComputeThread   all else, so that the event loop waits for none of it

No timer starts work: whenever a place is free it takes what waits, callers in turn. A queue is
bounded by time: work that could not begin within its deadline, by what work has taken lately, is
refused at once. Work whose caller has gone or whose time is over is dropped unrun, and work under
way sees both in its `TimeLimit`.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from compute.optimize.time_limit import TimeLimit
from server.errors import Refusal

T = TypeVar("T")

INTERACTIVE_LINES = 256
"""Requests of up to this many lines go before larger ones."""

BULK_WAIT_MAX_S = 0.05
"""A large request that has waited this long goes next."""

_MEMORY = 0.9
"""What earlier work took counts for so much beside the latest, in the estimate of the next."""


class FairQueue(Generic[T]):
    """First in, first out for each caller; callers take turns.

    A full queue is nobody's: who has less in it than another caller takes the place of that one's
    latest item, so that a caller holds all places only while nobody else wants one.
    """

    def __init__(self, length_max: int) -> None:
        self._length_max = length_max
        self._by_caller: dict[str, deque[T]] = {}
        self._turns: deque[str] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def of(self, caller: str) -> int:
        """How many items of a caller wait."""
        return len(self._by_caller.get(caller, ()))

    def ahead_of(self, caller: str) -> int:
        """How many items go before the next one of a caller."""
        mine = self.of(caller)
        return sum(min(len(items), mine + 1) for items in self._by_caller.values())

    def push(self, caller: str, item: T) -> T | None:
        """Adds an item behind the caller's others; returns the one that gave way.

        Raises `Refusal` where the queue is full and no other caller has more in it.
        """
        displaced = None
        if self._length >= self._length_max:
            largest = max(self._by_caller, key=self.of, default=caller)
            if self.of(largest) <= self.of(caller) + 1:
                raise overloaded(f"{self._length} requests wait to be computed", 0.05)
            displaced = self._by_caller[largest].pop()
            self._length -= 1
        if caller not in self._by_caller:
            self._by_caller[caller] = deque()
            self._turns.append(caller)
        self._by_caller[caller].append(item)
        self._length += 1
        return displaced

    def first(self) -> T:
        """The item that is next, left where it is."""
        return self._by_caller[self._turns[0]][0]

    def pop(self) -> T:
        """The next item; then it is the next caller's turn."""
        caller = self._turns.popleft()
        items = self._by_caller[caller]
        item = items.popleft()
        if items:
            self._turns.append(caller)
        else:
            del self._by_caller[caller]
        self._length -= 1
        return item


def check_time(wait_s: float, deadline_s: float) -> None:
    """Raises `Refusal` where the time is over, or would be before the turn comes."""
    if deadline_s <= 0.0:
        raise late()
    if wait_s > deadline_s:
        text = f"its turn would come in about {wait_s:.2g} s, after its deadline"
        raise overloaded(text, min(wait_s - deadline_s + 0.05, 30.0))


class ComputeLoop:
    """Runs short work on the event loop itself, in order: one piece each time round.

    Between two pieces the loop takes in what has arrived, so that calls are admitted, refused and
    answered while others wait for their turn.
    """

    def __init__(self, waiting_max: int = 1024) -> None:
        self._waiting: FairQueue[tuple[float, asyncio.Future[None]]] = FairQueue(waiting_max)
        self._is_taken = False
        self._turn_s = 0.0
        self._began = 0.0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Pieces of work whose turn has not come."""
        return len(self._waiting)

    async def run(self, work: Callable[[], T], *, deadline_s: float, caller: str = "") -> T:
        """The result of `work`, at once if this time round is still free.

        Raises `Refusal`: UNAVAILABLE where too much waits, DEADLINE_EXCEEDED where the time is
        over before its turn.
        """
        if self._is_taken:
            check_time(self._waiting.ahead_of(caller) * self._turn_s, deadline_s)
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            displaced = self._waiting.push(caller, (time.monotonic() + deadline_s, turn))
            if displaced is not None and not displaced[1].done():
                displaced[1].set_exception(gave_way())
            await turn
        else:
            self._take(time.monotonic())
        return work()

    def _take(self, now: float) -> None:
        self._is_taken, self._began = True, now
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """The next time round: it belongs to whoever waits longest, callers in turn."""
        now = time.monotonic()
        self._turn_s = _MEMORY * self._turn_s + (1.0 - _MEMORY) * (now - self._began)
        while len(self._waiting):
            deadline, turn = self._waiting.pop()
            if turn.done():  # its caller has gone
                self.dropped += 1
            elif now > deadline:
                self.dropped += 1
                turn.set_exception(late())
            else:
                turn.set_result(None)
                self._take(now)
                return
        self._is_taken = False


@dataclass(eq=False)
class _Work:
    run: Callable[[TimeLimit], Any]
    deadline: float
    enqueued: float
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop

    def limit(self) -> TimeLimit:
        """What the work sees of its deadline, and of its caller."""
        return TimeLimit(lambda: self.deadline - time.monotonic(), self.future.cancelled)


class ComputeThread:
    """Runs work in order, interactive before bulk; `await run(...)` from the event loop."""

    def __init__(self, waiting_max: int = 1024, name: str = "compute") -> None:
        self._interactive: FairQueue[_Work] = FairQueue(waiting_max)
        self._bulk: FairQueue[_Work] = FairQueue(waiting_max)
        self._wake = threading.Condition()
        self._stopped = False
        self._one_s = 0.0
        self._began: float | None = None
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
        now = time.monotonic()
        item = _Work(work, now + deadline_s, now, loop.create_future(), loop)
        with self._wake:
            queue = self._interactive if n_lines <= INTERACTIVE_LINES else self._bulk
            if self._began is not None:
                left_s = max(0.0, self._one_s - (now - self._began))
                check_time(queue.ahead_of(caller) * self._one_s + left_s, deadline_s)
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
                    _deliver(queue.pop(), None, draining())
            self._wake.notify()
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not (self.waiting or self._stopped):
                    self._wake.wait()
                if self._stopped:
                    return
                item = self._take()
                self._began = time.monotonic()
            self._run_one(item, self._began)
            self._began = None

    def _take(self) -> _Work:
        """The next work: interactive, or bulk that has waited long."""
        bulk = len(self._bulk) > 0
        overdue = bulk and time.monotonic() - self._bulk.first().enqueued > BULK_WAIT_MAX_S
        return (self._bulk if overdue or not len(self._interactive) else self._interactive).pop()

    def _run_one(self, item: _Work, started: float) -> None:
        if item.future.done():
            self.dropped += 1
            return
        if started > item.deadline:
            self.dropped += 1
            _deliver(item, None, late())
            return
        try:
            result = item.run(item.limit())
        except BaseException as error:
            _deliver(item, None, error)
        else:
            _deliver(item, result, None)
        took = time.monotonic() - started
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


def overloaded(message: str, retry_after_s: float) -> Refusal:
    """UNAVAILABLE: the same request may be answered a little later."""
    code = grpc.StatusCode.UNAVAILABLE
    return Refusal(code, "OVERLOADED", message, retry_after_s=retry_after_s)


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
