"""The consumer on a real Pulsar."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator

import pytest

from storage.errors import Unavailable
from storage.events.admin import Admin
from storage.events.backoff import Backoff
from storage.events.client import BrokerConfig, PulsarBroker
from storage.events.consumer import Consumer, ConsumerOptions, Handler, Refused
from storage.events.ports import InMessage, OutMessage
from storage.events.topics import DEAD_LETTER_SUFFIX, INCOMING, Incoming
from tests.storage.events.outbox_writes import read_all

pytestmark = pytest.mark.integration

OPTIONS = ConsumerOptions(n_attempts_max=3, backoff=Backoff(0.02, 0.1), stop_grace_s=5.0)


def topic(name: str) -> Incoming:
    return next(incoming for incoming in INCOMING if incoming.name == name)


def message(key: str, id: str, payload: bytes = b"") -> OutMessage:
    properties = {"event_id": id, "event_type": "SignalsSubmitted", "tenant_id": "acme"}
    return OutMessage(key, payload, properties)


@contextlib.asynccontextmanager
async def running(*consumers: Consumer) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(consumer.run()) for consumer in consumers]
    try:
        yield
    finally:
        for consumer in consumers:
            await consumer.stop()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)


async def until_subscribed(config: BrokerConfig, name: str, n: int) -> None:
    """Wait until the broker has `n` consumers of a topic: it deals its keys out anew for each."""
    admin, asked = Admin(config, patience_s=30.0), topic(name)
    path = f"persistent/{config.tenant}/{config.namespace}/{name}/stats"
    async with asyncio.timeout(60):
        while True:
            stats = await asyncio.to_thread(admin.get, path)
            if len(stats["subscriptions"][asked.subscription]["consumers"]) == n:
                return
            await asyncio.sleep(0.05)


async def until(happened: "asyncio.Event", timeout_s: float = 60.0) -> None:
    await asyncio.wait_for(happened.wait(), timeout_s)


def collector(n: int, found: list[InMessage], done: asyncio.Event) -> Handler:
    """A handler that takes what comes, and says so once there are `n` of them."""

    async def handle(received: InMessage) -> None:
        found.append(received)
        await asyncio.sleep(0.001)
        if len({one.event_id for one in found}) == n:
            done.set()

    return handle


async def test_replicas_share_the_keys_and_keep_the_order_of_each(
    broker: PulsarBroker, broker_config: BrokerConfig
) -> None:
    found: list[list[InMessage]] = [[], []]
    done = asyncio.Event()

    def handler(place: int) -> Handler:
        async def handle(received: InMessage) -> None:
            await asyncio.sleep(0.001)
            found[place].append(received)
            if sum(map(len, found)) == 400:
                done.set()

        return handle

    consumers = [Consumer(broker, topic("signals"), handler(i), OPTIONS) for i in range(2)]
    async with running(*consumers):
        await until_subscribed(broker_config, "signals", 2)
        producer = await broker.open_producer("signals")
        sends = [producer.send(message(f"p{n % 20}", f"a{n}", b"%d" % n)) for n in range(400)]
        await asyncio.gather(*sends)
        await until(done)
    first, second = ({one.key for one in part} for part in found)
    assert first | second == {f"p{i}" for i in range(20)}
    assert first.isdisjoint(second)
    assert first
    assert second
    orders: dict[str, list[int]] = defaultdict(list)
    for one in [*found[0], *found[1]]:
        orders[one.key].append(int(one.payload))
    assert all(order == sorted(order) for order in orders.values())


async def test_poison_goes_to_the_dead_letters_and_blocks_nobody(
    broker: PulsarBroker, broker_config: BrokerConfig
) -> None:
    attempts: Counter[str] = Counter()
    done = asyncio.Event()

    async def handle(received: InMessage) -> None:
        attempts[received.event_id] += 1
        match received.event_id:
            case "refused":
                raise Refused("OUT_OF_RANGE", "signals.volatility[3] is -0.2")
            case "hopeless":
                raise RuntimeError("a bug")
            case "away" if attempts["away"] < 6:
                raise Unavailable("the database is away")
            case "last":
                done.set()

    consumer = Consumer(broker, topic("fills"), handle, OPTIONS)
    async with running(consumer):
        producer = await broker.open_producer("fills")
        for id in ("refused", "", "hopeless", "away", "last"):
            await producer.send(message("p1", id, b"payload"))
        await until(done)
    assert attempts == {"refused": 1, "hopeless": 3, "away": 6, "last": 1}
    assert (consumer.stats.n_handled, consumer.stats.n_dead_letters) == (2, 3)
    letters = await read_all(broker_config, "fills" + DEAD_LETTER_SUFFIX)
    assert [(letter.event_id, letter.properties["dead_letter_reason"]) for letter in letters] == [
        ("refused", "OUT_OF_RANGE"),
        ("", "PROPERTY_MISSING"),
        ("hopeless", "RuntimeError"),
    ]
    assert letters[0].key == "p1"
    assert letters[0].payload == b"payload"
    assert letters[0].properties["dead_letter_message"] == "signals.volatility[3] is -0.2"
    assert letters[0].properties["dead_letter_attempts"] == "1"
    assert letters[0].properties["dead_letter_topic"] == "fills"


async def test_what_was_not_acknowledged_comes_again(
    broker: PulsarBroker, broker_config: BrokerConfig
) -> None:
    """A consumer that dies in its handler leaves everything to the next."""
    reached = asyncio.Event()

    async def hang(_received: InMessage) -> None:
        reached.set()
        await asyncio.Event().wait()

    producer = await broker.open_producer("portfolio-state")
    for n in range(5):
        await producer.send(message("p1", f"c{n}", b"%d" % n))
    dying = asyncio.create_task(Consumer(broker, topic("portfolio-state"), hang, OPTIONS).run())
    await until(reached)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    found: list[InMessage] = []
    done = asyncio.Event()
    handle = collector(5, found, done)
    async with running(Consumer(broker, topic("portfolio-state"), handle, OPTIONS)):
        await until(done)
    assert [one.event_id for one in found] == [f"c{n}" for n in range(5)]


async def test_a_topic_read_by_one_at_a_time_keeps_its_whole_order(
    broker: PulsarBroker, broker_config: BrokerConfig
) -> None:
    found: list[InMessage] = []
    done = asyncio.Event()
    handle = collector(100, found, done)
    consumers = [Consumer(broker, topic("limits"), handle, OPTIONS) for _ in range(2)]
    async with running(*consumers):
        await until_subscribed(broker_config, "limits", 2)
        producer = await broker.open_producer("limits")
        sends = [producer.send(message(f"p{n % 7}", f"d{n}", b"%d" % n)) for n in range(100)]
        await asyncio.gather(*sends)
        await until(done)
    assert [int(one.payload) for one in found] == list(range(100))
    assert 0 in (consumer.stats.n_received for consumer in consumers)


async def test_more_than_fits_in_hand_is_taken_in_turn(
    broker: PulsarBroker, broker_config: BrokerConfig
) -> None:
    n_now = n_most = 0
    done = asyncio.Event()
    seen: set[str] = set()

    async def handle(received: InMessage) -> None:
        nonlocal n_now, n_most
        n_now += 1
        n_most = max(n_most, n_now)
        await asyncio.sleep(0.005)
        n_now -= 1
        seen.add(received.event_id)
        if len(seen) == 60:
            done.set()

    options = ConsumerOptions(n_in_flight_max=4)
    async with running(
        Consumer(broker, Incoming("signals", topic("signals").sharing), handle, options)
    ):
        producer = await broker.open_producer("signals")
        await asyncio.gather(*(producer.send(message(f"q{n}", f"e{n}")) for n in range(60)))
        await until(done)
    assert n_most == 4
