"""Seals over what was decided and reported: made every hour, recomputed by `sizing audit verify`.

A seal covers the decisions and settlements of a period with their requests and answers, byte for
byte. Periods follow each other without a gap, so that a record that is changed, removed or put into
the past is found. Nothing of it is on the way of a call.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from storage.postgres import records, seals
from storage.postgres.pool import Database
from storage.postgres.records import Place
from storage.postgres.seals import Seal

GRACE = timedelta(hours=1)
"""No call lasts as long: what was decided before that is committed."""
LONGEST = timedelta(days=1)
"""Of a period, so that no seal is of more than a day's records."""
FAULTS_MAX = 100
"""So many are told at once."""
PAGE = 500
"""Records whose digests are computed in one statement."""
_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Fault:
    """A seal that doesn't hold, in words. sequence: its number."""

    sequence: int
    text: str


@dataclass(frozen=True)
class Verified:
    """How far seals were looked at, and what is wrong. last: the newest of them."""

    last: Seal
    records: int
    faults: tuple[Fault, ...]
    is_all: bool


async def seal_due(
    database: Database,
    tenant_id: str,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> int:
    """Seals each period of a tenant that is over; how many."""
    count = 0
    while (made := await _next_seal(database, tenant_id, now())) is not None:
        async with database.transaction(tenant_id, deadline_s=_DEADLINE_S) as connection:
            await seals.put(connection, tenant_id, made)
        count += 1
    return count


async def _next_seal(database: Database, tenant_id: str, now: datetime) -> Seal | None:
    """The seal of the next period, None: none is over that has a record."""
    async with database.connection(tenant_id, deadline_s=_DEADLINE_S) as connection:
        before = await seals.last(connection, tenant_id)
        begin = await records.first_time(connection, tenant_id, before.end_time)
    if begin is None:
        return None
    end = min(_hour(now - GRACE), _hour(begin) + LONGEST)
    if begin >= end:
        return None
    n_records, digest = await _digest(database, tenant_id, before.end_time, end)
    return Seal(before.sequence + 1, before.end_time, end, n_records, digest)


async def verify(
    database: Database, tenant_id: str, *, after: int, records_max: int, deadline_s: float
) -> Verified:
    """Recomputes the seals after a number, oldest first, until so many records were looked at.

    At least one seal. Whether each begins where the one before ends is looked at too.
    """
    faults, last, looked_at = list[Fault](), seals.NONE, 0
    async with database.connection(tenant_id, deadline_s=deadline_s) as connection:
        if after:
            last = await seals.after(connection, tenant_id, after - 1) or last
    while looked_at < records_max and len(faults) < FAULTS_MAX:
        async with database.connection(tenant_id, deadline_s=deadline_s) as connection:
            seal = await seals.after(connection, tenant_id, max(after, last.sequence))
        if seal is None:
            return Verified(last, looked_at, tuple(faults), is_all=True)
        if (seal.sequence, seal.start_time) != (last.sequence + 1, last.end_time):
            faults.append(Fault(seal.sequence, f"does not follow seal {last.sequence}"))
        count, digest = await _digest(database, tenant_id, seal.start_time, seal.end_time)
        if count != seal.records:
            text = f"has {count} records where {seal.records} were sealed"
            faults.append(Fault(seal.sequence, f"{_span(seal)} {text}"))
        elif digest != seal.digest:
            text = "has a record that is not as it was sealed"
            faults.append(Fault(seal.sequence, f"{_span(seal)} {text}"))
        last, looked_at = seal, looked_at + max(count, 1)
    return Verified(last, looked_at, tuple(faults), is_all=False)


async def _digest(
    database: Database, tenant_id: str, start: datetime, end: datetime
) -> tuple[int, bytes]:
    """How many records a period has, and the SHA-256 of their digests in order."""
    digest, count = hashlib.sha256(), 0
    after: Place = (start - timedelta(microseconds=1), records.LAST_ID)
    while True:
        async with database.connection(tenant_id, deadline_s=_DEADLINE_S) as connection:
            found = await records.digests(connection, tenant_id, after, end, limit=PAGE)
        for item in found:
            digest.update(item.digest)
        count += len(found)
        if len(found) < PAGE:
            return count, digest.digest()
        after = found[-1].place


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _span(seal: Seal) -> str:
    return f"the period {seal.start_time:%Y-%m-%d %H:%M} to {seal.end_time:%Y-%m-%d %H:%M} UTC"
