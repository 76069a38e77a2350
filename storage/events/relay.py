"""The relay: committed events to the broker, each portfolio's in order, whatever is killed when.

    claim shards (session locks) -> head of a shard -> note it -> send -> delete what is stored

Every replica of the service runs one. Together they hold the 16 shards, about equally many each;
one that goes loses its locks and the others take its shards. Events leave the outbox only after
the broker has acknowledged them, so a relay that dies at any point costs nothing but time, and
what it noted before sending lets its successor repeat exactly that (see `shard.py`).

Latency comes from `wake`, which the writer of an event calls after its commit; the truth comes
from polling, which also finds what other processes wrote. Commits carry no NOTIFY: it would take
one lock for all commits of the server, which costs more than a short poll of 16 shards.
"""

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from storage.crash import crash_point
from storage.errors import Unavailable
from storage.events.backoff import Backoff
from storage.events.ports import Broker, BrokerUnavailable, Outbox, ProducerNameTaken
from storage.events.shard import AroundSend, Numbered, ShardPublisher, untraced
from storage.postgres.outbox import N_SHARDS

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RelayOptions:
    """How a relay goes about it. All times in seconds."""

    poll_interval_s: float = 0.1
    """An event written by another process waits at most this long to be seen."""
    share_interval_s: float = 1.0
    """How often shards are shared out anew."""
    n_batch_max: int = 128
    batch_bytes_max: int = 16 * 2**20
    """The next batch is chosen so that events as big as the last ones would fit."""
    backoff: Backoff = field(default_factory=Backoff)
    stop_grace_s: float = 3.0
    """How long `stop` lets batches under way finish."""
    producer_prefix: str = "sizing-relay"
    around_send: AroundSend = untraced
    """Entered around sending each event, with its topic and the trace it belongs to."""
    name_patience_s: float = 10.0
    """A producer name that the broker says is taken for so long is given up for the next epoch's.

    Its holder has lost the shard, or is gone and the broker has not noticed. What was under way may
    then be on a topic twice, under one event id."""

    def __post_init__(self) -> None:
        if self.n_batch_max < 1:
            raise ValueError("n_batch_max must be at least 1")


@dataclass
class RelayStats:
    """What a relay has done and how it is doing, to be read at any time."""

    n_published: int = 0
    """Events acknowledged by the broker."""
    n_failed: int = 0
    """Batches that did not go through at once; their events went later."""
    n_sessions_lost: int = 0
    n_names_taken: int = 0
    """Producers that could not be opened because the broker had the name already."""
    n_names_given_up: int = 0
    n_shards: int = 0
    """Shards held now."""
    last_error: str = ""


@dataclass(frozen=True)
class _Failures:
    """How often a topic has failed in a row, and when it is tried again, by the loop's clock."""

    n: int
    retry_at: float


@dataclass(eq=False)
class _Shard:
    """A shard held by this relay."""

    number: int
    publisher: ShardPublisher
    batch: list[Numbered]  # claimed and not yet deleted
    failures: dict[str, _Failures] = field(default_factory=dict)  # by topic
    taken_since: dict[str, float] = field(default_factory=dict)  # by topic, by the loop's clock
    retry_at: float = 0.0  # by the loop's clock
    is_surplus: bool = False
    task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        return self.task is None

    def is_ready(self, now: float) -> bool:
        return self.is_idle and not self.is_surplus and self.retry_at <= now

    def waits(self, topic: str, now: float) -> bool:
        """Whether a topic has failed and is not to be tried yet."""
        return topic in self.failures and self.failures[topic].retry_at > now

    def next_retry(self) -> float:
        """When the first of the topics that wait is tried again."""
        return min((failures.retry_at for failures in self.failures.values()), default=0.0)

    def replace(self, old: list[Numbered], new: list[Numbered]) -> None:
        """Puts `new` in the place of `old`; the order within each topic stays."""
        gone = {row.event.event_id for row in old}
        self.batch = [row for row in self.batch if row.event.event_id not in gone] + new


