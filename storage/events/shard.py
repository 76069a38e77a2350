"""Publishing one shard's events: in order, under sequence ids the broker tells repetitions by.

A producer named after the shard publishes to each topic with rising sequence ids. The broker keeps
the highest it has stored, L, and drops what comes at or below it. Dropping a repetition is what we
want; dropping anything else would lose an event. So ids are chosen by one rule, topic by topic:

    an event that was never sent gets an id above L and above every id given before;
    an event that may have been sent keeps its id, as long as that was the highest of ours or
    above what the broker has; if there is any doubt, all of the topic's events get new ids.

New ids in doubt may put an event on the topic twice, with one event id; they never lose one.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise

from storage.events.ports import Broker, BrokerUnavailable, OutMessage, Producer, short_topic
from storage.postgres.outbox import OutboxEvent

CONTENT_TYPE = "application/x-protobuf"
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


AroundSend = Callable[[str, str], AbstractContextManager[object]]


def untraced(topic: str, trace_id: str) -> AbstractContextManager[object]:
    """Around sending an event where nobody traces it."""
    del topic, trace_id
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event and the sequence id it is sent under; None: not chosen yet."""

    event: OutboxEvent
    sequence_id: int | None = None


@dataclass(slots=True)
class _Lane:
    """An open producer of one topic."""

    producer: Producer
    last: int  # the highest sequence id given or stored


def traceparent_of(trace_id: str) -> str:
    """A trace as a W3C trace context; empty where it is none."""
    return trace_id if _TRACEPARENT.fullmatch(trace_id) else ""


def message_of(event: OutboxEvent) -> OutMessage:
    """The message of an event: its payload, key and properties as the contract has them.

    The key is the portfolio; events of the tenant as a whole have the tenant as their key.
    """
    traceparent = traceparent_of(event.trace_id)
    traced = {"traceparent": traceparent} if traceparent else {}
    return OutMessage(
        key=event.portfolio_id or event.tenant_id,
        payload=event.payload,
        properties={
            "event_id": str(event.event_id),
            "event_type": event.type,
            "schema_version": str(event.schema_version),
            "tenant_id": event.tenant_id,
            "portfolio_sequence": str(event.portfolio_sequence),
            "trace_id": event.trace_id,
            "content_type": CONTENT_TYPE,
            **traced,
        },
        event_time_ms=int(event.create_time.timestamp() * 1000),
    )


class ShardPublisher:
    """The producers of one shard, opened as topics turn up, closed together.

    All have one name, of the shard and of an epoch: `sizing-relay-4`, `sizing-relay-4.1`, ...
    """

    def __init__(
        self,
        broker: Broker,
        shard_name: str,
        epoch: int = 0,
        around_send: AroundSend = untraced,
    ) -> None:
        self._around_send = around_send
        self._broker = broker
        self._name = shard_name if epoch == 0 else f"{shard_name}.{epoch}"
        self._lanes: dict[str, _Lane] = {}

    async def number(
        self, batch: Sequence[Numbered]
    ) -> tuple[list[Numbered], dict[str, BrokerUnavailable]]:
        """The batch with a sequence id for every event, by the rule above, and what went wrong.

        The events of a topic whose producer can't be opened, for example while a predecessor still
        holds its name, stay as they are.
        """
        numbered = list(batch)
        topics = list(dict.fromkeys(row.event.topic for row in batch))
        opened = await asyncio.gather(*(self._open(topic) for topic in topics))
        errors = {
            topic: error for topic, error in zip(topics, opened, strict=True) if error is not None
        }
        for topic in [topic for topic in topics if topic not in errors]:
            lane = self._lanes[topic]
            places = [i for i, row in enumerate(batch) if row.event.topic == topic]
            ids = [batch[i].sequence_id for i in places]
            if _may_be_kept(ids, lane.last):
                lane.last = max(lane.last, *(id for id in ids if id is not None))
                continue
            for i in places:
                lane.last += 1
                numbered[i] = replace(batch[i], sequence_id=lane.last)
        return numbered, errors

    async def publish(
        self, batch: Sequence[Numbered]
    ) -> tuple[list[Numbered], list[Numbered], dict[str, BrokerUnavailable]]:
        """Send a numbered batch: what the broker has, what has to be sent again, errors by topic.

        A topic that failed is opened anew next time. Where a later event of a topic is stored and
        an earlier one isn't, the earlier ones lose their ids: the broker would drop them.
        """
        sends = [self._send(row) for row in batch]
        errors = await asyncio.gather(*sends)
        stored = [row for row, error in zip(batch, errors, strict=True) if error is None]
        failed = [row for row, error in zip(batch, errors, strict=True) if error is not None]
        broken = {
            row.event.topic: error
            for row, error in zip(batch, errors, strict=True)
            if error is not None
        }
        await self._close(broken)
        highest: dict[str, int] = {}
        for row in stored:
            highest[row.event.topic] = max(_id(row), highest.get(row.event.topic, -1))
        again = [
            replace(row, sequence_id=None) if _id(row) < highest.get(row.event.topic, -1) else row
            for row in failed
        ]
        return stored, again, broken

    async def close(self) -> None:
        """Close all producers; their names are free for the shard's next relay."""
        await self._close(list(self._lanes))

    async def _send(self, row: Numbered) -> BrokerUnavailable | None:
        try:
            producer = self._lanes[row.event.topic].producer
            with self._around_send(short_topic(row.event.topic), row.event.trace_id):
                await producer.send(message_of(row.event), row.sequence_id)
        except BrokerUnavailable as error:
            return error
        return None

    async def _open(self, topic: str) -> BrokerUnavailable | None:
        if topic not in self._lanes:
            try:
                producer = await self._broker.open_producer(topic, self._name)
            except BrokerUnavailable as error:
                return error
            self._lanes[topic] = _Lane(producer, producer.last_sequence_id)
        return None

    async def _close(self, topics: Iterable[str]) -> None:
        lanes = [self._lanes.pop(topic) for topic in topics]
        await asyncio.gather(*(lane.producer.close() for lane in lanes))


def _may_be_kept(ids: Sequence[int | None], last: int) -> bool:
    """Whether ids chosen earlier are still right, `last` being the highest given or stored.

    They must all be there and rise; and if `last` is beyond them, something else was published
    under this name since they were noted (a database restored from a backup, for example).
    """
    known = [id for id in ids if id is not None]
    rising = all(a < b for a, b in pairwise(known))
    return len(known) == len(ids) and rising and last <= known[-1]


def _id(row: Numbered) -> int:
    assert row.sequence_id is not None, "published without a sequence id"
    return row.sequence_id
