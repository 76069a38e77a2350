"""The real relay and the real consumer in a simulated world, hundreds of seeds of it.

`SIMULATION_SEEDS=10000 pytest tests/storage/events/test_simulation.py` runs more of them; the
message of a failure names the seed, and `SIMULATION_SEED=<it>` runs that one alone.
"""

import asyncio
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from storage.errors import Unavailable
from storage.events.backoff import Backoff
from storage.events.consumer import Consumer, ConsumerOptions, Refused
from storage.events.ports import InMessage, OutMessage, Sharing
from storage.events.relay import Relay, RelayOptions
from storage.events.topics import Incoming
from storage.postgres.outbox import N_SHARDS, OutboxEvent
from tests.storage.events.simulated_broker import Broker, SimulatedBroker, SimulatedProducer, Stored
from tests.storage.events.simulated_database import Database, SimulatedOutbox, event
from tests.storage.events.simulated_time import Chance, run

N_SEEDS = int(os.environ.get("SIMULATION_SEEDS", "200"))
BACKOFF = Backoff(0.05, 1.0)
TOPICS = ("position-sized", "decision-settled", "limit-breached")


def seeds() -> Iterator[int]:
    only = os.environ.get("SIMULATION_SEED")
    yield from [int(only)] if only else range(N_SEEDS)


# --- the relay ---------------------------------------------------------------------------------


@dataclass
class Process:
    """A replica of the service, as far as the relay is concerned."""

    outbox: SimulatedOutbox
    broker: SimulatedBroker
    relay: Relay
    task: "asyncio.Task[None]"


class RelayWorld:
    """Three replicas, twelve portfolios, three topics, one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.chance = Chance(self.rng)
        self.database = Database(self.chance)
        self.broker = Broker(self.chance)
        self.broker.observers.append(self._check)
        self.published: Counter[object] = Counter()
        self.newest: dict[tuple[str, str], int] = {}
        self.processes: list[Process] = []
        self.loses_commits = seed % 2 == 1
        self.n_events = 0

    def start(self) -> Process:
        outbox, broker = SimulatedOutbox(self.database), SimulatedBroker(self.broker)
        options = RelayOptions(poll_interval_s=0.3, n_batch_max=5, backoff=BACKOFF)
        relay = Relay(outbox, broker, options, self.rng)
        process = Process(outbox, broker, relay, asyncio.create_task(relay.run()))
        self.processes.append(process)
        return process

    async def kill(self, process: Process) -> None:
        """As by kill -9: nothing is tidied up, and the servers notice a while later."""
        session, notice = process.outbox.lose(), process.broker.lose()
        self.processes.remove(process)
        process.task.cancel()
        await asyncio.gather(process.task, return_exceptions=True)
        later = asyncio.get_running_loop().call_later
        later(self.rng.uniform(0, 2), notice)
        if session is not None:
            later(self.rng.uniform(0, 2), self.database.end_session, session)

    async def write(self, portfolio: str) -> None:
        """A portfolio's commits: numbered under its lock, visible in any order among portfolios."""
        for sequence in range(1, self.rng.randint(4, 9), 2):
            await asyncio.sleep(self.rng.uniform(0, 3))
            events = []
            for offset in range(2):
                self.n_events += 1
                self.database.n_position += 1
                topic = self.rng.choice(TOPICS)
                row = (self.database.n_position, portfolio, sequence + offset, topic)
                events.append(event(*row, self.n_events))
            await asyncio.sleep(self.rng.uniform(0, 0.5))  # others overtake
            self.database.commit(events)
            if self.processes and self.rng.random() < 0.5:
                self.rng.choice(self.processes).relay.wake()

    async def trouble(self) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(0.5, 3))
            kind = self.rng.choice(("kill", "kill", "broker", "database", "stop"))
            if kind == "broker":
                self.broker.restart()
            elif kind == "database" and self.loses_commits:
                self.database.crash()
            elif kind == "kill" and self.processes:
                await self.kill(self.rng.choice(self.processes))
            elif kind == "stop" and self.processes:
                process = self.rng.choice(self.processes)
                self.processes.remove(process)
                await process.relay.stop()
                await process.task
            while len(self.processes) < self.rng.randint(1, 3):
                self.start()

    def _check(self, stored: Stored) -> None:
        """At each message: it was committed, and none newer of its portfolio is on the topic."""
        properties = stored.message.properties
        row = self.database.committed.get(UUID(properties["event_id"]))
        assert row is not None, "phantom: published and not committed"
        self.published[row.event_id] += 1
        if self.published[row.event_id] == 1:
            place = (stored.topic, row.portfolio_id)
            assert self.newest.get(place, 0) < row.portfolio_sequence, "out of order"
            self.newest[place] = row.portfolio_sequence
        self.check_none_lost()

    def check_none_lost(self) -> None:
        waiting = {row.event_id for row in self.database.outbox.values()}
        assert waiting | set(self.published) == set(self.database.committed), "lost"

    async def play(self) -> None:
        for _ in range(3):
            self.start()
        trouble = asyncio.create_task(self.trouble())
        watch = asyncio.create_task(self._watch())
        await asyncio.gather(*(self.write(f"p{i}") for i in range(12)))
        self.chance.calm = True
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)
        if not self.processes:
            self.start()
        async with asyncio.timeout(120):
            while self.database.outbox:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        for process in list(self.processes):
            await process.relay.stop()
            await process.task

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.check_none_lost()

    def check_end(self) -> None:
        assert not self.database.outbox
        self.check_none_lost()
        numbers = defaultdict(list)
        for row in self.database.committed.values():
            numbers[row.portfolio_id].append(row.portfolio_sequence)
        for portfolio, found in numbers.items():
            assert sorted(found) == list(range(1, len(found) + 1)), f"gap in {portfolio}"
        assert self.database.owner == {}, "a shard was left held"
        assert not self.broker.named, "a producer was left open"


