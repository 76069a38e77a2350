"""Who has asked for how much: calls, refusals, lines and seconds, by hour, of all servers together.

Counting is an addition in memory; what was counted is added up in the database every few seconds,
and when the service stops. A server that dies loses what it has counted since. Calls whose caller
is not known are nobody's, and are not counted.
"""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from server.auth.identity import Identity
from server.auth.quota import lines_of
from storage.errors import StorageError
from storage.postgres import usage
from storage.postgres.pool import Database
from storage.postgres.usage import Count, Place

INTERVAL_S = 10.0
_DEADLINE_S = 5.0

Counts = dict[tuple[str, Place], Count]
"""By tenant and what is counted apart."""


class Usage:
    """What this server has counted and not told yet."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._counts: Counts = {}

    def count(
        self, identity: Identity, method: str, request: Any, busy_seconds: float, *, is_ok: bool
    ) -> None:
        """One call; lines count as those of quotas do, where the call was answered."""
        hour = self._now().replace(minute=0, second=0, microsecond=0)
        place = Place(hour, identity.subject, method)
        lines = lines_of(request) if is_ok else 0
        self._add((identity.tenant_id, place), Count(1, int(not is_ok), lines, busy_seconds))

    def taken(self) -> Counts:
        """What was counted since the last time."""
        found, self._counts = self._counts, {}
        return found

    def not_told(self, counts: Counts) -> None:
        """Takes counts back: nobody was told."""
        for key, count in counts.items():
            self._add(key, count)

    def _add(self, key: tuple[str, Place], count: Count) -> None:
        self._counts.setdefault(key, Count()).add(count)


async def flush(database: Database, counted: Usage) -> None:
    """Adds what was counted, tenant by tenant; what can't be added waits for the next time.

    Errors: `StorageError`, once all tenants have been tried.
    """
    failed: StorageError | None = None
    counts = sorted(counted.taken().items())
    for tenant_id, group in itertools.groupby(counts, key=lambda item: item[0][0]):
        mine = dict(group)
        try:
            async with database.transaction(tenant_id, deadline_s=_DEADLINE_S) as connection:
                places = {place: count for (_, place), count in mine.items()}
                await usage.add(connection, tenant_id, places)
        except StorageError as error:
            counted.not_told(mine)
            failed = error
    if failed is not None:
        raise failed