class Relay:
    """Run `run` as a task for as long as the service lives; `stop` lets it end in good order."""

    def __init__(
        self,
        outbox: Outbox,
        broker: Broker,
        options: RelayOptions | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.stats = RelayStats()
        self._outbox = outbox
        self._broker = broker
        self._options = options or RelayOptions()
        self._rng = rng or random.Random()
        self._held: dict[int, _Shard] = {}
        self._mean_bytes = 0.0
        self._wake = asyncio.Event()
        self._stopping = False
        self.is_running = False

    def holds(self, shard: int) -> bool:
        """Whether this relay works on a shard now."""
        return shard in self._held

    def wake(self) -> None:
        """Say that events have been committed. Cheap; call it on the relay's event loop."""
        self._wake.set()

    async def run(self) -> None:
        """Relay until `stop`; failures of broker and database are waited out."""
        self.is_running = True
        n_failures = 0
        while not self._stopping:
            try:
                await self._outbox.open()
                n_failures = 0
                await self._work()
            except Exception as error:  # also a bug of ours: events must not stop for good
                self._note(error)
                self.stats.n_sessions_lost += 1
                await self._pause(self._options.backoff.delay_s(n_failures, self._rng))
                n_failures += 1
            finally:
                await self._give_up()

    async def stop(self) -> None:
        """Have `run` end after the batches under way; it returns at once."""
        self._stopping = True
        self._wake.set()

    async def _work(self) -> None:
        """One session with the database, until it is lost (`Unavailable`) or `stop`."""
        share_at = 0.0
        while not self._stopping:
            now = asyncio.get_running_loop().time()
            self._collect()
            if now >= share_at:
                share_at = now + self._options.share_interval_s
                await self._share()
            ready = [shard.number for shard in self._held.values() if shard.is_ready(now)]
            for number in await self._outbox.waiting(ready) if ready else []:
                shard = self._held[number]
                shard.task = asyncio.create_task(self._drain(shard))
            await self._pause(self._options.poll_interval_s)
        await self._finish()

    async def _share(self) -> None:
        """Hold an equal share of the shards; give up what is beyond it, take what is free."""
        share = math.ceil(N_SHARDS / max(1, await self._outbox.n_relays()))
        for rank, shard in enumerate(list(self._held.values())):
            shard.is_surplus = rank >= share
            if shard.is_surplus and shard.is_idle:
                await self._release(shard)
        free = [number for number in range(N_SHARDS) if number not in self._held]
        self._rng.shuffle(free)
        for number in free:
            if len(self._held) >= share:
                break
            if await self._outbox.claim_shard(number):
                batch = [Numbered(*pair) for pair in await self._outbox.load_batch(number)]
                publisher = self._publisher(number, await self._outbox.name_epoch(number))
                self._held[number] = _Shard(number, publisher, batch)
        self.stats.n_shards = len(self._held)

    def _publisher(self, number: int, epoch: int) -> ShardPublisher:
        name = f"{self._options.producer_prefix}-{number}"
        return ShardPublisher(self._broker, name, epoch, self._options.around_send)

    async def _give_name_up(self, shard: _Shard) -> None:
        """Go on under the next name. Sequence ids of the old one mean nothing there."""
        await shard.publisher.close()
        epoch = await self._outbox.next_name(shard.number)
        shard.publisher = self._publisher(shard.number, epoch)
        shard.batch = [Numbered(row.event) for row in shard.batch]
        shard.failures.clear()
        shard.taken_since.clear()
        self.stats.n_names_given_up += 1
        _log.warning("relay: the producer name of shard %d is given up", shard.number)

    async def _release(self, shard: _Shard) -> None:
        # Producers first: the next relay needs their names.
        await shard.publisher.close()
        await self._outbox.release_shard(shard.number)
        del self._held[shard.number]

    async def _drain(self, shard: _Shard) -> None:
        """Publish until nothing is left that may be sent now, or the relay wants to stop.

        A topic that fails waits by itself, with the events of it that were taken; those of other
        topics go on. Between topics there is no order to keep.
        """
        while not (self._stopping or shard.is_surplus):
            now = asyncio.get_running_loop().time()
            ready = [row for row in shard.batch if not shard.waits(row.event.topic, now)]
            if not ready:
                held = {row.event.topic for row in shard.batch}
                events = await self._outbox.oldest(shard.number, self._limit(), held)
                ready = [Numbered(event) for event in events]
                shard.batch += ready
            if not ready:
                if shard.batch:
                    shard.retry_at = min(now + self._options.share_interval_s, shard.next_retry())
                return
            await self._publish(shard, ready)

    async def _publish(self, shard: _Shard, ready: list[Numbered]) -> None:
        """Send some of a shard's batch and delete what arrived; the rest stays in the batch."""
        numbered, errors = await shard.publisher.number(ready)
        if self._is_name_lost(shard, {row.event.topic for row in ready}, errors):
            await self._give_name_up(shard)
            return
        if numbered != ready:
            shard.replace(ready, numbered)
            pairs = [(row.event, row.sequence_id) for row in shard.batch]
            await self._outbox.save_batch(
                shard.number, [(event, id) for event, id in pairs if id is not None]
            )
        sent = [row for row in numbered if row.event.topic not in errors]
        crash_point("relay.before_send")
        stored, again, more = await shard.publisher.publish(sent)
        crash_point("relay.after_send")
        shard.replace(sent, again)
        if stored:
            self._learn_size(stored)
            crash_point("relay.before_delete")
            await self._outbox.delete([row.event for row in stored])
            self.stats.n_published += len(stored)
        self._back_off(shard, {row.event.topic for row in stored}, errors | more)

    def _is_name_lost(
        self, shard: _Shard, tried: set[str], errors: Mapping[str, BrokerUnavailable]
    ) -> bool:
        """Whether the broker has refused a shard's name for longer than its holder may take."""
        now = asyncio.get_running_loop().time()
        for topic in tried:
            if isinstance(errors.get(topic), ProducerNameTaken):
                self.stats.n_names_taken += 1
                shard.taken_since.setdefault(topic, now)
            elif topic not in errors:
                shard.taken_since.pop(topic, None)
        first = min(shard.taken_since.values(), default=now)
        return now - first >= self._options.name_patience_s

    def _back_off(
        self, shard: _Shard, stored: set[str], errors: Mapping[str, BrokerUnavailable]
    ) -> None:
        for topic in stored - errors.keys():
            shard.failures.pop(topic, None)
        for topic, error in errors.items():
            self._note(error)
            self.stats.n_failed += 1
            n_failures = shard.failures[topic].n if topic in shard.failures else 0
            delay_s = self._options.backoff.delay_s(n_failures, self._rng)
            retry_at = asyncio.get_running_loop().time() + delay_s
            shard.failures[topic] = _Failures(n_failures + 1, retry_at)

    def _limit(self) -> int:
        affordable = self._options.batch_bytes_max / max(1.0, self._mean_bytes)
        return max(1, min(self._options.n_batch_max, int(affordable)))

    def _learn_size(self, batch: list[Numbered]) -> None:
        mean = sum(len(row.event.payload) for row in batch) / len(batch)
        self._mean_bytes = mean if not self._mean_bytes else 0.5 * (self._mean_bytes + mean)

    def _collect(self) -> None:
        """Take note of finished tasks; a lost session shows up here."""
        for shard in self._held.values():
            if shard.task is not None and shard.task.done():
                task, shard.task = shard.task, None
                task.result()

    async def _pause(self, seconds: float) -> None:
        """Wait for the next poll, a wake-up, or the end of a batch's task that failed."""
        if self._stopping:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()

    async def _finish(self) -> None:
        tasks = [shard.task for shard in self._held.values() if shard.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=self._options.stop_grace_s)

    async def _give_up(self) -> None:
        """Leave nothing behind that could still publish: tasks, producers, then the claims."""
        shards, self._held = list(self._held.values()), {}
        tasks = [shard.task for shard in shards if shard.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(shard.publisher.close() for shard in shards))
        await self._outbox.close()
        self.stats.n_shards = 0

    def _note(self, error: Exception) -> None:
        if str(error) != self.stats.last_error:
            unexpected = None if isinstance(error, Unavailable) else error
            _log.warning("relay: %s", error, exc_info=unexpected)
        self.stats.last_error = str(error)
