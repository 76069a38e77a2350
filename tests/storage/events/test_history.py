"""Reading back what was published, on a real broker."""

import asyncio
from datetime import UTC, datetime

import pytest

from storage.events import history
from storage.events.client import BrokerConfig, PulsarBroker
from storage.events.ports import InMessage, OutMessage

pytestmark = pytest.mark.integration


async def test_all_that_is_on_a_topic_is_read_and_what_is_after_a_time(
    broker: PulsarBroker, broker_config: BrokerConfig
) -> None:
    producer = await broker.open_producer("alerts", "history-test")
    for n in range(3):
        await producer.send(OutMessage(f"key-{n}", b"%d" % n, {"event_id": str(n)}, 0))
    await asyncio.sleep(0.05)
    between = datetime.now(UTC)
    await asyncio.sleep(0.05)
    await producer.send(OutMessage("late", b"x" * 30_000_000, {"event_id": "late"}, 0))
    await producer.close()

    async def read(since: datetime | None = None) -> list[InMessage]:
        found: list[InMessage] = []
        names = ["alerts", "limits-changed"]
        await asyncio.to_thread(history.read, broker_config, names, found.append, since=since)
        return found

    everything = await read()
    assert [message.event_id for message in everything] == ["0", "1", "2", "late"]
    assert [message.key for message in everything] == ["key-0", "key-1", "key-2", "late"]
    assert everything[1].payload == b"1"
    assert len(everything[3].payload) == 30_000_000, "in chunks, and put together"
    for _ in range(10):  # some of its chunks may come before the consumer has moved
        later = await read(between)
        assert [message.event_id for message in later] == ["late"]
    assert later[0].publish_time_ms >= between.timestamp() * 1000 - 1