def test_relay_loses_nothing_repeats_nothing_and_keeps_order() -> None:
    n_events = n_twice = 0
    for seed in seeds():
        world = RelayWorld(seed)
        try:
            run(world.play())
            world.check_end()
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        twice = sum(count - 1 for count in world.published.values())
        if not world.loses_commits:
            assert twice == 0, f"seed {seed}: {twice} events on a topic twice"
        n_events += world.n_events
        n_twice += twice
    print(f"\nsimulated events {n_events}, lost 0, phantom 0, on a topic twice {n_twice}")
    assert n_twice <= 0.02 * n_events


def test_names_the_broker_never_frees_delay_events_and_no_more() -> None:
    """Producers that are gone and that the broker keeps all the same, of some shards and topics."""
    n_given_up = 0
    for seed in seeds():
        world = RelayWorld(seed)
        leaked = SimulatedProducer(world.broker, "nobody's", None)
        for shard in range(0, N_SHARDS, 3):
            for topic in world.rng.sample(TOPICS, 2):
                world.broker.named[topic, f"sizing-relay-{shard}"] = leaked
        try:
            run(world.play())
            for name in [name for name, held in world.broker.named.items() if held is leaked]:
                del world.broker.named[name]
            world.check_end()
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        n_given_up += sum(world.database.epochs.values())
    assert n_given_up


# --- the consumer ------------------------------------------------------------------------------

KINDS = ("good", "good", "good", "good", "refused", "flaky", "hopeless", "bare")
N_MESSAGES = 40


