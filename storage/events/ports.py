"""What the relay and the consumer need of a broker and a database, and nothing more.

Failures of a broker are `BrokerUnavailable`: whatever was under way may or may not have happened.
"""

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from storage.errors import Unavailable
from storage.postgres.outbox import OutboxEvent

__all__ = [
    "Broker",
    "BrokerUnavailable",
    "InMessage",
    "OutMessage",
    "Outbox",
    "Producer",
    "ProducerNameTaken",
    "Sharing",
    "Subscription",
    "short_topic",
    "tenant_topic",
]


def tenant_topic(tenant_id: str, topic: str) -> str:
    """What a topic is called here where each tenant has a namespace: acme/signals."""
    return f"{tenant_id}/{topic}"


def short_topic(name: str) -> str:
    """The topic without its tenant."""
    return name.rpartition("/")[2]


class BrokerUnavailable(Unavailable):
    """The broker can't be reached or refuses; the same call may succeed later."""

    reason = "BROKER_UNAVAILABLE"


class ProducerNameTaken(BrokerUnavailable):
    """Another producer of the topic has the name, or the broker believes so."""

    reason = "PRODUCER_NAME_TAKEN"


class Sharing(enum.Enum):
    """How the replicas of one subscriber share its messages."""

    BY_KEY = "Key_Shared"
    """Each key goes to one replica at a time, in order; the keys are spread over all replicas."""
    ONE_AT_A_TIME = "Failover"
    """One replica gets everything in order; another takes over when it goes."""


@dataclass(frozen=True, slots=True)
class OutMessage:
    """A message to be published."""

    key: str
    payload: bytes
    properties: Mapping[str, str]
    event_time_ms: int = 0
    """When what it tells happened, milliseconds since 1970; 0 says nothing."""


@dataclass(frozen=True, slots=True)
class InMessage:
    """A message as received. `handle` is the broker's own and means nothing to others."""

    topic: str
    key: str
    payload: bytes
    properties: Mapping[str, str]
    message_id: str
    n_redeliveries: int = 0
    publish_time_ms: int = 0
    handle: object = None

    @property
    def event_id(self) -> str:
        """The event's identity, the same in every delivery; "" if the sender gave none."""
        return self.properties.get("event_id", "")

    @property
    def event_type(self) -> str:
        """Name of the protobuf message in the payload; "" if the sender gave none."""
        return self.properties.get("event_type", "")

    @property
    def tenant_id(self) -> str:
        """Whom it belongs to; "" if the sender gave none."""
        return self.properties.get("tenant_id", "")

    @property
    def trace_id(self) -> str:
        """The trace it continues; empty also for what can be none."""
        text = self.properties.get("trace_id") or self.properties.get("traceparent", "")
        return text if text.isprintable() and len(text) <= 128 else ""


class Producer(Protocol):
    """An open way to one topic, under a name no other producer has there."""

    @property
    def last_sequence_id(self) -> int:
        """The highest sequence id this name had published when it was opened, -1 for none."""

    async def send(self, message: OutMessage, sequence_id: int | None = None) -> None:
        """Publish; returns when it is stored. Calls are stored in the order they were made.

        A sequence id at or below the highest stored is taken for a repetition: acknowledged and
        not stored again. None leaves the numbering to the producer.
        """

    async def close(self) -> None:
        """Give the name back. Does not raise."""


class Subscription(Protocol):
    """A consumer's place in a topic."""

    async def receive(self) -> InMessage:
        """The next message, however long that takes. One call at a time."""

    async def acknowledge(self, message: InMessage) -> None:
        """Never deliver this message again."""

    async def close(self) -> None:
        """Leave; messages not acknowledged go to another replica. Does not raise."""


class Broker(Protocol):
    """A connection to a broker."""

    async def open_producer(self, topic: str, name: str | None = None) -> Producer:
        """Open a producer for a topic by its short name. Errors: also `ProducerNameTaken`.

        If the call is cancelled, a producer that comes of it is closed.
        """

    async def subscribe(self, topic: str, subscription: str, sharing: Sharing) -> Subscription:
        """Take part in a durable subscription of a topic by its short name."""


class Outbox(Protocol):
    """The outbox as seen by one relay, over a session of its own that holds its shards."""

    async def open(self) -> None:
        """Begin a session; whatever shards an earlier one held are no longer held."""

    async def close(self) -> None:
        """End the session and with it every claim. Does not raise."""

    async def n_relays(self) -> int:
        """How many relays work on this outbox, this one included."""

    async def claim_shard(self, shard: int) -> bool:
        """Take a shard, unless another relay has it. Don't take one twice."""

    async def release_shard(self, shard: int) -> None:
        """Give a shard back."""

    async def waiting(self, shards: Collection[int]) -> list[int]:
        """Those of `shards` in which an event waits."""

    async def oldest(
        self, shard: int, limit: int, except_topics: Collection[str] = ()
    ) -> list[OutboxEvent]:
        """The head of a shard without some topics, each portfolio's events in order."""

    async def load_batch(self, shard: int) -> list[tuple[OutboxEvent, int]]:
        """What the last relay of this shard was sending and had not deleted."""

    async def name_epoch(self, shard: int) -> int:
        """Which of a shard's producer names is in use, counted from 0."""

    async def next_name(self, shard: int) -> int:
        """Give up the shard's producer name and the noted batch with it; the next one's epoch."""

    async def save_batch(self, shard: int, batch: Sequence[tuple[OutboxEvent, int]]) -> None:
        """Note what is about to be sent, with sequence ids."""

    async def delete(self, events: Sequence[OutboxEvent]) -> None:
        """Remove events the broker has."""
