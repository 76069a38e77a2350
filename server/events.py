"""Events of one server process: the relay that publishes, the consumers that take in.

With no broker configured neither runs: events wait in the outbox and nothing else changes.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

import structlog

from server.alerts import Alerts
from server.config import Config
from server.telemetry import Telemetry
from storage.events.client import BrokerConfig
from storage.events.consumer import Handler
from storage.events.streams import EventStreams
from storage.postgres.pool import Database

_log = structlog.get_logger(__name__)


def broker_config(config: Config) -> BrokerConfig | None:
    """The broker of this process, None where none is configured."""
    if config.pulsar_url is None:
        return None
    return BrokerConfig(
        service_url=config.pulsar_url,
        admin_url=config.pulsar_admin_url or "",
        tenant=config.pulsar_tenant,
        namespace=config.pulsar_namespace,
        tls_trust_file=str(config.pulsar_trust_file or ""),
        token=config.pulsar_token.get_secret_value() if config.pulsar_token else "",
    )


class Events:
    """The streams of a process, or nothing where no broker is configured."""

    def __init__(self, config: Config, telemetry: Telemetry) -> None:
        self._config = broker_config(config)
        self._telemetry = telemetry
        self._streams: EventStreams | None = None
        self._lag: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Says that events have been committed."""
        if self._streams is not None:
            self._streams.wake()

    def start(self, database: Database, handlers: Mapping[str, Handler], tenant_id: str) -> None:
        """Begins to publish and to take in; a broker that is away is waited for."""
        if self._config is None:
            _log.info("no broker configured: events wait in the outbox")
            return
        alerts = Alerts(database, tenant_id)
        self._streams = EventStreams(
            self._config, database.dsn, handlers, on_dead_letter=alerts.dead_letter
        )
        self._streams.start()
        self._lag = asyncio.create_task(alerts.watch_lag(self._streams.relay), name="lag")
        stats, watch = self._streams.relay.stats, self._telemetry.watch
        watch("sizing_events_published", "Events published.", lambda: stats.n_published)
        watch("sizing_outbox_oldest_age_seconds", "Oldest event.", lambda: stats.oldest_age_s)
        for topic, consumer in self._streams.consumers.items():
            name = topic.replace("-", "_")
            handled = partial(getattr, consumer.stats, "n_handled")
            dead = partial(getattr, consumer.stats, "n_dead_letters")
            watch(f"sizing_{name}_handled", f"Messages of {topic} handled.", handled)
            watch(f"sizing_{name}_dead_letters", f"Messages of {topic} given up.", dead)

    async def stop(self) -> None:
        """Finishes what is in hand, then closes the broker's connection."""
        if self._lag is not None:
            self._lag.cancel()
        if self._streams is not None:
            await self._streams.stop()
