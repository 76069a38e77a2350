"""Events committed to a real outbox, and what a real topic holds afterwards."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

import pulsar
import pulsar.asyncio

from storage.events.client import BrokerConfig
from storage.events.ports import InMessage
from storage.events.relay import Relay
from storage.postgres import outbox, portfolios, tenants
from storage.postgres.pool import Database
from tests.fixtures_postgres import TENANT


async def create_portfolios(database: Database, names: Sequence[str]) -> None:
    async with database.transaction(TENANT, deadline_s=10.0) as connection:
        await tenants.ensure(connection, TENANT)
        for name in names:
            await portfolios.create(
                connection,
                TENANT,
                name,
                display_name=name,
                base_currency="USD",
                as_of_time=datetime(2026, 1, 1, tzinfo=UTC),
            )


async def commit_events(
    database: Database,
    portfolio: str,
    n: int,
    topic: str = "position-sized",
    build: Callable[[int], bytes] = lambda sequence: b"%d" % sequence,
) -> list[str]:
    """Commit `n` events of a portfolio in one transaction; their ids."""
    events = [outbox.NewEvent(topic, "PositionSized", build, trace_id="t1") for _ in range(n)]
    async with database.transaction(TENANT, deadline_s=10.0) as connection:
        await outbox.append(connection, TENANT, portfolio, events)
    return [str(event.event_id) for event in events]


@contextlib.asynccontextmanager
async def running(*relays: Relay) -> AsyncIterator[None]:
    """Relays at work for the block, then stopped in good order."""
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield
    finally:
        for relay in relays:
            await relay.stop()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)


async def until_empty(database: Database, timeout_s: float = 60.0) -> None:
    """Wait until no event waits."""
    async with asyncio.timeout(timeout_s):
        while True:
            async with database.connection(TENANT, deadline_s=10.0) as connection:
                if await outbox.depth(connection) == 0:
                    return
            await asyncio.sleep(0.05)


async def read_all(config: BrokerConfig, topic: str, timeout_s: float = 60.0) -> list[InMessage]:
    """Everything on a topic, from the first message to the last there is now."""
    client = pulsar.asyncio.Client(
        config.service_url, authentication=pulsar.AuthenticationToken(config.read_token())
    )
    found = []
    try:
        reader = await client.create_reader(config.topic(topic), pulsar.MessageId.earliest)
        async with asyncio.timeout(timeout_s):
            while await reader.has_message_available():
                message = await reader.read_next()
                found.append(
                    InMessage(
                        topic=topic,
                        key=message.partition_key(),
                        payload=message.data(),
                        properties=message.properties(),
                        message_id=str(message.message_id()),
                        publish_time_ms=message.publish_timestamp(),
                    )
                )
        await reader.close()
    finally:
        await client.close()
    return found
