"""A simulated broker: topics, deduplication, producers, shared subscriptions."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from storage.events.ports import (
    BrokerUnavailable,
    InMessage,
    OutMessage,
    ProducerNameTaken,
    Sharing,
)
from tests.storage.events.simulated_time import Chance


@dataclass
class Stored:
    """A message on a topic."""

    topic: str
    number: int
    message: OutMessage


class Broker:
    """Topics, deduplication by producer name, subscriptions shared by key or by failover."""

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        self.stored: dict[str, list[Stored]] = defaultdict(list)
        self.highest: dict[tuple[str, str], int] = {}
        self.named: dict[tuple[str, str], SimulatedProducer] = {}
        self.subscriptions: dict[str, Shared] = {}
        self.observers: list[Callable[[Stored], None]] = []

    def store(self, topic: str, name: str | None, message: OutMessage, id: int | None) -> None:
        """Append, unless the producer's sequence id says that this is a repetition."""
        if name is not None and id is not None:
            if id <= self.highest.get((topic, name), -1):
                return
            self.highest[topic, name] = id
        stored = Stored(topic, len(self.stored[topic]), message)
        self.stored[topic].append(stored)
        for observer in self.observers:
            observer(stored)
        if topic in self.subscriptions:
            self.subscriptions[topic].pump()

    def restart(self) -> None:
        """Everything stored stays, every connection breaks."""
        for producer in list(self.named.values()):
            producer.breaks()


