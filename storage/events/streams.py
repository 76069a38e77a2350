"""Everything a server process does with the broker: topics made, the relay and consumers at work.

    streams = EventStreams(BrokerConfig(service_url=...), dsn, {"signals": handle_signals})
    streams.start()
    ...
    streams.wake()         # after each commit that wrote events
    ...
    await streams.stop()   # consumers first, so that what they commit is still published

The broker may be away at any time, also at the start: calls go on, events wait.
"""

import asyncio
import logging
import random
from collections.abc import Mapping

from storage.errors import StorageError
from storage.events import topics
from storage.events.backoff import Backoff
from storage.events.client import BrokerConfig, PulsarBroker
from storage.events.consumer import Consumer, ConsumerOptions, DeadLetterHook, Handler
from storage.events.outbox_session import OutboxSession
from storage.events.relay import Relay, RelayOptions

_log = logging.getLogger(__name__)


class EventStreams:
    """The relay and one consumer for each topic that has a handler, as tasks of this event loop."""

    def __init__(
        self,
        config: BrokerConfig,
        dsn: str,
        handlers: Mapping[str, Handler],
        *,
        relay_options: RelayOptions | None = None,
        consumer_options: ConsumerOptions | None = None,
        on_dead_letter: DeadLetterHook | None = None,
    ) -> None:
        """`handlers` by the short names of topics; errors: ValueError for one that isn't there."""
        incoming = {topic.name: topic for topic in topics.INCOMING}
        if unknown := handlers.keys() - incoming.keys():
            raise ValueError(f"no such topics: {', '.join(sorted(unknown))}")
        self._config = config
        self._broker = PulsarBroker(config)
        self.relay = Relay(OutboxSession(dsn), self._broker, relay_options)
        self.consumers = {
            name: Consumer(
                self._broker,
                incoming[name],
                handler,
                consumer_options,
                on_dead_letter=on_dead_letter,
            )
            for name, handler in handlers.items()
        }
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; returns at once, whether the broker is there or not."""
        self._task = asyncio.create_task(self._run(), name="event streams")

    def wake(self) -> None:
        """Say that events have been committed, so that they leave without waiting for a poll."""
        self.relay.wake()

    async def stop(self) -> None:
        """Finish what is in hand and close; a bound on that is in the options of each part."""
        if self._task is None:
            return
        if not self.relay.is_running:  # still waiting for the broker to make the topics
            self._task.cancel()
        for consumer in self.consumers.values():
            await consumer.stop()
        await asyncio.gather(*(consumer.stopped() for consumer in self.consumers.values()))
        await self.relay.stop()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._broker.close()
        self._task = None

    async def _run(self) -> None:
        # Topics first: what is published to a topic without subscription or retention may be lost.
        if self._config.admin_url:
            await self._ensure_topics()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.relay.run(), name="relay")
            for name, consumer in self.consumers.items():
                group.create_task(consumer.run(), name=f"consumer of {name}")

    async def _ensure_topics(self) -> None:
        backoff, rng, n_failures = Backoff(0.5, 5.0), random.Random(), 0
        while True:
            try:
                # Without patience of its own: a thread that waits would hold up the exit.
                made = await asyncio.to_thread(topics.ensure, self._config, patience_s=0.0)
                if made.topics:
                    _log.info("topics made: %s", ", ".join(made.topics))
                return
            except (StorageError, OSError) as error:
                if n_failures == 0:
                    _log.warning("topics can't be made yet, events wait: %s", error)
                await asyncio.sleep(backoff.delay_s(n_failures, rng))
                n_failures += 1
