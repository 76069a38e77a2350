"""One quota over all servers on a database: each tells the others what its callers have used.

A call is charged in this process and waits for nobody. About once a second the lines of callers who
asked for any lately are added up in the database, and what others have added is taken from the
buckets here. So a caller has the rate over all servers together, plus what those others let in
within that second. While the database is away each server counts by itself.
"""

import asyncio
import time

import structlog

from server.auth.quota import Key, Quotas
from storage.errors import StorageError
from storage.postgres import quota_use
from storage.postgres.pool import Database
from storage.postgres.tenancy import ALL_TENANTS

_log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
REMEMBERED_S = 60.0
"""A caller who was quiet for so long here is not asked about any more."""
_DEADLINE_S = 5.0
_UNSAFE = "SET LOCAL synchronous_commit = off"  # nothing here is worth waiting for the disk


class SharedUse:
    """`run()` as a task beside the `Quotas` that are charged."""

    def __init__(self, database: Database, quotas: Quotas) -> None:
        self._database = database
        self._quotas = quotas
        self._totals: dict[Key, int] = {}
        self._asked: dict[Key, float] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.exchange()
            except StorageError as error:
                _log.warning("quotas are of this server alone for now", error=str(error))

    async def exchange(self) -> None:
        """Adds what was used here, and takes in what was used elsewhere. Errors: `StorageError`."""
        used, now = self._quotas.used(), time.monotonic()
        self._asked |= dict.fromkeys(used, now)
        for key in [key for key, at in self._asked.items() if now - at > REMEMBERED_S]:
            del self._asked[key]
            self._totals.pop(key, None)
        if not self._asked:
            return
        lines = {key: used.get(key, 0) for key in self._asked}
        try:
            async with self._database.transaction(
                ALL_TENANTS, deadline_s=_DEADLINE_S, first_sql=_UNSAFE
            ) as connection:
                totals = await quota_use.add(connection, lines)
        except StorageError:
            self._quotas.not_told(used)
            raise
        for key, total in totals.items():
            before = self._totals.get(key)
            if before is not None:  # else nothing is known of when the others used it
                self._quotas.used_elsewhere(key, max(0, total - before - lines[key]))
            self._totals[key] = total
