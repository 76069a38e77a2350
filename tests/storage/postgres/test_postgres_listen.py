"""Being told of changes, and being told that one may have been missed."""

import asyncio
from datetime import UTC, datetime

from storage.postgres import limits, market, parameters
from storage.postgres.listen import Change, listen
from storage.postgres.pool import Database
from storage.postgres.scopes import TENANT_SCOPE
from tests.fixtures_postgres import TENANT
from tests.storage.postgres.postgres_proxy import proxied, until

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
AUTHOR = {"author": "risk", "reason": "test"}


async def test_changes_arrive_after_commit_and_a_loss_is_reported(
    database: Database, postgres_dsn: str
) -> None:
    changes: list[Change] = []
    reconnects: list[None] = []
    async with proxied(postgres_dsn) as (proxy, dsn):
        listening = asyncio.create_task(
            listen(dsn, on_change=changes.append, on_reconnect=lambda: reconnects.append(None))
        )
        await until(lambda: len(reconnects) == 1)
        async with database.transaction(TENANT, deadline_s=5) as connection:
            await limits.put(connection, TENANT, TENANT_SCOPE, {}, **AUTHOR)
            await parameters.put(
                connection, TENANT, {}, strategy_id="trend", effective_time=NOON, **AUTHOR
            )
            stored = await market.put_snapshot(
                connection, TENANT, "m1", as_of_time=NOON, instrument_id=[], payload=b"x" * 100_000
            )
            await connection.fetchval("SELECT pg_sleep(0.05)")
            assert changes == [], "nothing is told before the commit"
        await until(lambda: len(changes) == 3)
        assert changes == [
            Change(TENANT, "limit_set", "TENANT/", 1),
            Change(TENANT, "parameter_set", "/trend", 1),
            Change(TENANT, "market_snapshot", "m1", stored.sequence),
        ]
        await proxy.cut()
        await proxy.start()
        await until(lambda: len(reconnects) == 2)
        async with database.transaction(TENANT, deadline_s=5) as connection:
            await limits.put(connection, TENANT, TENANT_SCOPE, {}, **AUTHOR)
        await until(lambda: len(changes) == 4)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
