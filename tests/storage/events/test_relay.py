"""The relay between a real PostgreSQL and a real Pulsar."""

import asyncio
import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from storage.errors import Unavailable
from storage.events.client import BrokerConfig, PulsarBroker
from storage.events.outbox_session import OutboxSession
from storage.events.ports import BrokerUnavailable, InMessage, Producer, Sharing, Subscription
from storage.events.relay import Relay, RelayOptions
from storage.postgres import outbox
from storage.postgres.outbox import N_SHARDS, OutboxEvent
from storage.postgres.pool import Database
from tests.fixtures_postgres import TENANT
from tests.fixtures_pulsar import TestBroker
from tests.storage.events.outbox_writes import (
    commit_events,
    create_portfolios,
    read_all,
    running,
    until_empty,
)

pytestmark = pytest.mark.integration

OPTIONS = RelayOptions(poll_interval_s=0.05, share_interval_s=0.2, n_batch_max=20)


@pytest_asyncio.fixture(scope="module")
async def store(postgres_dsn: str) -> AsyncIterator[Database]:
    database = await Database.open(postgres_dsn)
    await create_portfolios(database, [f"p{i}" for i in range(8)])
    yield database
    await database.aclose()


@pytest_asyncio.fixture
async def relay(store: Database, postgres_dsn: str, broker: PulsarBroker) -> AsyncIterator[Relay]:
    """One relay at work."""
    made = Relay(OutboxSession(postgres_dsn), broker, OPTIONS)
    async with running(made):
        yield made


def of(messages: Sequence[InMessage], ids: Sequence[str]) -> list[InMessage]:
    return [message for message in messages if message.event_id in set(ids)]


def check_once_and_in_order(messages: Sequence[InMessage], ids: Sequence[str]) -> None:
    """Each event is on the topic exactly once, and each portfolio's in the order of its numbers."""
    found = of(messages, ids)
    assert sorted(message.event_id for message in found) == sorted(ids)
    numbers = defaultdict(list)
    for message in found:
        numbers[message.key].append(int(message.properties["portfolio_sequence"]))
    assert all(sequence == sorted(sequence) for sequence in numbers.values())


async def test_an_event_travels_as_the_contract_says(
    relay: Relay, store: Database, broker_config: BrokerConfig
) -> None:
    (id,) = await commit_events(store, "p0", 1)
    relay.wake()
    await until_empty(store)
    (message,) = of(await read_all(broker_config, "position-sized"), [id])
    assert message.key == "p0"
    assert message.payload == message.properties["portfolio_sequence"].encode()
    assert message.properties == {
        "event_id": id,
        "event_type": "PositionSized",
        "schema_version": "1",
        "tenant_id": TENANT,
        "portfolio_sequence": message.properties["portfolio_sequence"],
        "trace_id": "t1",
        "content_type": "application/x-protobuf",
    }


async def test_an_event_of_the_whole_tenant_has_the_tenant_as_its_key(
    relay: Relay, store: Database, broker_config: BrokerConfig
) -> None:
    (id,) = await commit_events(store, "", 1, "limits-changed")
    await until_empty(store)
    (message,) = of(await read_all(broker_config, "limits-changed"), [id])
    assert message.key == TENANT


async def test_three_relays_share_the_shards_and_keep_order(
    store: Database, postgres_dsn: str, broker: PulsarBroker, broker_config: BrokerConfig
) -> None:
    relays = [Relay(OutboxSession(postgres_dsn), broker, OPTIONS) for _ in range(3)]
    ids = []
    async with running(*relays):
        async with asyncio.timeout(30):
            while sum(r.stats.n_shards for r in relays) < N_SHARDS:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for _ in range(10):
            for i in range(8):
                ids += await commit_events(store, f"p{i}", 5)
        await until_empty(store)
        async with asyncio.timeout(30):  # two that began first hold half each until they share
            while max(r.stats.n_shards for r in relays) > 6:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    check_once_and_in_order(await read_all(broker_config, "position-sized"), ids)
    assert sum(relay.stats.n_published for relay in relays) == len(ids)


async def test_a_relay_that_goes_is_succeeded(
    store: Database, postgres_dsn: str, broker: PulsarBroker, broker_config: BrokerConfig
) -> None:
    first, second = (Relay(OutboxSession(postgres_dsn), broker, OPTIONS) for _ in range(2))
    async with running(second):
        async with running(first):
            ids = await commit_events(store, "p1", 50)
            await until_empty(store)
        ids += await commit_events(store, "p1", 50)
        ids += await commit_events(store, "p2", 50)
        await until_empty(store)
        async with asyncio.timeout(30):  # a session's locks go only when its server notices
            while True:
                if second.stats.n_shards == N_SHARDS:
                    break
                await asyncio.sleep(0.05)
    check_once_and_in_order(await read_all(broker_config, "position-sized"), ids)


