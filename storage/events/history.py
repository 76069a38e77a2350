"""What is still on topics, read from the oldest or from a time on, without a subscription."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from uuid import uuid4

import pulsar

from storage.events.client import BrokerConfig
from storage.events.ports import BrokerUnavailable, InMessage, tenant_topic
from storage.events.topics import OUTGOING, tenant_ids

_TIMEOUT_MS = 30_000


def published_topics(config: BrokerConfig, known: Collection[str]) -> list[str]:
    """Every topic that this service publishes to, as `read` takes them. Blocks.

    known: the tenants that the database has. Where each has a namespace, a broker whose admin API
    can be asked says itself whose there are: of tenants too that the database doesn't have any
    more. Errors: `StorageError`, OSError.
    """
    names = [topic.name for topic in OUTGOING]
    if not config.has_namespace_a_tenant:
        return names
    found = tenant_ids(config) if config.admin_url else known
    return [tenant_topic(tenant_id, name) for tenant_id in found for name in names]


def read(
    config: BrokerConfig,
    topics: Sequence[str],
    take: Callable[[InMessage], None],
    *,
    since: datetime | None = None,
) -> None:
    """Hands every message to `take`, topic by topic, up to the newest when it was asked. Blocks.

    since: by the time of publishing; None: all that retention has kept. A topic that isn't there
    has none. Errors: `BrokerUnavailable`.
    """
    authentication = None
    if config.token or config.token_file:
        authentication = pulsar.AuthenticationToken(config.read_token())
    client = pulsar.Client(
        config.service_url,
        authentication=authentication,
        operation_timeout_seconds=config.operation_timeout_s,
        tls_trust_certs_file_path=config.tls_trust_file or None,
        tls_validate_hostname=True,
        listener_name=config.listener_name or None,
        logger=pulsar.FileLogger(pulsar.LoggerLevel.Warn, config.log_file),
    )
    try:
        for topic in topics:
            for part in client.get_topic_partitions(config.topic(topic)):
                _read_one(client, part, topic, take, since)
    except pulsar.PulsarException as error:
        raise BrokerUnavailable(f"read what was published: {error}") from error
    finally:
        client.close()


def _read_one(
    client: pulsar.Client,
    full_name: str,
    topic: str,
    take: Callable[[InMessage], None],
    since: datetime | None,
) -> None:
    if not _has_any(client, full_name, since):
        return
    # By a consumer, since a reader never comes to the end after a message in chunks.
    subscription = f"recover-{uuid4()}"
    consumer = _subscribe(client, full_name, subscription)
    try:
        if since is not None:
            consumer.seek(_milliseconds(since))
            # A consumer that had received some chunks of a message before it moved leaves out
            # those chunks when they come again, and the message with them. A new one has none.
            consumer.close()
            consumer = _subscribe(client, full_name, subscription)
        last = _place(consumer.get_last_message_id())
        while True:
            message = consumer.receive(_TIMEOUT_MS)
            take(
                InMessage(
                    topic=topic,
                    key=message.partition_key(),
                    payload=message.data(),
                    properties=message.properties(),
                    message_id=str(message.message_id()),
                    publish_time_ms=message.publish_timestamp(),
                )
            )
            consumer.acknowledge(message)
            if _place(message.message_id()) >= last:
                return
    finally:
        consumer.unsubscribe()
        consumer.close()


def _subscribe(client: pulsar.Client, full_name: str, subscription: str) -> pulsar.Consumer:
    return client.subscribe(
        full_name, subscription, initial_position=pulsar.InitialPosition.Earliest
    )


def _has_any(client: pulsar.Client, full_name: str, since: datetime | None) -> bool:
    """Whether there is a message, from that time on."""
    reader = client.create_reader(full_name, pulsar.MessageId.earliest)
    try:
        if since is not None:
            reader.seek(_milliseconds(since))
        return bool(reader.has_message_available())
    finally:
        reader.close()


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _place(message_id: pulsar.MessageId) -> tuple[int, int]:
    return message_id.ledger_id(), message_id.entry_id()