class ConsumerWorld:
    """Two replicas of a consumer with an inbox, a topic of good, flaky and poisonous messages."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.chance = Chance(self.rng)
        self.database = Database(self.chance)
        self.broker = Broker(self.chance)
        sharing = Sharing.ONE_AT_A_TIME if seed % 3 == 0 else Sharing.BY_KEY
        self.topic = Incoming("signals", sharing)
        self.kind: dict[str, str] = {}
        self.n_failures: Counter[str] = Counter()
        self.processes: list[tuple[SimulatedBroker, Consumer, asyncio.Task[None]]] = []
        self.options = ConsumerOptions(
            n_in_flight_max=8, n_attempts_max=4, n_redeliveries_max=10_000, backoff=BACKOFF
        )

    async def handle(self, message: InMessage) -> None:
        """What a handler of the server does: refuse, fail, or commit with the event id."""
        kind = self.kind[message.event_id]
        if kind == "refused":
            raise Refused("BAD_INPUT", "volatility is negative")
        if kind == "hopeless" or (kind == "flaky" and self.n_failures[message.event_id] < 2):
            self.n_failures[message.event_id] += 1
            raise RuntimeError("something went wrong")
        await self.chance.call(lambda: self._apply(message), Unavailable)

    def _apply(self, message: InMessage) -> None:
        if message.event_id not in self.database.inbox:
            self.database.inbox.add(message.event_id)
            self.database.effects.append((message.key, message.event_id))

    def start(self) -> None:
        broker = SimulatedBroker(self.broker)
        consumer = Consumer(broker, self.topic, self.handle, self.options, self.rng)
        self.processes.append((broker, consumer, asyncio.create_task(consumer.run())))

    async def trouble(self) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(0.2, 1.5))
            place = self.rng.randrange(len(self.processes))
            broker, consumer, task = self.processes.pop(place)
            if self.rng.random() < 0.6:
                notice = broker.lose()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                asyncio.get_running_loop().call_later(self.rng.uniform(0, 1), notice)
            else:
                await consumer.stop()
                await task
            self.start()

    async def play(self) -> None:
        self.start()
        self.start()
        trouble = asyncio.create_task(self.trouble())
        for n in range(N_MESSAGES):
            await asyncio.sleep(self.rng.uniform(0, 0.2))
            kind = self.rng.choice(KINDS)
            id = "" if kind == "bare" else f"e{n}"
            self.kind[id or f"bare{n}"] = kind
            properties = {"event_id": id, "event_type": "SignalsSubmitted", "tenant_id": "acme"}
            message = OutMessage(f"p{n % 5}", f"{n}".encode(), properties)
            for _ in range(1 + (self.rng.random() < 0.2)):  # the sender repeats itself
                self.broker.store("signals", None, message, None)
        await asyncio.sleep(3)
        self.chance.calm = True
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)
        if not self.processes:
            self.start()
        async with asyncio.timeout(300):
            shared = self.broker.subscriptions["signals"]
            stored = self.broker.stored["signals"]
            while len(shared.acknowledged) < len(stored):  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        for _, consumer, task in self.processes:
            await consumer.stop()
            await task

    def check(self) -> None:
        good = {id for id, kind in self.kind.items() if kind in ("good", "flaky")}
        done = [id for _, id in self.database.effects]
        assert sorted(done) == sorted(good), "handled other than once"
        for key in {key for key, _ in self.database.effects}:
            order = [int(id[1:]) for k, id in self.database.effects if k == key]
            assert order == sorted(order), f"out of order for {key}"
        letters = self.broker.stored["signals-dead-letter"]
        bad = {id for id, kind in self.kind.items() if kind in ("refused", "hopeless")}
        found = {letter.message.properties["event_id"] for letter in letters} - {""}
        assert found == bad, "dead letters are not the bad messages"
        reasons = {
            self.kind.get(letter.message.properties["event_id"], "bare"): (
                letter.message.properties["dead_letter_reason"]
            )
            for letter in letters
        }
        expected = {"refused": "BAD_INPUT", "hopeless": "RuntimeError", "bare": "PROPERTY_MISSING"}
        assert reasons == {kind: expected[kind] for kind in reasons}


def test_consumer_handles_each_once_in_order_and_buries_only_poison() -> None:
    n_messages = n_letters = 0
    for seed in seeds():
        world = ConsumerWorld(seed)
        try:
            run(world.play())
            world.check()
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        n_messages += len(world.broker.stored["signals"])
        n_letters += len(world.broker.stored["signals-dead-letter"])
    print(f"\nsimulated messages {n_messages}, lost 0, handled twice 0, dead letters {n_letters}")


def test_a_seed_gives_the_same_run_again() -> None:
    def trace(seed: int) -> list[OutboxEvent]:
        world = RelayWorld(seed)
        run(world.play())
        return [
            world.database.committed[id] for id in world.published if id in world.database.committed
        ]

    assert [e.position for e in trace(7)] == [e.position for e in trace(7)]