class ForgetfulSession(OutboxSession):
    """Loses its connection after events were sent and before they are deleted."""

    n_losses = 3

    async def delete(self, events: Sequence[OutboxEvent]) -> None:
        if self.n_losses:
            self.n_losses -= 1
            await self.close()
            raise Unavailable("lost before the delete")
        await super().delete(events)


async def test_what_was_sent_and_not_deleted_is_on_the_topic_once(
    store: Database, postgres_dsn: str, broker: PulsarBroker, broker_config: BrokerConfig
) -> None:
    relay = Relay(ForgetfulSession(postgres_dsn), broker, OPTIONS)
    async with running(relay):
        ids = await commit_events(store, "p3", 30)
        ids += await commit_events(store, "p4", 30)
        await until_empty(store)
    assert relay.stats.n_sessions_lost >= 1
    check_once_and_in_order(await read_all(broker_config, "position-sized"), ids)


async def test_a_message_beyond_the_brokers_limit_travels_in_pieces(
    relay: Relay, store: Database, broker_config: BrokerConfig
) -> None:
    size = 12_000_000
    ids = await commit_events(store, "p5", 1, build=lambda _: b"x" * size)
    ids += await commit_events(store, "p5", 2)
    await until_empty(store)
    found = of(await read_all(broker_config, "position-sized"), ids)
    assert [len(message.payload) > 5_000_000 for message in found] == [True, False, False]
    assert found[0].payload == b"x" * size


async def test_without_a_broker_events_wait_and_nothing_else_happens(
    store: Database, postgres_dsn: str, broker: PulsarBroker, broker_config: BrokerConfig
) -> None:
    away = PulsarBroker(
        BrokerConfig(
            service_url="pulsar://127.0.0.1:1", operation_timeout_s=1, log_file="/dev/null"
        )
    )
    relay = Relay(OutboxSession(postgres_dsn), away, OPTIONS)
    async with running(relay):
        ids = await commit_events(store, "p6", 3)
        async with asyncio.timeout(30):
            while not relay.stats.n_failed:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        async with store.connection(TENANT, deadline_s=10.0) as connection:
            assert await outbox.oldest_age_s(connection) > 0
        assert relay.stats.n_published == 0
        assert relay.stats.last_error
    await away.close()
    async with running(Relay(OutboxSession(postgres_dsn), broker, OPTIONS)):
        await until_empty(store)
    check_once_and_in_order(await read_all(broker_config, "position-sized"), ids)


class PartlyBroken:
    """A broker on which one topic can't be published to for now."""

    def __init__(self, broker: PulsarBroker, topic: str) -> None:
        self._broker = broker
        self.topic = topic

    async def open_producer(self, topic: str, name: str | None = None) -> Producer:
        if topic == self.topic:
            raise BrokerUnavailable(f"{topic} is fenced")
        return await self._broker.open_producer(topic, name)

    async def subscribe(self, topic: str, subscription: str, sharing: Sharing) -> Subscription:
        return await self._broker.subscribe(topic, subscription, sharing)


async def test_a_topic_that_fails_holds_back_no_other(
    store: Database, postgres_dsn: str, broker: PulsarBroker, broker_config: BrokerConfig
) -> None:
    partly = PartlyBroken(broker, "limit-breached")
    relay = Relay(OutboxSession(postgres_dsn), partly, OPTIONS)
    held, free = [], []
    async with running(relay):
        for _ in range(10):
            held += await commit_events(store, "p7", 8, "limit-breached")
            free += await commit_events(store, "p7", 8)
        async with asyncio.timeout(60):
            while relay.stats.n_published < len(free) or relay.stats.n_failed < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        check_once_and_in_order(await read_all(broker_config, "position-sized"), free)
        assert not of(await read_all(broker_config, "limit-breached"), held)
        partly.topic = ""
        await until_empty(store)
    check_once_and_in_order(await read_all(broker_config, "limit-breached"), held)


async def test_a_broker_killed_twice_loses_and_repeats_nothing(
    store: Database, postgres_dsn: str, pulsar_broker: TestBroker, broker_config: BrokerConfig
) -> None:
    config = dataclasses.replace(broker_config, send_timeout_s=5.0, operation_timeout_s=5)
    broker = PulsarBroker(config)
    relay = Relay(OutboxSession(postgres_dsn), broker, OPTIONS)
    ids: list[str] = []
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            for i in range(8):
                ids.extend(await commit_events(store, f"p{i}", 3))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.1)

    async with running(relay):
        writer = asyncio.create_task(write())
        for _ in range(2):
            await asyncio.sleep(1.0)
            await asyncio.to_thread(pulsar_broker.process.kill)
            await asyncio.to_thread(pulsar_broker.process.start)
        stop.set()
        await writer
        await until_empty(store, 120)
    await broker.close()
    check_once_and_in_order(await read_all(broker_config, "position-sized"), ids)
