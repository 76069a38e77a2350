"""What other processes changed, as it happens: a wake-up for caches, not a promise.

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listen(dsn, on_change=cache.drop, on_reconnect=cache.clear))

Notifications sent while the connection is down are lost, which is why a cache drops everything when
`on_reconnect` says so, and why nothing relies on being told: commits compare versions.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from storage.errors import Unavailable
from storage.postgres.failures import GONE
from storage.postgres.pool import connect

CHANNEL = "sizing_changed"

_RETRY_DELAY_S = 0.5
_CHECK_INTERVAL_S = 5.0
_CHECK_TIMEOUT_S = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """Something of `kind` (a table's name) changed in a transaction that has committed.

    `id` is the snapshot's or matrix's id, "portfolio/strategy" for parameters, "KIND/id" of the
    scope for limits and trading states.
    """

    tenant_id: str
    kind: str
    id: str
    version: int


async def listen(
    dsn: str, *, on_change: Callable[[Change], None], on_reconnect: Callable[[], None]
) -> None:
    """Call `on_change` for every change from now on, until cancelled.

    Keeps one connection outside the pool, checks it every few seconds, and after a loss calls
    `on_reconnect` as soon as it listens again (the first time too).
    """
    while True:
        try:
            await _listen_once(dsn, on_change, on_reconnect)
        except (Unavailable, TimeoutError, asyncpg.PostgresError, *GONE) as error:
            _log.info("not listening for changes: %s", error)
        except asyncpg.InterfaceError as error:
            _log.info("the listening connection was closed: %s", error)
        await asyncio.sleep(_RETRY_DELAY_S)


async def _listen_once(
    dsn: str, on_change: Callable[[Change], None], on_reconnect: Callable[[], None]
) -> None:
    connection = await connect(dsn)
    lost = asyncio.Event()
    try:
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(
            CHANNEL, lambda *call: on_change(Change(*json.loads(call[3])))
        )
        on_reconnect()
        while not lost.is_set():
            try:
                async with asyncio.timeout(_CHECK_INTERVAL_S):
                    await lost.wait()
            except TimeoutError:  # a silent cut is only noticed by asking
                await connection.fetchval("SELECT 1", timeout=_CHECK_TIMEOUT_S)
    finally:
        connection.terminate()
