"""Long work in a thread beside the event loop, which ends with its call.

    matrix = await in_thread(call, lambda: estimated(request, history))

The work says `checkpoint` between its iterations (`compute.optimize.time_limit`), and so ends soon
after its deadline, after its caller has gone, and when the service stops.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from compute.optimize.time_limit import TimeLimit, under
from server.calls.request_context import Call

T = TypeVar("T")


async def in_thread(call: Call, work: Callable[[], T]) -> T:
    """The result of `work`. Raises what it raises, and `StoppedError` where its time is over."""
    gone = threading.Event()
    limit = TimeLimit(lambda: call.deadline - time.monotonic(), gone.is_set)

    def limited() -> T:
        limit.check()  # there may have been no thread for long
        with under(limit):
            return work()

    try:
        return await asyncio.to_thread(limited)
    finally:
        gone.set()
