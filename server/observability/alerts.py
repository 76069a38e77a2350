"""Alert: what an operator should be told, few on purpose; `protos/README.md` lists them.

Where something is committed that is worth an alert, the alert goes into the same transaction. The
rest is noticed by a process and written as soon as the database takes it, or logged instead.
"""

import time
from datetime import UTC, datetime

import structlog

from server.convert.events import Severity, alert_event, alert_text
from storage.errors import StorageError
from storage.events.ports import InMessage
from storage.events.relay import Relay
from storage.postgres import outbox
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database

_log = structlog.get_logger(__name__)

INFO, WARNING, CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL

EXPIRED_MIN = 20
"""So many reservations expired at once mean that fills don't arrive."""
LAG_S, LAG_OVER_S = 60.0, 10.0
"""Events that wait longer are an episode of lag; it is over once they wait for less than that."""
DEAD_LETTER_PAUSE_S = 60.0
"""Dead letters of one topic and reason are told once in so long."""
_DEADLINE_S = 5.0


def alert(
    severity: Severity,
    reason: str,
    message: str,
    subject: str = "",
    trace_id: str = "",
) -> NewEvent:
    """An event for the tenant's own stream."""
    payload = alert_event(severity, reason, message, subject, datetime.now(UTC))
    return NewEvent("alerts", "Alert", lambda _: payload, trace_id=trace_id)


class Alerts:
    """Alerts on what one process notices outside any transaction."""

    def __init__(self, database: Database, tenant_id: str) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._buried: dict[tuple[str, str], float] = {}
        self._is_late = False

    async def dead_letter(self, message: InMessage, error: Exception) -> None:
        """A message was put aside. Does not raise."""
        reason = str(getattr(error, "reason", None) or type(error).__name__)
        key, now = (message.topic, reason), time.monotonic()
        if now < self._buried.get(key, -DEAD_LETTER_PAUSE_S) + DEAD_LETTER_PAUSE_S:
            return
        self._buried[key] = now
        event = message.event_id[:64] or "(without id)"
        text = (
            f"event {event} of {message.topic} was refused and is on "
            f"{message.topic}-dead-letter: {str(error)[:500]}"
        )
        await self._write(
            alert(WARNING, "DEAD_LETTER", text, f"topic:{message.topic}", message.trace_id)
        )

    async def look_at_lag(self, age_s: float, relay: Relay) -> None:
        """Tells when events wait for too long, once an episode.

        Of several replicas the one tells that holds the first shard; one that still waits for a
        broker holds none, and tells as well.
        """
        if age_s < LAG_OVER_S:
            self._is_late = False
        elif age_s > LAG_S and not self._is_late and (relay.holds(0) or not relay.is_running):
            self._is_late = True
            text = (
                f"the oldest event has waited {age_s:.0f} s to be published; last error: "
                f"{relay.stats.last_error or 'none'}"
            )
            await self._write(alert(CRITICAL, "OUTBOX_LAG", text, "outbox"))

    async def _write(self, event: NewEvent) -> None:
        try:
            async with self._database.transaction(
                self._tenant_id, deadline_s=_DEADLINE_S
            ) as connection:
                await outbox.append(connection, self._tenant_id, "", [event])
        except StorageError as error:
            _log.error("alert not written", alert=alert_text(event.build(0)), error=str(error))
