"""Delivers what waits for webhooks: at least once, and each portfolio's events in order.

Of all processes on a database one delivers at a time: the one that holds the lock of `leading`. The
others stand by.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import asyncpg
import structlog

from server.secret_keys import SecretKeys, SecretKeysError
from server.version import VERSION
from server.webhooks.body import body_of
from server.webhooks.post import Poster, PostError
from server.webhooks.secrets import opened
from server.webhooks.signature import signatures
from storage.events.backoff import Backoff
from storage.events.shard import traceparent_of
from storage.postgres import outbox, webhook_deliveries, webhooks
from storage.postgres.pool import Database
from storage.postgres.webhook_deliveries import QueuedEvent, Target

_log = structlog.get_logger(__name__)

GONE = 410
"""The receiver wants no more: the webhook is disabled at once."""
_DEADLINE_S = 10.0
_UNREADABLE_S = 10.0
"""How long a webhook rests whose secret can't be read, and how often the log says so."""


@dataclass(frozen=True)
class DispatcherOptions:
    """How a dispatcher goes about it."""

    poll_interval_s: float = 0.2
    n_batch_max: int = 32
    """Events of a webhook that are read at once."""
    n_posts_max: int = 8
    """Posts to a webhook at once, each of another portfolio."""
    backoff: Backoff = field(default_factory=lambda: Backoff(5.0, 3600.0))


class Dispatcher:
    """`run` with a connection that holds the lock, for as long as that lives."""

    def __init__(
        self,
        database: Database,
        poster: Poster,
        keys: SecretKeys,
        options: DispatcherOptions | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._database = database
        self._poster = poster
        self._keys = keys
        self._options = options or DispatcherOptions()
        self._rng = rng or random.Random()

    async def run(self, leader: asyncpg.Connection) -> None:
        """Delivers until the connection fails or the task is cancelled."""
        busy: dict[tuple[str, str], asyncio.Task[None]] = {}
        try:
            while True:
                for key in await webhook_deliveries.due(leader):
                    if key not in busy or busy[key].done():
                        busy[key] = asyncio.create_task(self._deliver(*key))
                await asyncio.sleep(self._options.poll_interval_s)
        finally:
            for task in busy.values():
                task.cancel()
            await asyncio.gather(*busy.values(), return_exceptions=True)

    async def _deliver(self, tenant_id: str, webhook_id: str) -> None:
        """Some of what waits for a webhook."""
        try:
            async with self._database.connection(tenant_id, deadline_s=_DEADLINE_S) as connection:
                target = await webhook_deliveries.target(connection, tenant_id, webhook_id)
                if target is None:
                    return
                target = self._readable(target)
                waiting = await webhook_deliveries.waiting(connection, target)
                events = await webhook_deliveries.oldest(
                    connection, target, limit=self._options.n_batch_max, but=waiting
                )
            streams: dict[str, list[QueuedEvent]] = {}
            for event in events:
                streams.setdefault(event.portfolio_id, []).append(event)
            gate = asyncio.Semaphore(self._options.n_posts_max)
            async with asyncio.TaskGroup() as group:
                for stream in streams.values():
                    group.create_task(self._stream(target, stream, gate))
        except SecretKeysError as error:
            _log.error("webhook not served", webhook_id=webhook_id, error=str(error))
            await asyncio.sleep(_UNREADABLE_S)
        except Exception as error:  # the next poll tries again; the others go on
            _log.warning("webhook not served", webhook_id=webhook_id, exc_info=error)

    def _readable(self, target: Target) -> Target:
        """With its secrets as they sign."""
        mine = (self._keys, target.tenant_id, target.webhook_id)
        return replace(target, secrets=tuple(opened(*mine, item) for item in target.secrets))

    async def _stream(
        self, target: Target, events: Sequence[QueuedEvent], gate: asyncio.Semaphore
    ) -> None:
        for event in events:
            async with gate:
                if not await self._one(target, event):
                    return

    async def _one(self, target: Target, event: QueuedEvent) -> bool:
        """Posts an event and notes what came of it; whether it was delivered."""
        status, error = 0, ""
        try:
            body = body_of(target, event)
            status = await self._poster.post(target.url, _headers(target, event, body), body)
        except PostError as failure:
            error = str(failure)[:500]
        if status and not 200 <= status < 300:
            error = f"answered {status}"
        retry_s = self._options.backoff.delay_s(event.attempts, self._rng) if error else None
        async with self._database.transaction(
            target.tenant_id, deadline_s=_DEADLINE_S
        ) as connection:
            await webhook_deliveries.note(
                connection, target, event.event_id, status=status, error=error, retry_s=retry_s
            )
            attempts = event.attempts + 1
            if error and (status == GONE or attempts >= target.attempts_max):
                why = f"event {event.event_id} failed {attempts} times; last: {error}"
                await self._disable(connection, target, why)
        return not error

    async def _disable(self, connection: asyncpg.Connection, target: Target, why: str) -> None:
        from server.observability.alerts import (  # brings JAX, which a post doesn't need
            WARNING,
            alert,
        )

        await webhooks.update(
            connection,
            target.tenant_id,
            target.webhook_id,
            is_enabled=False,
            disable_reason=why,
            author="service",
        )
        text = (
            f"webhook {target.webhook_id} is disabled: {why}. Enable it when its receiver answers"
        )
        event = alert(WARNING, "WEBHOOK_DISABLED", text, f"webhook:{target.webhook_id}")
        await outbox.append(connection, target.tenant_id, "", [event])


def _headers(target: Target, event: QueuedEvent, body: bytes) -> Mapping[str, str]:
    now, event_id = int(time.time()), str(event.event_id)
    traceparent = traceparent_of(event.trace_id)
    return {
        "user-agent": f"position-sizing/{VERSION}",
        "webhook-id": event_id,
        "webhook-timestamp": str(now),
        "webhook-signature": signatures(target.secrets, event_id, now, body),
        **({"traceparent": traceparent} if traceparent else {}),
    }
