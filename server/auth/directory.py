"""Keys, blocks and tenants of the database, kept in memory and read again every second.

So a call costs no statement, and a revoked key or a new block counts a second later at most. While
the database is away, what was read last counts.
"""

import asyncio
import time

import structlog

from server.auth import keys
from server.auth.denials import Denied
from server.auth.identity import Identity
from storage.errors import StorageError
from storage.postgres import credentials
from storage.postgres.credentials import ApiKey
from storage.postgres.pool import Database
from storage.postgres.tenancy import ALL_TENANTS

_log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
_DEADLINE_S = 5.0


class Directory:
    """`await read()` once, then `run()` as a task."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: dict[str, ApiKey] = {}
        self._blocks: dict[tuple[str, str], float] = {}
        self._tenants: frozenset[str] = frozenset()

    async def read(self) -> None:
        """What counts now. Errors: `StorageError`."""
        async with self._database.connection(ALL_TENANTS, deadline_s=_DEADLINE_S) as connection:
            found = await credentials.valid_keys(connection)
            blocks = await credentials.blocks(connection)
            self._tenants = await credentials.tenant_ids(connection)
        self._keys = {key.key_id: key for key in found}
        self._blocks = {(b.tenant_id, b.subject): b.until.timestamp() for b in blocks}

    async def run(self) -> None:
        """Reads for ever."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.read()
            except StorageError as error:
                _log.warning("keys and blocks can't be read; the last ones count", error=str(error))

    def identity(self, text: str) -> Identity:
        """Whose key it is. Raises `Denied`."""
        key_id = keys.key_id_of(text)
        if key_id is None:
            raise Denied("malformed")
        key = self._keys.get(key_id)
        if key is None or not keys.is_same(text, key.hash):
            raise Denied("unknown_key")
        if key.expire_time.timestamp() <= time.time():
            raise Denied("expired")
        return Identity(key.tenant_id, key.subject, frozenset(key.scopes), key.portfolios)

    def check(self, identity: Identity) -> None:
        """Raises `Denied` for a tenant that isn't served here, and for whoever is blocked."""
        if identity.tenant_id not in self._tenants:
            raise Denied("unknown_tenant")
        if self._blocks.get((identity.tenant_id, identity.subject), 0.0) > time.time():
            raise Denied("blocked")
