"""Taking in events: each handled once, each key in order, none in the way of the others.

    receive -> lane of its key -> handler (commits, with the event id in the inbox) -> acknowledge

A message is acknowledged after the handler has returned, that is after its commit. Killed in
between, it comes again, and the handler finds its event id in the inbox table, in the transaction
that would do the work: nothing happens twice.

What a handler's failure means is decided by `remedy_of`:

    REFUSE   it can never succeed: to the dead-letter topic at once, with the reason
    RETRY    it may succeed: again after a pause, to the dead-letter topic after `n_attempts_max`
    WAIT     it is not the message's fault (database away): again until it works, uncounted

Pauses hold back only the messages of the same key, which have to stay behind it anyway. Negative
acknowledgement is not used: the broker would deliver the message after its successors.
"""

import asyncio
import contextlib
import enum
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from storage.crash import crash_point
from storage.errors import RequestError, StorageError, Unavailable
from storage.events.backoff import Backoff
from storage.events.ports import Broker, InMessage, OutMessage, Producer, Sharing, Subscription
from storage.events.topics import DEAD_LETTER_SUFFIX, INCOMING, Incoming

__all__ = [
    "Consumer",
    "ConsumerOptions",
    "ConsumerStats",
    "Handler",
    "Receiver",
    "Refused",
    "Remedy",
]

_log = logging.getLogger(__name__)

Handler = Callable[[InMessage], Awaitable[None]]
DeadLetterHook = Callable[[InMessage, Exception], Awaitable[None]]
"""Told of each dead letter after it is stored, and before the original is let go."""
_REASON_LENGTH_MAX = 2000


@dataclass(frozen=True)
class Receiver:
    """What takes in the messages of a tenant: by short topic, and whom dead letters are told."""

    handlers: Mapping[str, Handler]
    on_dead_letter: DeadLetterHook | None = None

    def __post_init__(self) -> None:
        if unknown := self.handlers.keys() - {topic.name for topic in INCOMING}:
            raise ValueError(f"no such topics: {', '.join(sorted(unknown))}")


class Refused(Exception):
    """Raised by a handler: this message can never be handled.

    `reason` is machine readable (UPPER_SNAKE), the text says what is wrong with which field.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Remedy(enum.Enum):
    """What to do about a message whose handler failed; see the module."""

    REFUSE = enum.auto()
    RETRY = enum.auto()
    WAIT = enum.auto()


def remedy_of(error: Exception) -> Remedy:
    """REFUSE for `Refused` and `RequestError`, WAIT for `Unavailable`, RETRY for the rest."""
    if isinstance(error, Refused | RequestError):
        return Remedy.REFUSE
    return Remedy.WAIT if isinstance(error, Unavailable) else Remedy.RETRY


@dataclass(frozen=True)
class ConsumerOptions:
    """Bounds on what one consumer has in hand."""

    n_in_flight_max: int = 256
    """Messages received and not yet acknowledged; receiving pauses at this many."""
    n_attempts_max: int = 5
    n_redeliveries_max: int = 16
    """A message that came back this often probably kills its handler's process: dead letter."""
    backoff: Backoff = field(default_factory=Backoff)
    stop_grace_s: float = 3.0

    def __post_init__(self) -> None:
        if min(self.n_in_flight_max, self.n_attempts_max, self.n_redeliveries_max) < 1:
            raise ValueError("the bounds of a consumer must be at least 1")


@dataclass
class ConsumerStats:
    """What a consumer has done, to be read at any time."""

    n_received: int = 0
    n_handled: int = 0
    n_retries: int = 0
    n_dead_letters: int = 0
    n_in_flight: int = 0
    n_sessions_lost: int = 0
    last_error: str = ""


class Consumer:
    """One topic's consumer: run `run` as a task, `stop` finishes what is in hand."""

    def __init__(
        self,
        broker: Broker,
        topic: Incoming,
        handler: Handler,
        options: ConsumerOptions | None = None,
        rng: random.Random | None = None,
        on_dead_letter: DeadLetterHook | None = None,
    ) -> None:
        self.stats = ConsumerStats()
        self.topic = topic
        self._broker = broker
        self._handler = handler
        self._options = options or ConsumerOptions()
        self._rng = rng or random.Random()
        self._on_dead_letter = on_dead_letter
        self._stop = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()

    async def run(self) -> None:
        """Consume until `stop`; failures of the broker are waited out."""
        self._stopped.clear()
        try:
            await self._run()
        finally:
            self._stopped.set()

    async def stop(self) -> None:
        """Have `run` end: nothing new is taken, what is in hand is finished. Returns at once."""
        self._stop.set()

    async def stopped(self) -> None:
        """Wait until `run` has ended; returns at once if it never began."""
        await self._stopped.wait()

    async def _run(self) -> None:
        n_failures = 0
        while not self._stop.is_set():
            session = _Session(
                self._handler, self._options, self.stats, self._rng, self._on_dead_letter
            )
            try:
                await session.open(self._broker, self.topic)
                n_failures = 0
                await session.work(self._stop)
            except Exception as error:  # also a bug of ours: intake must not stop for good
                self.stats.n_sessions_lost += 1
                self._note(error)
                delay_s = self._options.backoff.delay_s(n_failures, self._rng)
                n_failures += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), delay_s)
            finally:
                await session.close()

    def _note(self, error: Exception) -> None:
        if str(error) != self.stats.last_error:
            unexpected = None if isinstance(error, StorageError) else error
            _log.warning("consumer of %s: %s", self.topic.name, error, exc_info=unexpected)
        self.stats.last_error = str(error)


