"""All of it together, as a server process runs it."""

import asyncio

import pytest

from storage.events.client import BrokerConfig, PulsarBroker
from storage.events.ports import InMessage, OutMessage
from storage.events.streams import EventStreams
from storage.postgres.pool import Database
from tests.fixtures_pulsar import TestBroker
from tests.storage.events.outbox_writes import (
    commit_events,
    create_portfolios,
    read_all,
    until_empty,
)

pytestmark = pytest.mark.integration


async def test_topics_are_made_events_leave_and_messages_come_in(
    pulsar_broker: TestBroker, database: Database, postgres_dsn: str
) -> None:
    config = pulsar_broker.config("streams")
    await create_portfolios(database, ["p1"])
    taken: asyncio.Queue[InMessage] = asyncio.Queue()
    streams = EventStreams(config, postgres_dsn, {"signals": taken.put})
    streams.start()
    (id,) = await commit_events(database, "p1", 1)
    streams.wake()
    await until_empty(database)
    broker = PulsarBroker(config)
    producer = await broker.open_producer("signals")
    properties = {"event_id": "s1", "event_type": "SignalsSubmitted", "tenant_id": "acme"}
    await producer.send(OutMessage("p1", b"request", properties))
    assert (await asyncio.wait_for(taken.get(), 30)).payload == b"request"
    await broker.close()
    await asyncio.wait_for(streams.stop(), 30)
    assert [message.event_id for message in await read_all(config, "position-sized")] == [id]
    assert streams.relay.stats.n_published == 1
    assert streams.consumers["signals"].stats.n_handled == 1


async def test_without_a_broker_it_starts_and_stops_all_the_same(postgres_dsn: str) -> None:
    config = BrokerConfig(
        service_url="pulsar://127.0.0.1:1", admin_url="http://127.0.0.1:1", log_file="/dev/null"
    )
    streams = EventStreams(config, postgres_dsn, {})
    streams.start()
    await asyncio.sleep(0.2)
    await asyncio.wait_for(streams.stop(), 10)
    assert streams.relay.stats.n_published == 0


def test_a_handler_for_no_topic_is_refused() -> None:
    with pytest.raises(ValueError, match="no such topics: tea-leaves"):
        EventStreams(BrokerConfig(service_url="pulsar://h:1"), "", {"tea-leaves": asyncio.sleep})
