"""Opening and closing the database of the process, on machines that are busy while they start."""

import asyncio
from pathlib import Path

import structlog

from storage import embedded
from storage.errors import StorageError
from storage.postgres.pool import Database, PoolOptions

_log = structlog.get_logger(__name__)

OPENINGS_MAX = 30
"""A start tries so often to open its connections, each of which has a time limit."""

CLOSE_TIMEOUT_S = 5.0
LOOK_INTERVAL_S = 1.0


async def start_embedded(folder: Path) -> embedded.EmbeddedServer:
    """The embedded server, started; one that starts while this is cancelled is stopped again."""
    starting = asyncio.ensure_future(asyncio.to_thread(embedded.start, folder))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        (await starting).stop()
        raise


async def keep_running(server: embedded.EmbeddedServer) -> None:
    """Starts the embedded server again whenever its process has ended; until cancelled."""
    while True:
        await asyncio.sleep(LOOK_INTERVAL_S)
        if server.is_running:
            continue
        _log.error("PostgreSQL has ended; it is started again", folder=str(server.data_dir))
        starting = asyncio.ensure_future(asyncio.to_thread(server.start_again))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.gather(starting, return_exceptions=True)
            raise
        except StorageError as error:  # its children may still be ending
            _log.error("PostgreSQL could not be started", error=str(error))


async def open_pool(dsn: str, options: PoolOptions) -> Database:
    """The pool; a machine that is busy while it starts gets time."""
    for _ in range(OPENINGS_MAX - 1):
        try:
            return await Database.open(dsn, options)
        except StorageError as error:
            _log.warning("PostgreSQL is slow to answer", error=str(error))
            await asyncio.sleep(1.0)
    return await Database.open(dsn, options)


async def close_pool(database: Database) -> None:
    """Closes the pool; a connection that isn't given back can't hold up the exit."""
    try:
        await asyncio.wait_for(database.aclose(), CLOSE_TIMEOUT_S)
    except TimeoutError:
        _log.warning("connections left open", database=repr(database))
