"""Virtual time and seeded chance, to run the real relay and consumer in.

The event loop jumps to the next timer, and all chance comes from one seed, so a failing seed fails
the same way again. Faults: calls are delayed, fail before or after their effect, connections break
with a part of what was sent stored, processes die without cleaning up, the database forgets its
last asynchronous commits, the broker delivers again what it delivered before.
"""

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from storage.errors import Unavailable

T = TypeVar("T")


class _Jump(selectors.SelectSelector):
    """Instead of waiting, moves the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("deadlock: everything waits and no timer is set")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which hours pass in milliseconds."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jump.now


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time, with no task left behind."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()


@dataclass
class Chance:
    """When things go wrong; `calm` ends all faults so that the rest can be drained."""

    rng: random.Random
    p_fault: float = 0.03
    calm: bool = False

    def fault(self, scale: float = 1.0) -> bool:
        return not self.calm and self.rng.random() < self.p_fault * scale

    async def delay(self) -> None:
        slow = not self.calm and self.rng.random() < 0.02
        await asyncio.sleep(self.rng.uniform(1.0, 4.0) if slow else self.rng.uniform(0.0005, 0.01))

    async def call(self, effect: Callable[[], T], error: type[Unavailable] = Unavailable) -> T:
        """An effect at a distance: it may not happen, and may happen without an answer."""
        await self.delay()
        if self.fault():
            raise error("lost before it arrived")
        result = effect()
        await self.delay()
        if self.fault():
            raise error("the answer was lost")
        return result
