"""Whether the chain of changes is whole, and what is recorded is what it says."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from storage.postgres import audit
from storage.postgres.audit import FIRST, AuditEvent, Head, chain_hash

FAULTS_MAX = 100
"""So many are told; with the first one it is known that somebody has been at it."""
_PAGE = 1000


@dataclass(frozen=True)
class Fault:
    """What is wrong, and at which event of the chain; 0: at none of it."""

    sequence: int
    text: str


@dataclass(frozen=True)
class Report:
    """What was looked at, and what is wrong with it. head: the last event that was found."""

    head: Head
    faults: tuple[Fault, ...]


async def verify(
    connection: asyncpg.Connection, tenant_id: str, noted: Head | None = None
) -> Report:
    """Looks at every event, the head, a head noted earlier, and every audited row as it is now.

    Call it in a transaction that sees one state (REPEATABLE READ), in a session of the tenant.
    """
    last, faults, seen = Head(0, FIRST), list[Fault](), None
    async for event in _events(connection, tenant_id):
        faults += chain_faults(tenant_id, last, event)
        last = Head(event.sequence, event.hash)
        if noted is not None and noted.sequence == event.sequence:
            seen = event.hash
    if noted is not None and noted.sequence and seen != noted.hash:
        what = "is not there" if seen is None else "is another"
        faults.append(Fault(noted.sequence, f"the event noted earlier {what}"))
    said = await audit.head(connection, tenant_id)
    if said != last:
        text = f"the chain ends at {last.sequence}, its head says {said.sequence}"
        faults.append(Fault(said.sequence, text))
    for item in await audit.differences(connection, tenant_id, FAULTS_MAX):
        row = f"{item.table_name} {item.row_key}"
        if not item.sequence:
            faults.append(Fault(0, f"{row} has no event"))
        else:
            what = "is not as its event says" if item.is_there else "is gone"
            faults.append(Fault(item.sequence, f"{row} {what}"))
    return Report(last, tuple(faults[:FAULTS_MAX]))


def chain_faults(tenant_id: str, last: Head, event: AuditEvent) -> list[Fault]:
    """What is wrong with an event after the one before it."""
    found = []
    if event.sequence != last.sequence + 1:
        found.append(Fault(event.sequence, f"events after {last.sequence} are missing"))
    if event.previous != last.hash:
        found.append(Fault(event.sequence, "does not follow the event before it"))
    if event.hash != chain_hash(tenant_id, event):
        found.append(Fault(event.sequence, "its content is not what was hashed"))
    return found


async def _events(connection: asyncpg.Connection, tenant_id: str) -> AsyncIterator[AuditEvent]:
    after = 0
    while events := await audit.page(connection, tenant_id, after=after, limit=_PAGE):
        for event in events:
            yield event
        after = events[-1].sequence
