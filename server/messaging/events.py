"""Events of one server process: the relay that publishes, the consumers that take in.

With no broker configured neither runs: events wait in the outbox and nothing else changes. How long
the oldest has waited is measured in any case.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from server.config import Config, ConfigError
from server.messaging.ingest import Intake
from server.observability import tracing
from server.observability.alerts import Alerts
from server.observability.telemetry import Telemetry
from storage.errors import StorageError
from storage.events.client import BrokerConfig
from storage.events.consumer import Receiver
from storage.events.ports import InMessage
from storage.events.relay import RelayOptions
from storage.events.streams import EVERYBODY, EventStreams
from storage.events.topics import INCOMING
from storage.postgres import outbox, tenants
from storage.postgres.pool import Database
from storage.postgres.tenancy import ALL_TENANTS

_log = structlog.get_logger(__name__)

_AGE_INTERVAL_S = 1.0
_DEADLINE_S = 2.0


def broker_config(config: Config) -> BrokerConfig | None:
    """The broker of this process, None where none is configured. Raises `ConfigError`."""
    if config.pulsar_url is None:
        return None
    try:
        return BrokerConfig(
            service_url=config.pulsar_url,
            admin_url=config.pulsar_admin_url or "",
            tenant=config.pulsar_tenant,
            namespace=config.pulsar_namespace,
            tls_trust_file=str(config.pulsar_trust_file or ""),
            token=config.pulsar_token.get_secret_value() if config.pulsar_token else "",
            token_file=str(config.pulsar_token_file or ""),
        )
    except ValueError as error:
        raise ConfigError(f"pulsar: {error}") from error


class Events:
    """The streams of a process, or nothing where no broker is configured."""

    def __init__(self, config: Config, telemetry: Telemetry) -> None:
        self._config = broker_config(config)
        self._tenant_id = config.tenant_id
        self._telemetry = telemetry
        self._streams: EventStreams | None = None
        self._age: asyncio.Task[None] | None = None
        self.oldest_age_s = 0.0
        """Seconds the oldest event has waited, when it was last measured."""

    def wake(self) -> None:
        """Says that events have been committed."""
        if self._streams is not None:
            self._streams.wake()

    def start(self, database: Database, intake_of: Callable[[str], Intake]) -> None:
        """Begins to publish and to take in; a broker that is away is waited for.

        intake_of: what takes in the messages of a tenant.
        """
        alerts = Alerts(database, self._tenant_id)
        if self._config is None:
            _log.info("no broker configured: events wait in the outbox")
        else:
            self._streams = self._started(self._config, database, intake_of, alerts)
        self._telemetry.watch(
            "sizing_outbox_oldest_age_seconds",
            "How long the oldest event has waited to be published.",
            lambda: self.oldest_age_s,
        )
        self._age = asyncio.create_task(self._watch_age(database, alerts), name="outbox age")

    async def stop(self) -> None:
        """Finishes what is in hand, then closes the broker's connection."""
        if self._age is not None:
            self._age.cancel()
        if self._streams is not None:
            await self._streams.stop()

    def _started(
        self,
        config: BrokerConfig,
        database: Database,
        intake_of: Callable[[str], Intake],
        alerts: Alerts,
    ) -> EventStreams:
        if not config.admin_url:
            _log.warning("no SIZING_PULSAR_ADMIN_URL: topics have to be there already")

        def receiver_of(tenant_id: str) -> Receiver:
            is_ours = tenant_id == EVERYBODY
            intake = intake_of(self._tenant_id if is_ours else tenant_id)
            to = alerts if is_ours else Alerts(database, tenant_id)

            async def on_dead_letter(message: InMessage, error: Exception) -> None:
                await intake.given_up(message, error)
                await to.dead_letter(message, error)

            return Receiver(intake.handlers, on_dead_letter)

        tenant_ids = partial(tenants.list_ids, database, deadline_s=_DEADLINE_S)
        streams = EventStreams(
            config,
            database.dsn,
            receiver_of,
            tenant_ids=tenant_ids if config.has_namespace_a_tenant else None,
            relay_options=RelayOptions(around_send=tracing.publishing),
        )
        streams.start()
        stats, count = streams.relay.stats, self._telemetry.count
        count("sizing_events_published_total", "Events published.", lambda: stats.n_published)
        count(
            "sizing_producer_names_taken_total",
            "Producers not opened because the broker had their name already.",
            lambda: stats.n_names_taken,
        )
        count(
            "sizing_producer_names_given_up_total",
            "Producer names the broker did not free and that were replaced.",
            lambda: stats.n_names_given_up,
        )
        for topic in INCOMING:
            handled = partial(streams.handled, topic.name)
            dead = partial(streams.dead_letters, topic.name)
            count("sizing_messages_handled_total", "Messages handled.", handled, topic=topic.name)
            count("sizing_dead_letters_total", "Messages given up.", dead, topic=topic.name)
        return streams

    async def _watch_age(self, database: Database, alerts: Alerts) -> None:
        """Apart from the relay, which does not run while a broker is waited for."""
        while True:
            await asyncio.sleep(_AGE_INTERVAL_S)
            try:
                async with database.connection(ALL_TENANTS, deadline_s=_DEADLINE_S) as connection:
                    self.oldest_age_s = await outbox.oldest_age_s(connection)
                if self._streams is not None:
                    await alerts.look_at_lag(self.oldest_age_s, self._streams.relay)
            except StorageError:
                continue  # whoever needs the database says so
            except Exception as error:  # a bug of ours must not end it for good
                _log.error("the age of the outbox is unknown", exc_info=error)
