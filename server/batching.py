"""Where work is computed: short work between the steps of the event loop, the rest in a thread.

    ComputeLoop     what takes less than handing it to a thread and back would, or little more
    ComputeThread   all else, so that the event loop waits for none of it

No timer: whenever a place is free it takes what waits. Work whose caller has gone or whose time is
over is dropped unrun.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from server.errors import Refusal

T = TypeVar("T")

INTERACTIVE_LINES = 256
"""Requests of up to this many lines go before larger ones."""

BULK_WAIT_MAX_S = 0.05
"""A large request that has waited this long goes next."""


@dataclass(eq=False)
class _Work:
    run: Callable[[], Any]
    kernel: str
    deadline: float
    enqueued: float
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class ComputeLoop:
    """Runs short work on the event loop itself, in order: one piece each time round.

    Between two pieces the loop takes in what has arrived, so that calls are admitted, refused and
    answered while others wait for their turn.
    """

    def __init__(self, waiting_max: int = 1024) -> None:
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._is_taken = False
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Pieces of work whose turn has not come."""
        return len(self._waiting)

    async def run(self, work: Callable[[], T], *, deadline_s: float) -> T:
        """The result of `work`, at once if this time round is still free.

        Raises `Refusal`: UNAVAILABLE where too much waits, DEADLINE_EXCEEDED where the time is
        over before its turn.
        """
        if self._is_taken:
            if self.waiting >= self._waiting_max:
                raise _overloaded(self.waiting)
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((time.monotonic() + deadline_s, turn))
            await turn
        else:
            self._take()
        return work()

    def _take(self) -> None:
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """The next time round: it belongs to whoever waits longest."""
        now = time.monotonic()
        while self._waiting:
            deadline, turn = self._waiting.popleft()
            if turn.done():  # its caller has gone
                self.dropped += 1
            elif now > deadline:
                self.dropped += 1
                turn.set_exception(_late())
            else:
                turn.set_result(None)
                self._take()
                return
        self._is_taken = False


class ComputeThread:
    """Runs work in order; `await run(...)` from the event loop.

    Interactive work goes before bulk, and of that the work of the same kernel together, so that
    its program and data stay warm.
    """

    def __init__(self, waiting_max: int = 1024) -> None:
        self._waiting_max = waiting_max
        self._interactive: deque[_Work] = deque()
        self._bulk: deque[_Work] = deque()
        self._wake = threading.Condition()
        self._stopped = False
        self.busy_s = 0.0
        self.dropped = 0
        self._thread = threading.Thread(target=self._loop, name="compute", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Pieces of work that have not begun."""
        return len(self._interactive) + len(self._bulk)

    async def run(
        self, work: Callable[[], T], *, kernel: str, n_lines: int, deadline_s: float
    ) -> T:
        """The result of `work`, run in the compute thread within `deadline_s` from now.

        Raises `Refusal`: UNAVAILABLE where too much waits, DEADLINE_EXCEEDED where the time is
        over before its turn.
        """
        if self.waiting >= self._waiting_max:
            raise _overloaded(self.waiting)
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        item = _Work(work, kernel, now + deadline_s, now, loop.create_future(), loop)
        with self._wake:
            queue = self._interactive if n_lines <= INTERACTIVE_LINES else self._bulk
            queue.append(item)
            self._wake.notify()
        result: T = await item.future
        return result

    def stop(self) -> None:
        """Ends the thread after the work at hand; what waits is dropped."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not (self._interactive or self._bulk or self._stopped):
                    self._wake.wait()
                if self._stopped:
                    return
                batch = self._take()
            for item in batch:
                self._run_one(item)

    def _take(self) -> list[_Work]:
        """The next work and all that waits for the same kernel; bulk comes one at a time."""
        overdue = self._bulk and time.monotonic() - self._bulk[0].enqueued > BULK_WAIT_MAX_S
        if overdue or not self._interactive:
            return [self._bulk.popleft()]
        kernel = self._interactive[0].kernel
        batch = [item for item in self._interactive if item.kernel == kernel]
        self._interactive = deque(i for i in self._interactive if i.kernel != kernel)
        return batch

    def _run_one(self, item: _Work) -> None:
        started = time.monotonic()
        if item.future.cancelled():
            self.dropped += 1
            return
        if started > item.deadline:
            self.dropped += 1
            _deliver(item, None, _late())
            return
        try:
            result = item.run()
        except BaseException as error:
            _deliver(item, None, error)
        else:
            _deliver(item, result, None)
        self.busy_s += time.monotonic() - started


def _deliver(item: _Work, result: Any, error: BaseException | None) -> None:
    def set_result() -> None:
        if item.future.done():
            return
        if error is None:
            item.future.set_result(result)
        else:
            item.future.set_exception(error)

    item.loop.call_soon_threadsafe(set_result)


def _overloaded(waiting: int) -> Refusal:
    message = f"{waiting} requests wait to be computed"
    return Refusal(grpc.StatusCode.UNAVAILABLE, "OVERLOADED", message, retry_after_s=0.05)


def _late() -> Refusal:
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    return Refusal(code, "DEADLINE", "the time was over before its turn")
