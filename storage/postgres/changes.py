"""What a change of a tenant's version is about, and so whose decisions it makes stale.

One number, the tenant's version, orders everything that changes for more than one portfolio. Each
change also notes its subject, and each decision names the subjects it was computed from. So a
commit that finds a newer version can tell whether that concerns it. It counts as well: a version
without a note, which an older release or long ago has made, concerns everybody.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import asyncpg

from storage.errors import NotFound
from storage.postgres import tenant_lock

NOTES_MAX = 1000
"""Notes of a tenant that are kept; a decision takes far less time than so many changes."""


class SubjectKind(StrEnum):
    """What a change may be about. The first four are the kinds of scopes."""

    TENANT = "TENANT"
    GROUP = "GROUP"
    PORTFOLIO = "PORTFOLIO"
    STRATEGY = "STRATEGY"
    CONDITION = "CONDITION"
    INSTRUMENT = "INSTRUMENT"
    MARKET_SNAPSHOT = "MARKET_SNAPSHOT"
    VOLATILITY_MODEL = "VOLATILITY_MODEL"


class Subject(NamedTuple):
    """`id` is empty for the tenant itself."""

    kind: SubjectKind
    id: str = ""


WHOLE_TENANT = Subject(SubjectKind.TENANT)
"""The subject of what concerns every decision."""


@dataclass(frozen=True, slots=True)
class Since:
    """The notes of the versions after `version`, up to `newest`."""

    version: int
    newest: int
    notes: tuple[tuple[int, Subject], ...] = ()

    def concerns(self, expected: int, reads: Callable[[], Collection[Subject]] | None) -> bool:
        """Whether what was computed at the version `expected` from `reads` is stale.

        `reads` is asked only where there has been a change; None: everything was read.
        """
        if expected == self.newest:
            return False
        if reads is None or not self.version <= expected < self.newest:
            return True
        later = [subject for version, subject in self.notes if version > expected]
        is_noted = len(later) == self.newest - expected
        return not is_noted or WHOLE_TENANT in later or not set(reads()).isdisjoint(later)


async def raise_version(connection: asyncpg.Connection, tenant_id: str, subject: Subject) -> int:
    """Raise the tenant's version for a change of `subject`, without the tenant's lock.

    A decision that is being committed may miss it: so the subject has a version of its own, whose
    lock is taken in the same transaction, or the change allows more than before.

    Errors: `NotFound`.
    """
    version = await connection.fetchval(
        """WITH raised AS (
            UPDATE tenant SET version = version + 1 WHERE tenant_id = $1 RETURNING version
        ), noted AS (
            INSERT INTO tenant_change (tenant_id, version, kind, id)
            SELECT $1, version, $2, $3 FROM raised
        ), forgotten AS (
            DELETE FROM tenant_change
            WHERE tenant_id = $1 AND version <= (SELECT version FROM raised) - $4
        ) SELECT version FROM raised""",
        tenant_id,
        subject.kind,
        subject.id,
        NOTES_MAX,
    )
    if version is None:
        raise NotFound("tenant", tenant_id)
    return int(version)


async def change(connection: asyncpg.Connection, tenant_id: str, subject: Subject) -> int:
    """Raise the tenant's version for a change of `subject`, under the tenant's lock.

    No decision that was computed from the subject before can be committed after it. Waits for the
    decisions that are being committed, and no others. Errors: `NotFound`.
    """
    await tenant_lock.lock(connection, tenant_id)
    return await raise_version(connection, tenant_id, subject)


async def since(connection: asyncpg.Connection, tenant_id: str, version: int, newest: int) -> Since:
    """The notes from after `version` to `newest`, which is what the tenant has now."""
    if version >= newest:
        return Since(version, newest)
    rows = await connection.fetch(
        """SELECT version, kind, id FROM tenant_change
        WHERE tenant_id = $1 AND version > $2 AND version <= $3""",
        tenant_id,
        version,
        newest,
    )
    notes = ((row["version"], Subject(SubjectKind(row["kind"]), row["id"])) for row in rows)
    return Since(version, newest, tuple(notes))
