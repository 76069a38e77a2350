"""Everything a server process does with the broker: topics made, the relay and consumers at work.

    streams = EventStreams(BrokerConfig(service_url=...), dsn, lambda tenant_id: Receiver(...))
    streams.start()
    ...
    streams.wake()         # after each commit that wrote events
    ...
    await streams.stop()   # consumers first, so that what they commit is still published

The broker may be away at any time, also at the start: calls go on, events wait. Where each tenant
has a namespace, those of new tenants are made as they are found; one that can't be made holds up
no other.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection

from storage.errors import StorageError
from storage.events import topics
from storage.events.backoff import Backoff
from storage.events.client import BrokerConfig, PulsarBroker
from storage.events.consumer import Consumer, ConsumerOptions, Receiver
from storage.events.outbox_session import OutboxSession
from storage.events.ports import (
    Broker,
    BrokerUnavailable,
    Producer,
    Sharing,
    Subscription,
    short_topic,
    tenant_topic,
)
from storage.events.relay import Relay, RelayOptions

_log = logging.getLogger(__name__)

TENANTS_INTERVAL_S = 5.0
"""How often new tenants are looked for."""
ADMIN_CALLS_MAX = 4
"""Tenants whose topics are made at once, each in a thread."""
_BACKOFF = Backoff(0.5, 5.0)
EVERYBODY = ""
"""The tenant whose namespace is that of all, where tenants have none of their own."""


class EventStreams:
    """The relay and one consumer for each topic that has a handler, as tasks of this event loop."""

    def __init__(
        self,
        config: BrokerConfig,
        dsn: str,
        receiver_of: Callable[[str], Receiver],
        *,
        tenant_ids: Callable[[], Awaitable[Collection[str]]] | None = None,
        relay_options: RelayOptions | None = None,
        consumer_options: ConsumerOptions | None = None,
    ) -> None:
        """receiver_of: for a tenant, or `EVERYBODY`; its handlers by the short names of topics.

        tenant_ids: who there is, needed where each has a namespace.
        """
        if config.has_namespace_a_tenant and tenant_ids is None:
            raise ValueError("where each tenant has a namespace, somebody has to say who there is")
        self._config = config
        self._receiver_of = receiver_of
        self._tenant_ids = tenant_ids or _everybody
        self._consumer_options = consumer_options
        self._broker = PulsarBroker(config)
        self._prepared = _Prepared(self._broker)
        session = OutboxSession(dsn, names_tenants=config.has_namespace_a_tenant)
        self.relay = Relay(session, self._prepared, relay_options)
        self.consumers: dict[str, Consumer] = {}
        """By topic, with the tenant before it where each has a namespace."""
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._admin_turns = asyncio.Semaphore(ADMIN_CALLS_MAX)
        self._told: set[str] = set()

    def start(self) -> None:
        """Begin; returns at once, whether the broker is there or not."""
        self._task = asyncio.create_task(self._run(), name="event streams")

    def wake(self) -> None:
        """Say that events have been committed, so that they leave without waiting for a poll."""
        self.relay.wake()

    def handled(self, topic: str) -> int:
        """Messages of a topic, by its short name, that were handled; of all tenants."""
        return sum(c.stats.n_handled for c in self._of_topic(topic))

    def dead_letters(self, topic: str) -> int:
        """Those that were given up."""
        return sum(c.stats.n_dead_letters for c in self._of_topic(topic))

    async def stop(self) -> None:
        """Finish what is in hand and close; a bound on that is in the options of each part."""
        if self._task is None:
            return
        if self._looking is not None:
            self._looking.cancel()
        if not self.relay.is_running:  # still waiting for the broker to make the topics
            self._task.cancel()
        for consumer in self.consumers.values():
            await consumer.stop()
        await asyncio.gather(*(consumer.stopped() for consumer in self.consumers.values()))
        await self.relay.stop()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._broker.close()
        self._task = None

    def _of_topic(self, topic: str) -> list[Consumer]:
        return [c for name, c in self.consumers.items() if short_topic(name) == topic]

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._looking = group.create_task(self._look(group), name="tenants' topics")
            if not self._config.has_namespace_a_tenant:
                await self._looking
            group.create_task(self.relay.run(), name="relay")

    async def _look(self, group: asyncio.TaskGroup) -> None:
        """Prepares each tenant's topics, and consumes them; looks for new tenants."""
        rng, n_failures = random.Random(), 0
        while True:
            new = [id for id in await self._known() if id not in self._prepared.tenant_ids]
            is_ready = all(await asyncio.gather(*(self._prepare(id, group) for id in new)))
            if is_ready and not self._config.has_namespace_a_tenant:
                return
            pause_s = TENANTS_INTERVAL_S if is_ready else _BACKOFF.delay_s(n_failures, rng)
            n_failures = 0 if is_ready else n_failures + 1
            await asyncio.sleep(pause_s)

    async def _known(self) -> Collection[str]:
        try:
            return await self._tenant_ids()
        except Exception as error:  # also a bug of ours: what is known already goes on
            self._note("tenants can't be listed yet", error)
            return ()

    async def _prepare(self, tenant_id: str, group: asyncio.TaskGroup) -> bool:
        """Makes a tenant's topics and consumes them; False where that has to be tried again."""
        try:
            config = self._config.of_tenant(tenant_id)
            # Topics first: what is published to one without subscription or retention may be lost.
            if config.admin_url:
                async with self._admin_turns:
                    await _ensure(config)
            receiver = self._receiver_of(tenant_id)
        except Exception as error:  # also a bug of ours: the events of others must not stop
            whose = f" of {tenant_id}" if tenant_id != EVERYBODY else ""
            self._note(f"topics{whose} can't be made or read yet, events wait", error)
            return False
        self._prepared.tenant_ids.add(tenant_id)
        for topic in topics.INCOMING:
            if topic.name not in receiver.handlers:
                continue
            name = topic.name if tenant_id == EVERYBODY else tenant_topic(tenant_id, topic.name)
            consumer = Consumer(
                self._broker,
                topics.Incoming(name, topic.sharing, topic.subscription),
                receiver.handlers[topic.name],
                self._consumer_options,
                on_dead_letter=receiver.on_dead_letter,
            )
            self.consumers[name] = consumer
            group.create_task(consumer.run(), name=f"consumer of {name}")
        return True

    def _note(self, what: str, error: Exception) -> None:
        if what not in self._told:
            unexpected = None if isinstance(error, StorageError | OSError) else error
            _log.warning("%s: %s", what, error, exc_info=unexpected)
        self._told.add(what)


async def _ensure(config: BrokerConfig) -> None:
    # Without patience of its own: a thread that waits would hold up the exit.
    made = await asyncio.to_thread(topics.ensure, config, patience_s=0.0)
    if made.topics:
        _log.info("topics made in %s: %s", config.namespace, ", ".join(made.topics))


class _Prepared:
    """A `Broker` that publishes only where topics have been made."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.tenant_ids: set[str] = set()

    async def open_producer(self, topic: str, name: str | None = None) -> Producer:
        if topic.rpartition("/")[0] not in self.tenant_ids:
            raise BrokerUnavailable(f"the topic {topic} has not been made yet")
        return await self._broker.open_producer(topic, name)

    async def subscribe(self, topic: str, subscription: str, sharing: Sharing) -> Subscription:
        return await self._broker.subscribe(topic, subscription, sharing)


async def _everybody() -> Collection[str]:
    return (EVERYBODY,)
