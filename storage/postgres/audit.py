"""The chain of what was changed: read only, since the database's own triggers write it.

Its tables and triggers are in migrations 0024 and 0029. An event's hash is the SHA-256 of the hash
before and of each of its texts with its length in front, as `chain_hash` has it.
"""

import hashlib
from dataclasses import dataclass

import asyncpg

_EVENT = "sequence, create_time, table_name, row_key, document, previous, hash"
FIRST = bytes(32)
"""What the first event of a chain has for the hash before it."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """A row of an audited table after a change, as JSON text; `create_time` as it was hashed.

    Of a row that was removed the text has `removed`, true, and who did it.
    """

    sequence: int
    create_time: str
    table_name: str
    row_key: str
    document: str
    previous: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain has come to; sequence 0: nothing yet."""

    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Difference:
    """A row of an audited table that is not as its newest event has it.

    sequence: of that event, 0 where there is none. is_there: whether the row exists.
    """

    table_name: str
    row_key: str
    sequence: int
    is_there: bool


def chain_hash(tenant_id: str, event: AuditEvent) -> bytes:
    """What the hash of an event has to be after the one that it names as the one before."""
    texts = (
        tenant_id,
        str(event.sequence),
        event.create_time,
        event.table_name,
        event.row_key,
        event.document,
    )
    digest = hashlib.sha256(event.previous)
    for text in texts:
        content = text.encode()
        digest.update(b"%d:" % len(content) + content)
    return digest.digest()


async def head(connection: asyncpg.Connection, tenant_id: str) -> Head:
    """Where the tenant's chain has come to, by its own account."""
    row = await connection.fetchrow(
        "SELECT sequence, hash FROM audit_head WHERE tenant_id = $1", tenant_id
    )
    return Head(0, FIRST) if row is None else Head(**row)


async def page(
    connection: asyncpg.Connection, tenant_id: str, *, after: int = 0, limit: int = 1000
) -> list[AuditEvent]:
    """Events oldest first, those after a sequence, at most `limit`."""
    rows = await connection.fetch(
        f"""SELECT {_EVENT} FROM audit_event WHERE tenant_id = $1 AND sequence > $2
        ORDER BY sequence LIMIT $3""",
        tenant_id,
        after,
        limit,
    )
    return [AuditEvent(**row) for row in rows]


async def differences(
    connection: asyncpg.Connection, tenant_id: str, limit: int
) -> list[Difference]:
    """Audited rows that are not as their newest events have them, at most `limit`.

    In a session of the tenant. Columns that an event doesn't have were added to the table later.
    """
    rows = await connection.fetch(
        """WITH newest AS (
            SELECT DISTINCT ON (table_name, row_key) table_name, row_key, sequence,
                document::jsonb AS document
            FROM audit_event WHERE tenant_id = $1 ORDER BY table_name, row_key, sequence DESC
        )
        SELECT table_name, row_key, coalesce(sequence, 0) AS sequence,
            content IS NOT NULL AS is_there
        FROM newest FULL JOIN audited_rows() AS present USING (table_name, row_key)
        WHERE CASE WHEN document @> '{"removed": true}' THEN content IS NOT NULL
            ELSE document IS NULL OR content IS NULL OR EXISTS (
                SELECT FROM jsonb_each(document) AS said
                WHERE content -> said.key IS DISTINCT FROM said.value) END
        ORDER BY table_name, row_key LIMIT $2""",
        tenant_id,
        limit,
    )
    return [Difference(**row) for row in rows]


async def name_author(connection: asyncpg.Connection, author: str) -> None:
    """Says who removes rows in this transaction; of other changes the rows themselves say it."""
    await connection.execute("SELECT set_config('sizing.author', $1, true)", author)
