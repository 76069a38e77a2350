"""The process from its start to its end: signals, and the promise that it ends in time.

SIGTERM and Ctrl-C end it whatever runs, also while it starts: in order within `drain_s` and a few
seconds, and where something holds the order up, a thread ends the process by force.
"""

import asyncio
import os
import signal
import sys
import threading
import warnings

import structlog

from server.app import App
from server.config import Config

_log = structlog.get_logger(__name__)

CLOSE_MAX_S = 5.0
"""After `drain_s`, so long may closing take before the process is ended by force."""

FORCED = 70
"""Exit code of an end by force."""


SWITCH_S = 0.0005
"""Python's lock changes hands this often: gRPC's thread, which brings new calls, needs it for
microseconds, and waited up to 5 ms for it while sizes are computed on the event loop."""


async def run(config: Config) -> None:
    """Serves until SIGTERM or SIGINT."""
    sys.setswitchinterval(SWITCH_S)
    # A child of ours runs another program at once; JAX warns of children that go on as they are.
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    serving = asyncio.create_task(_serve(config, asked), name="serve")
    stopping = asyncio.create_task(asked.wait(), name="signal")
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if asked.is_set():
        _end_by_force_after(config.drain_s + CLOSE_MAX_S)
    await serving


async def _serve(config: Config, asked: asyncio.Event) -> None:
    """Starts, unless it is asked to end before, and serves until it is asked to."""
    started = App.started(config)
    starting = asyncio.create_task(started.__aenter__(), name="start")
    waiting = asyncio.create_task(asked.wait())
    await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    await starting
    try:
        await asked.wait()
    finally:
        await started.__aexit__(None, None, None)


def _end_by_force_after(seconds: float) -> None:
    def end() -> None:
        _log.error("closing took too long; the process ends by force", seconds=seconds)
        os._exit(FORCED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
