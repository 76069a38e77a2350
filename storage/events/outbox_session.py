"""The outbox over one PostgreSQL session that a relay keeps for itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace

import asyncpg

from storage.errors import StorageError, Unavailable
from storage.events.ports import tenant_topic
from storage.postgres import outbox, relay
from storage.postgres.failures import GONE
from storage.postgres.outbox import OutboxEvent
from storage.postgres.pool import DEFAULT_POOL_OPTIONS, PoolOptions, connect, masked
from storage.postgres.tenancy import ALL_TENANTS, has_wall, session_sql


class OutboxSession:
    """The `Outbox` of `ports.py`. Calls queue up: a PostgreSQL session does one thing at a time.

    Errors of every method: `Unavailable`, after which the session has to be opened again.
    """

    def __init__(
        self,
        dsn: str,
        options: PoolOptions = DEFAULT_POOL_OPTIONS,
        timeout_s: float = 5.0,
        *,
        names_tenants: bool = False,
    ) -> None:
        """names_tenants: topics of events have their tenants before them (`tenant_topic`)."""
        self._names_tenants = names_tenants
        self._dsn = dsn
        self._options = options
        self._timeout_s = timeout_s
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"OutboxSession({masked(self._dsn)!r})"

    async def open(self) -> None:
        """Connect and enrol as a relay."""
        await self.close()
        self._connection = await connect(self._dsn, self._options)
        async with self._session() as connection:
            if await has_wall(connection):
                await connection.execute(session_sql(ALL_TENANTS, has_wall=True))
            await relay.enrol(connection)

    async def close(self) -> None:
        """Cut the connection: the server ends the session, its claims go with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def n_relays(self) -> int:
        """See `Outbox`."""
        async with self._session() as connection:
            return await relay.n_relays(connection)

    async def claim_shard(self, shard: int) -> bool:
        """See `Outbox`."""
        async with self._session() as connection:
            return await outbox.claim_shard(connection, shard)

    async def release_shard(self, shard: int) -> None:
        """See `Outbox`."""
        async with self._session() as connection:
            await outbox.release_shard(connection, shard)

    async def waiting(self, shards: Collection[int]) -> list[int]:
        """See `Outbox`."""
        async with self._session() as connection:
            return await relay.waiting(connection, shards)

    async def oldest(
        self, shard: int, limit: int, except_topics: Collection[str] = ()
    ) -> list[OutboxEvent]:
        """See `Outbox`."""
        async with self._session() as connection:
            events = await outbox.oldest(
                connection, shard, limit=limit, except_topics=except_topics
            )
        return [self._named(event) for event in events]

    async def load_batch(self, shard: int) -> list[tuple[OutboxEvent, int]]:
        """See `Outbox`."""
        async with self._session() as connection:
            batch = await relay.load_batch(connection, shard)
        return [(self._named(event), sequence_id) for event, sequence_id in batch]

    async def name_epoch(self, shard: int) -> int:
        """See `Outbox`."""
        async with self._session() as connection:
            return await relay.name_epoch(connection, shard)

    async def next_name(self, shard: int) -> int:
        """See `Outbox`."""
        async with self._session() as connection:
            return await relay.next_name(connection, shard)

    async def save_batch(self, shard: int, batch: Sequence[tuple[OutboxEvent, int]]) -> None:
        """See `Outbox`."""
        async with self._session() as connection:
            await relay.save_batch(connection, shard, batch)

    async def delete(self, events: Sequence[OutboxEvent]) -> None:
        """See `Outbox`."""
        async with self._session() as connection:
            await outbox.delete(connection, events)

    def _named(self, event: OutboxEvent) -> OutboxEvent:
        if not self._names_tenants:
            return event
        return replace(event, topic=tenant_topic(event.tenant_id, event.topic))

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[asyncpg.Connection]:
        async with self._turn:
            if self._connection is None:
                raise Unavailable("the relay has no session with PostgreSQL")
            try:
                async with asyncio.timeout(self._timeout_s):
                    yield self._connection
            except StorageError:
                raise
            except (
                TimeoutError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                *GONE,
            ) as error:
                # Whatever it was, this session's claims are in doubt: start again from nothing.
                await self.close()
                raise Unavailable(f"the relay's session failed: {error!r}") from error
