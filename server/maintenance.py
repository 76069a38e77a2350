"""What a server process does by itself again and again; several replicas may do it at once.

    every second   reservations whose time is over are closed, each with its event
    every minute   matrices whose histories have moved are estimated again
    every hour     ids of events taken in so long ago that they can't come again are dropped

All state is in the database: a process that dies leaves the rest to the next, or to its own next
start.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog
from positionsizing.v1 import events_pb2

from server.alerts import EXPIRED_MIN, WARNING, alert
from server.convert.names import timestamp
from server.matrix_refresh import MatrixRefreshes
from server.services.portfolio import reservation_message
from server.state import States
from storage.errors import StorageError
from storage.postgres import inbox, outbox, reservations
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database

_log = structlog.get_logger(__name__)

EXPIRY_INTERVAL_S = 1.0
EXPIRY_BATCH = 100
REFRESH_INTERVAL_S = 60.0
FORGET_INTERVAL_S = 3600.0
REMEMBER = timedelta(days=30)
"""How long the id of an event is kept: for longer than any topic keeps a message."""
_DEADLINE_S = 5.0
_FORGET_DEADLINE_S = 60.0


class MaintenanceTasks:
    """Run `run` as a task for as long as the process serves."""

    def __init__(
        self, database: Database, states: States, tenant_id: str, refreshes: MatrixRefreshes
    ) -> None:
        self._refreshes = refreshes
        self._database = database
        self._states = states
        self._tenant_id = tenant_id

    async def run(self) -> None:
        """Until cancelled. What fails is logged and done at the next turn."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_repeat(self.expire, EXPIRY_INTERVAL_S))
            group.create_task(_repeat(self._refreshes.run_due, REFRESH_INTERVAL_S))
            group.create_task(_repeat(self.forget, FORGET_INTERVAL_S))

    async def expire(self) -> int:
        """Close all reservations that are due, at most `EXPIRY_BATCH` a transaction; how many."""
        n_closed = 0
        while True:
            n_found = await self._expire_some(is_first=not n_closed)
            n_closed += n_found
            if n_found < EXPIRY_BATCH:
                return n_closed

    async def _expire_some(self, *, is_first: bool) -> int:
        async with self._database.transaction(deadline_s=_DEADLINE_S) as connection:
            expired = await reservations.expire_due(
                connection, datetime.now(UTC), event_of=_expired_event, limit=EXPIRY_BATCH
            )
            if is_first and len(expired) >= EXPIRED_MIN:
                text = f"{len(expired)} reservations or more expired at once; do fills arrive?"
                event = alert(WARNING, "RESERVATIONS_EXPIRED", text)
                await outbox.append(connection, self._tenant_id, "", [event])
        for reservation in expired:
            self._states.changed(reservation.tenant_id, {reservation.portfolio_id})
        return len(expired)

    async def forget(self) -> int:
        """Drop old ids from the inbox; how many."""
        async with self._database.transaction(deadline_s=_FORGET_DEADLINE_S) as connection:
            return await inbox.forget(connection, before=datetime.now(UTC) - REMEMBER)


async def _repeat(task: Callable[[], Awaitable[object]], interval_s: float) -> None:
    while True:
        try:
            await task()
        except StorageError as error:
            _log.warning("a maintenance task is put off", task=task.__name__, error=str(error))
        except Exception as error:  # a bug of ours must not end the task for good
            _log.error("a maintenance task failed", task=task.__name__, exc_info=error)
        await asyncio.sleep(interval_s)


def _expired_event(reservation: reservations.Reservation) -> NewEvent:
    def build(sequence: int) -> bytes:
        event = events_pb2.ReservationExpired(
            portfolio_sequence=sequence,
            decision_id=str(reservation.decision_id),
            portfolio_id=reservation.portfolio_id,
            released=reservation_message(reservation),
            expire_time=timestamp(reservation.expire_time),
        )
        return event.SerializeToString()

    return NewEvent("reservation-expired", "ReservationExpired", build)
