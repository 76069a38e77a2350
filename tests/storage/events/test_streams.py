"""All of it together, as a server process runs it."""

import asyncio
import threading
from dataclasses import replace

import pytest

from storage.events import streams as streams_module
from storage.events import topics
from storage.events.backoff import Backoff
from storage.events.client import BrokerConfig, PulsarBroker
from storage.events.consumer import Receiver
from storage.events.ports import InMessage, OutMessage
from storage.events.streams import EventStreams
from storage.postgres import outbox, tenants
from storage.postgres.pool import Database
from tests.fixtures_postgres import TENANT
from tests.fixtures_pulsar import TestBroker
from tests.storage.events.outbox_writes import (
    commit_events,
    create_portfolios,
    read_all,
    until_empty,
)

pytestmark = pytest.mark.integration

NOWHERE = BrokerConfig(
    service_url="pulsar://127.0.0.1:1", admin_url="http://127.0.0.1:1", log_file="/dev/null"
)
EACH_ITS_OWN = replace(NOWHERE, namespace="{tenant}")
NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"


async def test_topics_are_made_events_leave_and_messages_come_in(
    pulsar_broker: TestBroker, database: Database, postgres_dsn: str
) -> None:
    config = pulsar_broker.config("streams")
    await create_portfolios(database, ["p1"])
    taken: asyncio.Queue[InMessage] = asyncio.Queue()
    streams = EventStreams(config, postgres_dsn, lambda _: Receiver({"signals": taken.put}))
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
    streams = EventStreams(NOWHERE, postgres_dsn, lambda _: Receiver({}))
    streams.start()
    await asyncio.sleep(0.2)
    await asyncio.wait_for(streams.stop(), 10)
    assert streams.relay.stats.n_published == 0


async def test_what_fails_for_one_tenant_ends_nothing_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither who there is, nor topics of one, nor what takes in its messages."""
    monkeypatch.setattr(streams_module, "TENANTS_INTERVAL_S", 0.05)
    monkeypatch.setattr(streams_module, "_BACKOFF", Backoff(0.01, 0.05))
    asked, failures = list[str](), {"all": 1, "bad": 2, "worse": 2}

    def fails(what: str) -> None:
        if failures.get(what, 0) > 0:
            failures[what] -= 1
            raise RuntimeError(f"a bug of {what}")

    async def tenant_ids() -> list[str]:
        fails("all")
        return ["no id", "bad", "worse", "good"]

    def ensure(place: BrokerConfig, *, patience_s: float) -> topics.Ensured:
        assert patience_s == 0.0
        if place.namespace == "bad":
            fails("bad")
        return topics.Ensured((), ())

    def receiver_of(tenant_id: str) -> Receiver:
        if tenant_id == "worse":
            fails("worse")
        asked.append(tenant_id)
        return Receiver({})

    monkeypatch.setattr(topics, "ensure", ensure)
    streams = EventStreams(EACH_ITS_OWN, NO_DATABASE, receiver_of, tenant_ids=tenant_ids)
    streams.start()
    try:
        async with asyncio.timeout(30):
            while len(asked) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    finally:
        await asyncio.wait_for(streams.stop(), 30)
    assert asked[0] == "good"
    assert sorted(asked) == ["bad", "good", "worse"]


async def test_topics_that_take_long_to_make_hold_up_those_of_no_other_tenant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, quick = threading.Event(), asyncio.Event()

    async def tenant_ids() -> list[str]:
        return ["slow", "quick"]

    def ensure(place: BrokerConfig, *, patience_s: float) -> topics.Ensured:
        assert patience_s == 0.0
        if place.namespace == "slow":
            answers.wait(60.0)
        return topics.Ensured((), ())

    def receiver_of(tenant_id: str) -> Receiver:
        if tenant_id == "quick":
            quick.set()
        return Receiver({})

    monkeypatch.setattr(topics, "ensure", ensure)
    streams = EventStreams(EACH_ITS_OWN, NO_DATABASE, receiver_of, tenant_ids=tenant_ids)
    streams.start()
    try:
        await asyncio.wait_for(quick.wait(), 20)
        assert not answers.is_set()
        await asyncio.wait_for(streams.stop(), 20)  # which waits for no broker's answer either
    finally:
        answers.set()
        await streams.stop()


def test_a_handler_for_no_topic_is_refused() -> None:
    with pytest.raises(ValueError, match="no such topics: tea-leaves"):
        Receiver({"tea-leaves": asyncio.sleep})


async def until_published(streams: EventStreams, n: int) -> None:
    async with asyncio.timeout(60):
        while streams.relay.stats.n_published < n:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_tenant_whose_topics_are_not_made_holds_up_no_other(
    pulsar_broker: TestBroker,
    database: Database,
    postgres_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams_module, "TENANTS_INTERVAL_S", 0.2)
    config = pulsar_broker.config("late-{tenant}")
    known = [TENANT]

    async def tenant_ids() -> list[str]:
        return known

    await create_portfolios(database, ["late"])
    async with database.transaction("rival", deadline_s=10.0) as connection:
        await tenants.ensure(connection, "rival")
        told = outbox.NewEvent("position-sized", "PositionSized", lambda _: b"rival's")
        await outbox.append(connection, "rival", "", [told])
    streams = EventStreams(config, postgres_dsn, lambda _: Receiver({}), tenant_ids=tenant_ids)
    streams.start()
    ids = await commit_events(database, "late", 3)
    ours, theirs = config.of_tenant(TENANT), config.of_tenant("rival")
    await until_published(streams, 3)
    assert [m.event_id for m in await read_all(ours, "position-sized")] == ids
    async with asyncio.timeout(60):  # each shard is tried again by itself
        while "rival/position-sized has not been made" not in streams.relay.stats.last_error:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    known.append("rival")
    await until_published(streams, 4)
    await asyncio.wait_for(streams.stop(), 30)
    assert [m.payload for m in await read_all(theirs, "position-sized")] == [b"rival's"]
    assert len(await read_all(ours, "position-sized")) == 3
