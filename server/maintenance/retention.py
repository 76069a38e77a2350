"""Removing from the database what the archive has: `sizing retention`.

A decision goes with its reservation and its settlements, and only where the archive has all of
these records with the very digests that they have in the database at the moment of their removal.
What stays of each is its digest, where it is now, and the id of its request, which is never carried
out a second time. Small transactions, one after the other, that wait for nobody: service goes on.

A plan reads everything that a removal reads and changes nothing.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg

from server.maintenance.archive import closed_days
from storage.archive import files
from storage.archive import records as archived
from storage.postgres import records
from storage.postgres.records import DECISION, SETTLEMENT, Held

KEEP_DAYS_MIN = 30
"""Topics, webhooks and the ids of events taken in forget after that, so that nothing older is told
to the service again."""
BATCH = 100
"""Decisions in a transaction."""
_DAYS_AT_HAND = 8
_SETTINGS = {
    "application_name": "sizing-retention",
    "timezone": "UTC",
    "lock_timeout": "1s",
    "statement_timeout": "30s",
}


@dataclass(frozen=True)
class Removed:
    """What went of a day's decisions, or would: with their settlements; and what stays, why.

    open: they still reserve something. unlike: the archive has no such record, or another.
    settled_later: a settlement of theirs is of a day that is kept. busy: settled just now.
    """

    day: date
    decisions: int = 0
    settlements: int = 0
    open: int = 0
    unlike: int = 0
    settled_later: int = 0
    busy: int = 0


@dataclass(frozen=True)
class Retention:
    """What to remove: decisions of a tenant from before `keep_from`, which `root` has.

    name: what callers are told that the archive is called. pause_s: after each transaction.
    """

    root: Path
    tenant_id: str
    keep_from: date
    name: str
    author: str
    reason: str = ""
    pause_s: float = 0.05


class _Archive:
    """Digests of the archive's records, by days, the last few of which are at hand."""

    def __init__(self, wanted: Retention) -> None:
        self._wanted = wanted
        self._days = OrderedDict[date, Mapping[UUID, bytes]]()

    def has(self, held: Held) -> bool:
        """Whether it has every record of a decision as the database has it."""
        return all(
            self._of(held.days[record_id]).get(record_id) == digest
            for record_id, digest in held.digests.items()
        )

    def _of(self, day: date) -> Mapping[UUID, bytes]:
        if day not in self._days:
            self._days[day] = archived.of_day(self._wanted.root, self._wanted.tenant_id, day)
            while len(self._days) > _DAYS_AT_HAND:
                self._days.popitem(last=False)
        return self._days[day]


def first_kept(keep_days: int, now: datetime) -> date:
    """The first day that is kept: so many whole days are, and today."""
    return now.astimezone(UTC).date() - timedelta(days=keep_days)


async def retain(
    dsn: str, wanted: Retention, now: datetime, *, apply: bool
) -> AsyncIterator[Removed]:
    """Goes through the archived days before `keep_from`, oldest first, and removes what it may.

    Errors: `RecordError` where a file of the archive is not as it was written.
    """
    connection = await asyncpg.connect(dsn, server_settings=_SETTINGS)
    archive = _Archive(wanted)
    try:
        for day in files.days(wanted.root, files.RECORDS, wanted.tenant_id):
            if day < wanted.keep_from and list(closed_days(day, now, day)):
                done = await _day(connection, wanted, archive, day, apply=apply)
                if done != Removed(day):
                    yield done
    finally:
        await connection.close()


async def _day(
    connection: asyncpg.Connection, wanted: Retention, archive: _Archive, day: date, *, apply: bool
) -> Removed:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    place = (start - timedelta(microseconds=1), records.LAST_ID)
    done = Removed(day)
    while page := await records.held(
        connection, wanted.tenant_id, place, start + timedelta(days=1), limit=BATCH
    ):
        place = (page[-1].create_time, page[-1].decision_id)
        going, done = _chosen(wanted, archive, page, done)
        if going and apply:
            kinds = await _remove(connection, wanted, going)
            await asyncio.sleep(wanted.pause_s)
        else:
            kinds = [
                DECISION if record_id == held.decision_id else SETTLEMENT
                for held in going
                for record_id in held.digests
            ]
        done = replace(
            done,
            decisions=done.decisions + kinds.count(DECISION),
            settlements=done.settlements + kinds.count(SETTLEMENT),
            busy=done.busy + len(going) - kinds.count(DECISION),
        )
    return done


def _chosen(
    wanted: Retention, archive: _Archive, page: Sequence[Held], done: Removed
) -> tuple[list[Held], Removed]:
    """Those that may go, and what is told with the others counted."""
    going = []
    for held in page:
        if held.is_open:
            done = replace(done, open=done.open + 1)
        elif max(held.days.values()) >= wanted.keep_from:
            done = replace(done, settled_later=done.settled_later + 1)
        elif not archive.has(held):
            done = replace(done, unlike=done.unlike + 1)
        else:
            going.append(held)
    return going, done


async def _remove(
    connection: asyncpg.Connection, wanted: Retention, going: Sequence[Held]
) -> list[str]:
    """Removes these, and tells the chain of changes of which days; the kinds of what has gone."""
    told = {key: digest for held in going for key, digest in held.digests.items()}
    async with connection.transaction():
        gone = await records.remove(connection, wanted.tenant_id, told, wanted.name)
        by_day = defaultdict[date, list[str]](list)
        for kind, create_time in gone:
            by_day[create_time.astimezone(UTC).date()].append(kind)
        for day, kinds in sorted(by_day.items()):
            await records.note_removal(
                connection,
                wanted.tenant_id,
                day,
                kinds,
                archive=wanted.name,
                author=wanted.author,
                reason=wanted.reason,
            )
    return [kind for kind, _ in gone]