class SimulatedBroker:
    """The `Broker` of one process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._producers: list[SimulatedProducer] = []
        self._members: list[Member] = []
        self.is_dead = False

    async def open_producer(self, topic: str, name: str | None = None) -> "SimulatedProducer":
        producer = SimulatedProducer(self._broker, topic, name)

        def register() -> None:
            if self.is_dead:
                raise BrokerUnavailable("this process is dead")
            if name and (topic, name) in self._broker.named:
                raise ProducerNameTaken("the producer's name is taken")
            if name:
                self._broker.named[topic, name] = producer
                producer.last_sequence_id = self._broker.highest.get((topic, name), -1)
            self._producers.append(producer)

        try:
            await self._broker.chance.call(register, BrokerUnavailable)
        except BaseException:
            producer.leave()
            raise
        return producer

    async def subscribe(self, topic: str, subscription: str, sharing: Sharing) -> "Member":
        shared = self._broker.subscriptions.setdefault(topic, Shared(self._broker, topic, sharing))
        member = Member(shared)

        def join() -> None:
            if self.is_dead:
                raise BrokerUnavailable("this process is dead")
            shared.members.append(member)
            self._members.append(member)
            shared.pump()

        try:
            await self._broker.chance.call(join, BrokerUnavailable)
        except BaseException:
            shared.leave(member)
            raise
        return member

    def lose(self) -> Callable[[], None]:
        """The process dies. What the broker does when it notices is the result."""
        self.is_dead = True
        for producer in self._producers:
            producer.breaks(keep_name=True)

        def notice() -> None:
            for producer in self._producers:
                producer.leave()
            for member in self._members:
                member.shared.leave(member)

        return notice


class SimulatedProducer:
    """Sends are stored in order; when its connection breaks, a prefix of what is under way is."""

    def __init__(self, broker: Broker, topic: str, name: str | None) -> None:
        self.last_sequence_id = -1
        self._broker = broker
        self._topic = topic
        self._name = name
        self._pending: list[tuple[OutMessage, int | None, asyncio.Future[None]]] = []
        self._is_open = True

    async def send(self, message: OutMessage, sequence_id: int | None = None) -> None:
        if not self._is_open:
            raise BrokerUnavailable("the producer is closed")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((message, sequence_id, done))
        if len(self._pending) == 1:
            self._arrive_later()
        await done

    async def close(self) -> None:
        self.leave()

    def _arrive_later(self) -> None:
        asyncio.get_running_loop().call_later(
            self._broker.chance.rng.uniform(0.001, 0.02), self._arrive
        )

    def _arrive(self) -> None:
        if not self._pending:
            return
        if self._broker.chance.fault():
            self.breaks()
            return
        message, id, done = self._pending.pop(0)
        self._broker.store(self._topic, self._name, message, id)
        if not done.done():
            done.set_result(None)
        if self._pending:
            self._arrive_later()

    def breaks(self, keep_name: bool = False) -> None:
        pending, self._pending = self._pending, []
        n_stored = self._broker.chance.rng.randint(0, len(pending))
        for message, id, _ in pending[:n_stored]:
            self._broker.store(self._topic, self._name, message, id)
        for _, _, done in pending:
            if not done.done():
                done.set_exception(BrokerUnavailable("the connection broke"))
                done.exception()  # its sender may be dead
        self._is_open = False
        if not keep_name:
            self.leave()

    def leave(self) -> None:
        self._is_open = False
        key = (self._topic, self._name or "")
        if self._broker.named.get(key) is self:
            del self._broker.named[key]
        if self._pending:
            self.breaks()


class Shared:
    """One subscription of a topic and the members that share it."""

    def __init__(self, broker: Broker, topic: str, sharing: Sharing) -> None:
        self.broker = broker
        self.topic = topic
        self.sharing = sharing
        self.members: list[Member] = []
        self.outstanding: dict[int, Member] = {}
        self.acknowledged: set[int] = set()
        self.n_deliveries: dict[int, int] = defaultdict(int)
        self.n_done = 0  # all messages before this one are acknowledged

    def pump(self) -> None:
        """Give every message nobody has to the member its key belongs to, in order."""
        holder = {
            self._key(self.broker.stored[self.topic][number]): member
            for number, member in self.outstanding.items()
        }
        while self.n_done in self.acknowledged:
            self.n_done += 1
        for stored in self.broker.stored[self.topic][self.n_done :]:
            number, key = stored.number, self._key(stored)
            if number in self.acknowledged or number in self.outstanding or not self.members:
                continue
            member = holder.setdefault(key, self.members[sum(key.encode()) % len(self.members)])
            self.outstanding[number] = member
            self.n_deliveries[number] += 1
            member.queue.put_nowait(
                InMessage(
                    topic=self.topic,
                    key=stored.message.key,
                    payload=stored.message.payload,
                    properties=stored.message.properties,
                    message_id=str(number),
                    n_redeliveries=self.n_deliveries[number] - 1,
                    handle=number,
                )
            )

    def leave(self, member: "Member") -> None:
        self.take_back(member)
        if member in self.members:
            self.members.remove(member)
        self.pump()

    def take_back(self, member: "Member") -> None:
        """What a member has not acknowledged is to be delivered again."""
        self.outstanding = {n: m for n, m in self.outstanding.items() if m is not member}
        while not member.queue.empty():
            member.queue.get_nowait()

    def _key(self, stored: Stored) -> str:
        return stored.message.key if self.sharing is Sharing.BY_KEY else ""


class Member:
    """The `Subscription` of one process."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.queue: asyncio.Queue[InMessage] = asyncio.Queue()
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def receive(self) -> InMessage:
        chance = self.shared.broker.chance
        if chance.fault(0.5):  # the connection breaks, the client mends it: all comes again
            self.shared.take_back(self)
            self.shared.pump()
        get = asyncio.ensure_future(self.queue.get())
        await asyncio.wait({get, self._closed}, return_when="FIRST_COMPLETED")
        if not get.done():
            get.cancel()
            raise BrokerUnavailable("the subscription is closed")
        await chance.delay()
        return get.result()

    async def acknowledge(self, message: InMessage) -> None:
        assert isinstance(message.handle, int)
        number = message.handle

        def forget() -> None:
            self.shared.acknowledged.add(number)
            self.shared.outstanding.pop(number, None)
            self.shared.pump()

        await self.shared.broker.chance.call(forget, BrokerUnavailable)

    async def close(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        self.shared.leave(self)
