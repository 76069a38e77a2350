"""What a server process does by itself again and again; several replicas may do it at once.

    every second   reservations whose time is over are closed, each with its event
    every 10 s     rules that have moved parameters are told, and what callers asked for is added up
    every minute   matrices whose histories have moved are estimated again, and models are trained
                   and scored by their schedules; decisions that have got their outcome are analyzed
    every hour     ids of events taken in so long ago that they can't come again are dropped,
                   events of webhooks that are a week old, and jobs over for a month; decisions and
                   settlements of hours that are over are sealed

All state is in the database: a process that dies leaves the rest to the next, or to its own next
start.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from server.analytics.sizing_analytics import INTERVAL_S as ANALYSIS_INTERVAL_S
from server.analytics.sizing_analytics import SizingAnalytics
from server.convert.events import reservation_expired
from server.learning.model_schedules import ModelSchedules
from server.maintenance import seals
from server.observability.alerts import EXPIRED_MIN, WARNING, alert
from server.observability.telemetry import Telemetry
from server.observability.usage import INTERVAL_S as USAGE_INTERVAL_S
from server.observability.usage import Usage, flush
from server.parameters.effective_parameters import INTERVAL_S as EFFECTIVE_INTERVAL_S
from server.parameters.effective_parameters import EffectiveParametersWatch
from server.portfolios.state import States
from server.risk.matrix_refresh import MatrixRefreshes
from storage.errors import StorageError
from storage.postgres import (
    inbox,
    jobs,
    outbox,
    quota_use,
    reservations,
    tenants,
    usage,
    webhook_deliveries,
)
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database
from storage.postgres.tenancy import ALL_TENANTS

_log = structlog.get_logger(__name__)

EXPIRY_INTERVAL_S = 1.0
EXPIRY_BATCH = 100
REFRESH_INTERVAL_S = 60.0
FORGET_INTERVAL_S = 3600.0
SEAL_INTERVAL_S = 3600.0
REMEMBER = timedelta(days=30)
"""How long the id of an event is kept: for longer than any topic keeps a message."""
QUIET = timedelta(days=1)
"""After which the lines that a caller has used are forgotten."""
DELIVERIES_KEPT = timedelta(days=7)
"""How long an event is kept for webhooks, delivered or not."""
USAGE_KEPT = timedelta(days=400)
"""How long it is known what callers have asked for: a year, and a month to charge for it."""
JOBS_KEPT = timedelta(days=30)
"""How long a job is kept after it is over."""
_DEADLINE_S = 5.0
_FORGET_DEADLINE_S = 60.0


class Repeated:
    """Something that is done again and again; what fails is logged and done at the next turn."""

    def __init__(
        self,
        name: str,
        task: Callable[[], Awaitable[object]],
        interval_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._task = task
        self._interval_s = interval_s
        self._now = now
        self._succeeded = now()  # at the start nothing is due yet

    def overdue_s(self) -> float:
        """For how long it has been due without having succeeded."""
        return max(0.0, self._now() - self._succeeded - self._interval_s)

    async def run(self) -> None:
        """A turn every interval, until cancelled."""
        while True:
            await self.turn()
            await asyncio.sleep(self._interval_s)

    async def turn(self) -> None:
        """Once; raises nothing."""
        try:
            await self._task()
            self._succeeded = self._now()
        except StorageError as error:
            _log.warning("a maintenance task is put off", task=self.name, error=str(error))
        except Exception as error:  # a bug of ours must not end the task for good
            _log.error("a maintenance task failed", task=self.name, exc_info=error)


class MaintenanceTasks:
    """Run `run` as a task for as long as the process serves."""

    def __init__(
        self,
        database: Database,
        states: States,
        refreshes: MatrixRefreshes,
        schedules: ModelSchedules,
        counted: Usage,
    ) -> None:
        effective = EffectiveParametersWatch(database, states)
        analytics = SizingAnalytics(database, states)
        self._database = database
        self._states = states
        self.usage = Repeated("usage", partial(flush, database, counted), USAGE_INTERVAL_S)
        self.repeated = (
            Repeated("expire", self.expire, EXPIRY_INTERVAL_S),
            Repeated("effective_parameters", effective.run_due, EFFECTIVE_INTERVAL_S),
            Repeated("matrices", refreshes.run_due, REFRESH_INTERVAL_S),
            Repeated("models", schedules.run_due, REFRESH_INTERVAL_S),
            Repeated("analysis", analytics.run_due, ANALYSIS_INTERVAL_S),
            Repeated("forget", self.forget, FORGET_INTERVAL_S),
            Repeated("seal", self.seal, SEAL_INTERVAL_S),
            self.usage,
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for repeated in self.repeated:
                group.create_task(repeated.run())

    def watch(self, telemetry: Telemetry) -> None:
        """Exports how far each task is behind."""
        text = "For how long a maintenance task has been due without having succeeded."
        name = "sizing_maintenance_overdue_seconds"
        for repeated in self.repeated:
            telemetry.watch(name, text, repeated.overdue_s, task=repeated.name)

    async def expire(self) -> int:
        """Close all reservations that are due, at most `EXPIRY_BATCH` a transaction; how many."""
        async with self._database.connection(ALL_TENANTS, deadline_s=_DEADLINE_S) as connection:
            tenants = await reservations.tenants_due(connection, datetime.now(UTC))
        return sum([await self._expire(tenant_id) for tenant_id in tenants])

    async def _expire(self, tenant_id: str) -> int:
        n_closed = 0
        while True:
            n_found = await self._expire_some(tenant_id, is_first=not n_closed)
            n_closed += n_found
            if n_found < EXPIRY_BATCH:
                return n_closed

    async def _expire_some(self, tenant_id: str, *, is_first: bool) -> int:
        async with self._database.transaction(tenant_id, deadline_s=_DEADLINE_S) as connection:
            expired = await reservations.expire_due(
                connection,
                tenant_id,
                datetime.now(UTC),
                event_of=_expired_event,
                limit=EXPIRY_BATCH,
            )
            if is_first and len(expired) >= EXPIRED_MIN:
                text = f"{len(expired)} reservations or more expired at once; do fills arrive?"
                event = alert(WARNING, "RESERVATIONS_EXPIRED", text)
                await outbox.append(connection, tenant_id, "", [event])
        self._states.changed(tenant_id, {reservation.portfolio_id for reservation in expired})
        return len(expired)

    async def forget(self) -> int:
        """Drop old ids from the inbox, how many, and what callers and webhooks had long ago."""
        async with self._database.transaction(
            ALL_TENANTS, deadline_s=_FORGET_DEADLINE_S
        ) as connection:
            now = datetime.now(UTC)
            await quota_use.forget(connection, before=now - QUIET)
            await usage.forget(connection, before=now - USAGE_KEPT)
            await webhook_deliveries.forget(connection, before=now - DELIVERIES_KEPT)
            await jobs.forget(connection, before=now - JOBS_KEPT)
            return await inbox.forget(connection, before=now - REMEMBER)

    async def seal(self) -> int:
        """Seal the records of every tenant's periods that are over; how many periods."""
        tenant_ids = await tenants.list_ids(self._database, deadline_s=_DEADLINE_S)
        return sum([await seals.seal_due(self._database, tenant_id) for tenant_id in tenant_ids])


def _expired_event(reservation: reservations.Reservation) -> NewEvent:
    return NewEvent(
        "reservation-expired",
        "ReservationExpired",
        lambda sequence: reservation_expired(sequence, reservation),
    )
