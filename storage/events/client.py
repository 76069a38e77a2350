"""A connection to Apache Pulsar: what `ports.py` asks of a broker, by the official client.

Producers send unbatched: under a batch the broker keeps one sequence id for many messages, and
with batches by key it took repetitions for new (measured: 100 of 500 repeated messages stored
twice). Sends are pipelined, so a durable send is not a round trip each. A message beyond the
broker's limit (5 MB) travels in chunks.
"""

import asyncio
import contextlib
import re
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pulsar
import pulsar.asyncio

from storage.errors import is_foreign_cancellation
from storage.events.ports import (
    BrokerUnavailable,
    InMessage,
    OutMessage,
    ProducerNameTaken,
    Sharing,
    short_topic,
)

TENANT = "{tenant}"
"""In a namespace: the id of one of our tenants."""
_NAMESPACE = re.compile(r"[-=:.\w]*(\{tenant\})?[-=:.\w]*")
_CLOSE_TIMEOUT_S = 2.0
_TYPES = {
    Sharing.BY_KEY: pulsar.ConsumerType.KeyShared,
    Sharing.ONE_AT_A_TIME: pulsar.ConsumerType.Failover,
}


@dataclass(frozen=True, kw_only=True)
class BrokerConfig:
    """Where the broker is and who we are there.

    Usage: `BrokerConfig(service_url="pulsar+ssl://broker:6651", token_file="/run/secrets/pulsar")`.
    A token file is read again for each connection, so a token can be rotated without a restart.
    """

    service_url: str
    """`pulsar://host:port`, or `pulsar+ssl://` for TLS; several hosts by commas."""
    admin_url: str = ""
    """`http(s)://host:port` of the admin API; empty: `topics.ensure` can't be called."""
    tenant: str = "public"
    """The broker's, not ours."""
    namespace: str = "sizing"
    """With `{tenant}` in it each of our tenants has one of its own, in which that is its id."""
    tls_trust_file: str = ""
    """PEM file of the authorities to trust; empty: those of the `certifi` package."""
    token: str = field(default="", repr=False)
    token_file: str = ""
    listener_name: str = ""
    """Which of the broker's advertised listeners to use; empty: its default."""
    send_timeout_s: float = 10.0
    operation_timeout_s: int = 10
    log_file: str = "/dev/stderr"
    """Where the client library writes its warnings."""

    def __post_init__(self) -> None:
        if not self.service_url.startswith(("pulsar://", "pulsar+ssl://")):
            raise ValueError(
                f"service_url must begin with pulsar:// or pulsar+ssl://, is {self.service_url!r}"
            )
        if self.token and self.token_file:
            raise ValueError("give a token or a token_file, not both")
        if not (self.tenant and self.namespace):
            raise ValueError("tenant and namespace must not be empty")
        if not _NAMESPACE.fullmatch(self.namespace):
            raise ValueError(
                f"namespace may have letters, digits and -=:._ and once {TENANT}, "
                f"is {self.namespace!r}"
            )

    def read_token(self) -> str:
        """The token as of now; empty if none is configured. Errors: OSError."""
        return Path(self.token_file).read_text().strip() if self.token_file else self.token

    @property
    def has_namespace_a_tenant(self) -> bool:
        """Whether each of our tenants has a namespace of its own."""
        return TENANT in self.namespace

    def of_tenant(self, tenant_id: str) -> "BrokerConfig":
        """The same in the namespace of one of our tenants."""
        return replace(self, namespace=self.namespace.replace(TENANT, tenant_id))

    def topic(self, name: str) -> str:
        """The full name of a topic, such as persistent://public/sizing/signals.

        name: short, with the tenant before it (`tenant_topic`) where each has a namespace.
        """
        tenant_id, _, short = name.rpartition("/")
        if self.has_namespace_a_tenant != bool(tenant_id):
            raise ValueError(f"{name}: a tenant belongs before it where each has a namespace")
        return f"persistent://{self.tenant}/{self.of_tenant(tenant_id).namespace}/{short}"


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except pulsar.asyncio.PulsarException as error:
        taken = error.error() == pulsar.Result.ProducerBusy
        kind = ProducerNameTaken if taken else BrokerUnavailable
        raise kind(f"{what}: {error}") from error
    except asyncio.CancelledError as error:
        if not is_foreign_cancellation(error):
            raise
        raise BrokerUnavailable(f"{what}: given up by the client") from error


