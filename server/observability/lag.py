"""How long the event loop keeps everybody waiting, measured by a task that only sleeps."""

import asyncio
import time

from prometheus_client import CollectorRegistry, Histogram

LOOK_S = 0.1
_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


async def watch_lag(registry: CollectorRegistry) -> None:
    """Observes how much later than asked it wakes up, until cancelled."""
    lag = Histogram(
        "sizing_event_loop_lag_seconds",
        "How much later than asked a sleeping task wakes up.",
        buckets=_BUCKETS_S,
        registry=registry,
    )
    while True:
        asked = time.monotonic() + LOOK_S
        await asyncio.sleep(LOOK_S)
        lag.observe(max(time.monotonic() - asked, 0.0))