class _Session:
    """A subscription, the lanes fed from it, and the producer of its dead letters."""

    def __init__(
        self,
        handler: Handler,
        options: ConsumerOptions,
        stats: ConsumerStats,
        rng: random.Random,
        on_dead_letter: DeadLetterHook | None,
    ) -> None:
        self._on_dead_letter = on_dead_letter
        self._handler = handler
        self._options = options
        self._stats = stats
        self._rng = rng
        self._room = asyncio.Semaphore(options.n_in_flight_max)
        self._lanes: dict[str, deque[InMessage]] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._receiving: asyncio.Future[InMessage] | None = None
        self._subscription: Subscription | None = None
        self._dead_letters: Producer | None = None

    async def open(self, broker: Broker, topic: Incoming) -> None:
        self._in_one_lane = topic.sharing is Sharing.ONE_AT_A_TIME
        self._dead_letters = await broker.open_producer(topic.name + DEAD_LETTER_SUFFIX)
        self._subscription = await broker.subscribe(topic.name, topic.subscription, topic.sharing)

    async def work(self, stop: asyncio.Event) -> None:
        """Receive until `stop`, then finish what is in hand; raises what broke the session."""
        assert self._subscription is not None
        stopped = asyncio.ensure_future(stop.wait())
        room = asyncio.ensure_future(self._room.acquire())
        try:
            while await self._first(room, stopped):
                # Never cancelled: the client would drop the message it was about to give.
                self._receiving = asyncio.ensure_future(self._subscription.receive())
                if not await self._first(self._receiving, stopped):
                    break
                self._dispatch(self._receiving.result())
                room = asyncio.ensure_future(self._room.acquire())
            if self._workers:
                pending: set[asyncio.Future[None]] = {*self._workers}
                await asyncio.wait(pending, timeout=self._options.stop_grace_s)
        finally:
            stopped.cancel()
            room.cancel()

    async def close(self) -> None:
        """Drop what is in hand; it will be delivered again. Handlers end before this returns."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        for end in (self._subscription, self._dead_letters):
            if end is not None:
                await end.close()
        if self._receiving is not None:
            await asyncio.gather(self._receiving, return_exceptions=True)
        if self._broken.done():
            self._broken.exception()  # seen
        self._stats.n_in_flight = 0

    async def _first(self, wanted: asyncio.Future[Any], stopped: asyncio.Future[Any]) -> bool:
        """Wait for `wanted`; False if stopped before, raises if the session broke."""
        await asyncio.wait({wanted, stopped, self._broken}, return_when="FIRST_COMPLETED")
        if self._broken.done():
            self._broken.result()
        return wanted.done()

    def _dispatch(self, message: InMessage) -> None:
        self._stats.n_received += 1
        self._stats.n_in_flight += 1
        key = "" if self._in_one_lane else message.key
        lane = self._lanes.get(key)
        if lane is not None:
            lane.append(message)
            return
        self._lanes[key] = deque([message])
        worker = asyncio.create_task(self._run_lane(key))
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def _run_lane(self, key: str) -> None:
        lane = self._lanes[key]
        try:
            while lane:
                await self._settle(lane.popleft())
                self._stats.n_in_flight -= 1
                self._room.release()
            del self._lanes[key]
        except Exception as error:
            if not self._broken.done():
                self._broken.set_exception(error)

    async def _settle(self, message: InMessage) -> None:
        """Handle one message, whatever that takes, and acknowledge it."""
        assert self._subscription is not None
        problem = self._problem(message)
        n_waits = 0
        n_attempts = 0
        while problem is None:
            try:
                crash_point("intake.before_handle")
                await self._handler(message)
                self._stats.n_handled += 1
                break
            except Exception as error:
                remedy = remedy_of(error)
                n_attempts += remedy is not Remedy.WAIT
                if remedy is Remedy.REFUSE or n_attempts >= self._options.n_attempts_max:
                    problem = error
                    break
                self._stats.n_retries += 1
                self._stats.last_error = f"{type(error).__name__}: {error}"
                await asyncio.sleep(self._options.backoff.delay_s(n_waits, self._rng))
                n_waits += 1
        if problem is not None:
            await self._bury(message, problem, n_attempts)
        crash_point("intake.before_acknowledge")
        await self._subscription.acknowledge(message)

    def _problem(self, message: InMessage) -> Exception | None:
        """What is wrong with a message before anybody looks into it."""
        for name in ("event_id", "event_type", "tenant_id"):
            if not message.properties.get(name):
                return Refused("PROPERTY_MISSING", f"the message has no property {name!r}")
        if message.n_redeliveries >= self._options.n_redeliveries_max:
            return Refused("REDELIVERED_TOO_OFTEN", f"delivered {message.n_redeliveries + 1} times")
        return None

    async def _bury(self, message: InMessage, error: Exception, n_attempts: int) -> None:
        """Store a copy with the reason on the dead-letter topic, before the original is let go."""
        assert self._dead_letters is not None
        reason = getattr(error, "reason", None) or type(error).__name__
        properties = {
            **message.properties,
            "dead_letter_reason": str(reason),
            "dead_letter_message": str(error)[:_REASON_LENGTH_MAX],
            "dead_letter_attempts": str(n_attempts),
            "dead_letter_topic": message.topic,
            "dead_letter_message_id": message.message_id,
            "dead_letter_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        letter = OutMessage(message.key, message.payload, properties, message.publish_time_ms)
        await self._dead_letters.send(letter)
        self._stats.n_dead_letters += 1
        _log.warning("%s: event %.64s refused: %s", message.topic, message.event_id, error)
        if self._on_dead_letter is not None:
            try:
                await self._on_dead_letter(message, error)
            except Exception:
                _log.exception("what a dead letter leads to failed")
