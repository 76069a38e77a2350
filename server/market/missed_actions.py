"""Snapshots from before a corporate action: not sized on where the action concerns the decision."""

from collections.abc import Iterable
from datetime import datetime

import asyncpg

from server.calls.errors import precondition
from server.convert.corporate_action import shown_until
from server.convert.market import Snapshot
from server.portfolios.portfolio_state import PortfolioState
from server.refreshing_cache import RefreshingCache
from storage.postgres import corporate_actions
from storage.postgres.corporate_actions import StoredAction
from storage.postgres.pool import Database


class MissedActions:
    """Instruments whose last action a snapshot doesn't show, kept with the tenant's version.

    Each action raises that version, so that no decision computed before can be committed after it.
    """

    def __init__(self, database: Database, deadline_s: float) -> None:
        self._database = database
        self._deadline_s = deadline_s
        self._cache: RefreshingCache[frozenset[str]] = RefreshingCache(float("inf"))

    async def of(self, tenant_id: str, tenant_version: int, snapshot: Snapshot) -> frozenset[str]:
        """Errors: `Unavailable`."""

        async def read() -> frozenset[str]:
            async with self._database.connection(
                tenant_id, deadline_s=self._deadline_s
            ) as connection:
                since = snapshot.as_of_time
                return missed(await corporate_actions.after(connection, tenant_id, since), snapshot)

        return await self._cache.get((tenant_id, snapshot.snapshot_id, tenant_version), read)


def missed(actions: list[StoredAction], snapshot: Snapshot) -> frozenset[str]:
    """The instruments of actions after its time that a snapshot doesn't show."""
    shown = shown_until(snapshot.message)
    return frozenset(
        item.instrument_id
        for item in actions
        if item.instrument_id not in shown or item.effective_time > shown[item.instrument_id]
    )


def check_shown(
    missing: frozenset[str], state: PortfolioState, snapshot_id: str, asked: Iterable[str]
) -> None:
    """Raises `Refusal` where a missing action concerns what is asked for, held or reserved."""
    if not missing:
        return
    book = state.book
    concerned = {*asked, *book.holdings.instrument_id, *book.totals.instrument_id}
    if found := sorted(missing & concerned):
        raise precondition(
            "SNAPSHOT_BEFORE_CORPORATE_ACTION",
            f"the market snapshot {snapshot_id!r} is from before a corporate action of "
            f"{', '.join(found[:5])} that its prices don't show: size on a later one",
        )


async def check_books(
    connection: asyncpg.Connection,
    tenant_id: str,
    held: Iterable[str],
    time: datetime,
) -> None:
    """Raises `Refusal` for books of record from before an action on what they hold."""
    since = await corporate_actions.after(connection, tenant_id, time)
    if found := sorted({item.instrument_id for item in since}.intersection(held)):
        raise precondition(
            "BOOKS_BEFORE_CORPORATE_ACTION",
            f"the books are from before a corporate action of {', '.join(found[:5])}: send those "
            "after it",
        )
