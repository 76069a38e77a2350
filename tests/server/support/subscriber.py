"""Who sends to topics and reads them as their subscribers do."""

import asyncio
from typing import Any
from uuid import uuid4

from google.protobuf.message import Message
from positionsizing.v1 import events_pb2

from storage.events.client import PulsarBroker
from storage.events.ports import InMessage, OutMessage, Producer, Sharing, Subscription

PATIENCE_S = 60.0


class Subscriber:
    """Reads topics until something wanted comes; a topic is read once, from its first message."""

    def __init__(self, broker: PulsarBroker) -> None:
        self.broker = broker
        self._open: dict[str, Subscription] = {}

    async def wait_for(self, topic: str, name: str, wanted: Any) -> tuple[InMessage, Any]:
        """The next message of a type for which `wanted` holds, with its payload."""
        while True:
            message = await self.next(topic, "reporting")
            event = getattr(events_pb2, message.event_type).FromString(message.payload)
            if message.event_type == name and wanted(event):
                return message, event

    async def letter(self, topic: str, event_id: str) -> InMessage:
        """The next dead letter of a topic that is the event."""
        while True:
            message = await self.next(f"{topic}-dead-letter", "operators")
            if message.event_id == event_id:
                return message

    async def next(self, topic: str, subscription: str) -> InMessage:
        """The next message of a topic."""
        if topic not in self._open:
            sharing = Sharing.ONE_AT_A_TIME
            self._open[topic] = await self.broker.subscribe(topic, subscription, sharing)
        async with asyncio.timeout(PATIENCE_S):
            message = await self._open[topic].receive()
            await self._open[topic].acknowledge(message)
            return message


class Sender:
    """Sends events as the contract says, and otherwise where a test wants it."""

    def __init__(self, broker: PulsarBroker, tenant_id: str) -> None:
        self._broker = broker
        self._tenant_id = tenant_id
        self._open: dict[str, Producer] = {}

    async def send(
        self, topic: str, key: str, event: Message, event_id: str = "", **properties: str | None
    ) -> str:
        """The event's id. A property that is None is left out."""
        event_id = event_id or str(uuid4())
        given = {
            "event_id": event_id,
            "event_type": event.DESCRIPTOR.name,
            "schema_version": "1",
            "tenant_id": self._tenant_id,
            "trace_id": f"trace-{event_id}",
            **properties,
        }
        known = {name: value for name, value in given.items() if value is not None}
        await self.publish(topic, OutMessage(key, event.SerializeToString(), known))
        return event_id

    @property
    def topics(self) -> set[str]:
        """Those that something was sent to."""
        return set(self._open)

    async def publish(self, topic: str, message: OutMessage) -> None:
        """A message as it is."""
        if topic not in self._open:
            self._open[topic] = await self._broker.open_producer(topic)
        await self._open[topic].send(message)
