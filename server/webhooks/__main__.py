"""The process that posts: `python -m server.webhooks`, started by the server (`process.py`).

It reads its settings from standard input and ends when that is closed, however the server ends.
"""

import asyncio
import contextlib
import ipaddress
import json
import os
import sys
from pathlib import Path
from typing import Any

import structlog

from server.secret_keys import SecretKeys
from server.webhooks.dispatcher import Dispatcher, DispatcherOptions
from server.webhooks.post import Poster, PostSettings
from storage.errors import StorageError
from storage.events.backoff import Backoff
from storage.postgres.leader import WEBHOOKS, leading
from storage.postgres.pool import Database, PoolOptions

_log = structlog.get_logger(__name__)

RETRY_MAX_S = 3600.0
_AGAIN_S = 2.0
_NICE = 5


async def _run(settings: dict[str, Any]) -> None:
    """Delivers for ever; a database that is away is waited for."""
    options = PoolOptions(n_connections=2, application_name="position-sizing-webhooks")
    poster = Poster(
        PostSettings(
            [ipaddress.ip_network(text) for text in settings["networks"]],
            Path(settings["trust_file"]) if settings["trust_file"] else None,
            settings["timeout_s"],
        )
    )
    path = settings["secret_keys_file"]
    keys = SecretKeys(Path(path) if path else None)
    dispatching = DispatcherOptions(backoff=Backoff(settings["retry_s"], RETRY_MAX_S))
    while True:
        try:
            async with leading(settings["dsn"], WEBHOOKS, options) as leader:
                database = await Database.open(settings["dsn"], options)
                try:
                    await Dispatcher(database, poster, keys, dispatching).run(leader)
                finally:
                    await database.aclose()
        except (StorageError, OSError) as error:
            _log.warning("webhooks wait", error=str(error))
        except Exception as error:  # of the leading connection, or a bug of ours
            _log.warning("webhooks wait", exc_info=error)
        await asyncio.sleep(_AGAIN_S)


async def main() -> None:
    """Works until standard input is closed."""
    settings = json.loads(sys.stdin.readline())
    working = asyncio.create_task(_run(settings))
    await asyncio.to_thread(sys.stdin.read)
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working


if __name__ == "__main__":
    os.nice(_NICE)
    asyncio.run(main())