class PulsarBroker:
    """The `Broker` of `ports.py`. The client library reconnects by itself below it."""

    def __init__(self, config: BrokerConfig) -> None:
        """Connects when first used, so a broker that is away now is no error."""
        self._config = config
        self._unwanted: set[asyncio.Task[None]] = set()
        authentication = None
        if config.token or config.token_file:
            authentication = pulsar.AuthenticationToken(config.read_token)
        self._client = pulsar.asyncio.Client(
            config.service_url,
            authentication=authentication,
            operation_timeout_seconds=config.operation_timeout_s,
            connection_timeout_ms=5000,
            tls_trust_certs_file_path=config.tls_trust_file or None,
            tls_validate_hostname=True,
            listener_name=config.listener_name or None,
            stats_interval_in_seconds=0,
            logger=pulsar.FileLogger(pulsar.LoggerLevel.Warn, config.log_file),
        )

    def __repr__(self) -> str:
        return f"PulsarBroker({self._config!r})"

    async def open_producer(self, topic: str, name: str | None = None) -> "PulsarProducer":
        """See `Broker`. Errors: `BrokerUnavailable`, also while another holds the name."""
        with _translated(f"open a producer of {topic}"):
            producer = await self._opened(
                self._client.create_producer(
                    self._config.topic(topic),
                    producer_name=name,
                    batching_enabled=False,
                    chunking_enabled=True,
                    max_pending_messages=0,  # a full queue would refuse one and take the next
                    send_timeout_millis=round(self._config.send_timeout_s * 1000),
                )
            )
        return PulsarProducer(producer, topic)

    async def subscribe(
        self, topic: str, subscription: str, sharing: Sharing
    ) -> "PulsarSubscription":
        """See `Broker`. A new subscription begins with the oldest message there is."""
        with _translated(f"subscribe to {topic}"):
            consumer = await self._opened(
                self._client.subscribe(
                    self._config.topic(topic),
                    subscription,
                    consumer_type=_TYPES[sharing],
                    initial_position=pulsar.InitialPosition.Earliest,
                    receiver_queue_size=100,
                )
            )
        return PulsarSubscription(consumer, short_topic(topic))

    async def close(self) -> None:
        """Close everything opened here. Does not raise."""
        if self._unwanted:
            await asyncio.wait(self._unwanted, timeout=_CLOSE_TIMEOUT_S)
        await _close_quietly(self._client)

    async def _opened(self, opening: Coroutine[Any, Any, Any]) -> Any:
        """What `opening` makes. If this call is cancelled it is closed as soon as it is there.

        The library goes on opening and drops what nobody waits for without telling the broker,
        which then keeps the producer, and its name, for as long as the connection lives.
        """
        task = asyncio.ensure_future(opening)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            leaving = asyncio.create_task(_leave(task), name="close what nobody waits for")
            self._unwanted.add(leaving)
            leaving.add_done_callback(self._unwanted.discard)
            raise


class PulsarProducer:
    """The `Producer` of `ports.py`."""

    def __init__(self, producer: "pulsar.asyncio.Producer", topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._last = int(producer.last_sequence_id())

    @property
    def last_sequence_id(self) -> int:
        """See `Producer`."""
        return self._last

    async def send(self, message: OutMessage, sequence_id: int | None = None) -> None:
        """See `Producer`. Errors: `BrokerUnavailable`, the message then may be stored or not."""
        with _translated(f"send to {self._topic}"):
            await self._producer.send(
                message.payload,
                properties=dict(message.properties),
                partition_key=message.key or None,
                sequence_id=sequence_id,
                event_timestamp=message.event_time_ms or None,
            )

    async def close(self) -> None:
        """See `Producer`."""
        await _close_quietly(self._producer)


class PulsarSubscription:
    """The `Subscription` of `ports.py`."""

    def __init__(self, consumer: "pulsar.asyncio.Consumer", topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    async def receive(self) -> InMessage:
        """See `Subscription`. Don't cancel it: the message it is about to get would be withheld."""
        with _translated(f"receive from {self._topic}"):
            message = await self._consumer.receive()
        return InMessage(
            topic=self._topic,
            key=message.partition_key(),
            payload=message.data(),
            properties=message.properties(),
            message_id=str(message.message_id()),
            n_redeliveries=message.redelivery_count(),
            publish_time_ms=message.publish_timestamp(),
            handle=message,
        )

    async def acknowledge(self, message: InMessage) -> None:
        """See `Subscription`. Errors: `BrokerUnavailable`, it may then be delivered again."""
        with _translated(f"acknowledge on {self._topic}"):
            await self._consumer.acknowledge(message.handle)

    async def close(self) -> None:
        """See `Subscription`."""
        await _close_quietly(self._consumer)


async def _leave(opening: "asyncio.Task[Any]") -> None:
    with contextlib.suppress(pulsar.asyncio.PulsarException, asyncio.CancelledError):
        await _close_quietly(await opening)


async def _close_quietly(end: Any) -> None:
    """Close within a bound: on a dead connection the library would wait for its own timeout."""
    with contextlib.suppress(pulsar.asyncio.PulsarException, TimeoutError):
        await asyncio.wait_for(end.close(), _CLOSE_TIMEOUT_S)
