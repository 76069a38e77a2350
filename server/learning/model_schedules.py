"""Models that the service trains again every so many days, scores on what follows, and retires.

`SetModelSchedule` begins it; the maintenance tasks look for schedules that are due. Training and
scoring run in the worker, a process of its own at low priority. What comes of it is a stage of a
model, with an alert, in one transaction: `model_versions.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog
from positionsizing.v1 import learning_service_pb2 as pb

from server.calls.errors import Refusal, invalid_fields, precondition
from server.calls.request_context import Call
from server.convert import training_request
from server.convert.names import checked_id, timestamp
from server.jobs.worker import Worker
from server.learning import schedule_features
from server.learning.model_evidence import is_unbounded
from server.learning.model_versions import AUTHOR, ModelVersions
from server.learning.models import Models, read
from server.learning.schedule_work import (
    Scored,
    Version,
    instruments_of,
    scored,
    scoring_job,
    training_job,
)
from server.observability.alerts import WARNING, alert
from storage.errors import StorageError
from storage.postgres import histories, model_schedules, models, outbox
from storage.postgres.model_schedules import StoredSchedule
from storage.postgres.models import StoredModel
from storage.postgres.pool import Database
from storage.postgres.tenancy import ALL_TENANTS

_log = structlog.get_logger(__name__)

INTERVAL_DAYS = 7
LISTED_MAX = 1000
WORK_S = 900.0
"""Longest time of one training or scoring."""
RETRY = timedelta(days=1)
"""A training that came to nothing is tried again after so long, or the interval if that is less."""
_LEASE = timedelta(seconds=2 * WORK_S + 60.0)
_DEADLINE_S = 10.0


class ModelSchedules:
    """Schedules over gRPC, and the work that they ask for."""

    def __init__(
        self,
        database: Database,
        worker: Worker,
        live: Models,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._worker = worker
        self._versions = ModelVersions(live)
        self._clock = clock

    async def put(
        self, call: Call, request: pb.SetModelScheduleRequest
    ) -> pb.SetModelScheduleResponse:
        """Stores a schedule; its first version is trained within a minute. Raises `Refusal`."""
        given = request.schedule
        names = await self._stored_names(call, given)
        if found := list(training_request.schedule_violations(given, "schedule", names)):
            raise invalid_fields(found)
        asked = pb.ModelSchedule(
            schedule_id=given.schedule_id,
            universe_id=given.universe_id,
            training=given.training,
            promotion=given.promotion or pb.PROMOTION_POLICY_BY_HAND,
            retirement=given.retirement or pb.RETIREMENT_POLICY_REFUSE,
        )
        for name in ("horizon_bars", "barrier_width", "cost_rate", "interval_days"):
            if given.HasField(name):
                setattr(asked, name, getattr(given, name))
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            stored = await model_schedules.put(
                connection,
                call.tenant_id,
                asked.schedule_id,
                universe_id=asked.universe_id,
                document=asked.SerializeToString(deterministic=True),
                author=call.author,
                train_time=self._clock(),
            )
            answer = await _message(connection, stored)
        return pb.SetModelScheduleResponse(schedule=answer)

    async def _stored_names(self, call: Call, given: pb.ModelSchedule) -> Sequence[str]:
        """The features of its set. Raises `Refusal`; errors: `NotFound`."""
        if not given.training.feature_set_id:
            return ()
        checked_id(given.training.feature_set_id, "schedule.training.feature_set_id")
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            path = "schedule.training"
            return await schedule_features.wanted(connection, call.tenant_id, given.training, path)

    async def _stored_features(
        self, stored: StoredSchedule, schedule: pb.ModelSchedule, parts: Sequence[bytes]
    ) -> bytes:
        """What is known of the universe in the set of a schedule, for the worker."""
        if not schedule.training.feature_set_id:
            return b""
        names = await asyncio.to_thread(instruments_of, parts)
        async with self._database.connection(
            stored.tenant_id, deadline_s=_DEADLINE_S
        ) as connection:
            return await schedule_features.read(
                connection, stored.tenant_id, schedule.training, names, self._clock()
            )

    async def listed(self, call: Call) -> pb.ListModelSchedulesResponse:
        """All of the tenant's, by id."""
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await model_schedules.of_tenant(connection, call.tenant_id, LISTED_MAX)
            return pb.ListModelSchedulesResponse(
                schedules=[await _message(connection, row) for row in rows]
            )

    async def remove(
        self, call: Call, request: pb.DeleteModelScheduleRequest
    ) -> pb.DeleteModelScheduleResponse:
        """Ends a schedule; its models stay."""
        schedule_id = checked_id(request.schedule_id, "schedule_id")
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await model_schedules.remove(
                connection, call.tenant_id, schedule_id, author=call.author
            )
        self._versions.changed(call.tenant_id)
        return pb.DeleteModelScheduleResponse()

    async def run_due(self) -> int:
        """Trains and scores what is due; how many schedules were."""
        now = self._clock()
        async with self._database.connection(ALL_TENANTS, deadline_s=_DEADLINE_S) as connection:
            tenants = await model_schedules.tenants_due(connection, now)
        return sum([await self._run_due(tenant_id, now) for tenant_id in tenants])

    async def _run_due(self, tenant_id: str, now: datetime) -> int:
        count = 0
        while True:
            async with self._database.transaction(tenant_id, deadline_s=_DEADLINE_S) as connection:
                due = await model_schedules.claim_due(connection, tenant_id, now, now + _LEASE)
            if due is None:
                return count
            await self._follow(*due, now)
            count += 1

    def _transaction(
        self, stored: StoredSchedule
    ) -> AbstractAsyncContextManager[asyncpg.Connection]:
        return self._database.transaction(stored.tenant_id, deadline_s=_DEADLINE_S)

    async def _follow(self, stored: StoredSchedule, n_parts: int, now: datetime) -> None:
        schedule = pb.ModelSchedule.FromString(stored.document)
        days = schedule.interval_days if schedule.HasField("interval_days") else INTERVAL_DAYS
        interval, failure = timedelta(days=days), ""
        trained, is_new = stored.trained_parts, stored.scored_parts < n_parts
        is_due = stored.train_time <= now or (not trained and is_new and bool(stored.failure))
        train_time = now + min(interval, RETRY) if is_due else stored.train_time
        try:
            if is_new:
                await self._score(stored, schedule)
            if is_due:
                if trained < n_parts or not n_parts:
                    await self._train(stored, schedule, now)
                train_time, trained = now + interval, n_parts
        except (Refusal, StorageError) as error:
            failure = str(error)
            _log.warning("a schedule of models failed", schedule_id=stored.schedule_id, why=failure)
        async with self._database.transaction(
            stored.tenant_id, deadline_s=_DEADLINE_S
        ) as connection:
            await model_schedules.done(
                connection,
                stored,
                now=now,
                train_time=train_time,
                trained_parts=trained,
                scored_parts=n_parts,
                failure=failure,
            )
            if failure and failure != stored.failure:
                text = f"versions of {stored.schedule_id} can't be trained or scored: {failure}"
                event = alert(WARNING, "MODEL_SCHEDULE_FAILED", text, _subject(stored))
                await outbox.append(connection, stored.tenant_id, "", [event])

    async def _parts(self, stored: StoredSchedule) -> Sequence[bytes]:
        async with self._database.connection(
            stored.tenant_id, deadline_s=_DEADLINE_S
        ) as connection:
            found = await histories.parts(connection, stored.tenant_id, stored.universe_id)
        if not found:
            text = f"nothing is stored of universe {stored.universe_id!r}"
            raise precondition("NO_HISTORY", text)
        if found[0].kind != "PRICES":
            text = f"universe {stored.universe_id!r} holds returns; bets are made of prices"
            raise precondition("OTHER_HISTORY_KIND", text)
        return [part.payload for part in found]

    async def _train(
        self, stored: StoredSchedule, schedule: pb.ModelSchedule, now: datetime
    ) -> None:
        model_id = f"{stored.schedule_id}.{now:%Y%m%dT%H%M%SZ}"
        parts = await self._parts(stored)
        known = await self._stored_features(stored, schedule, parts)
        job = training_job(schedule, model_id, known, parts)
        made = await self._worker.run("TrainOnCloses", job, deadline_s=WORK_S)
        async with self._database.transaction(
            stored.tenant_id, deadline_s=_DEADLINE_S
        ) as connection:
            await self._versions.add(connection, stored, pb.Model.FromString(made))
        self._versions.changed(stored.tenant_id)

    async def _score(self, stored: StoredSchedule, schedule: pb.ModelSchedule) -> None:
        async with self._database.connection(
            stored.tenant_id, deadline_s=_DEADLINE_S
        ) as connection:
            found = await model_schedules.versions(connection, stored.tenant_id, stored.schedule_id)
            before = [
                await models.scores(connection, stored.tenant_id, version.model_id)
                for version in found
            ]
        if not found:
            return
        for version in found:
            read(version)  # raises where it is not what was stored
        told = [
            Version(version.document, version.details, scores)
            for version, scores in zip(found, before, strict=True)
        ]
        parts = await self._parts(stored)
        known = await self._stored_features(stored, schedule, parts)
        job = scoring_job(schedule, told, known, parts)
        answer = scored(await self._worker.run("ScoreOnCloses", job, deadline_s=WORK_S))
        for version, scores, new in zip(found, before, answer, strict=True):
            if new.payload:
                await self._add_score(stored, version, len(scores), new)
        for version, new in zip(found, answer, strict=True):  # when all are known
            await self._judge(stored, version, new.score.e_value_gone)

    async def _add_score(
        self, stored: StoredSchedule, version: StoredModel, n_before: int, new: Scored
    ) -> None:
        async with self._database.transaction(
            stored.tenant_id, deadline_s=_DEADLINE_S
        ) as connection:
            await models.lock(connection, stored.tenant_id, version.model_id)
            known = await models.scores(connection, stored.tenant_id, version.model_id)
            if len(known) == n_before:  # else somebody else has scored it meanwhile
                await models.add_score(
                    connection,
                    stored.tenant_id,
                    version.model_id,
                    author=AUTHOR,
                    payload=new.payload,
                    is_unbounded=is_unbounded(new.score),
                )

    async def _judge(self, stored: StoredSchedule, version: StoredModel, e_value: float) -> None:
        async with self._database.transaction(
            stored.tenant_id, deadline_s=_DEADLINE_S
        ) as connection:
            await self._versions.judge(connection, stored.tenant_id, version.model_id, e_value)
        self._versions.changed(stored.tenant_id)


def _subject(stored: StoredSchedule) -> str:
    return f"model-schedule:{stored.schedule_id}"


async def _message(connection: object, stored: StoredSchedule) -> pb.ModelSchedule:
    message = pb.ModelSchedule.FromString(stored.document)
    key = (stored.tenant_id, stored.schedule_id)
    message.next_train_time.CopyFrom(timestamp(stored.train_time))
    message.newest_model_id = await model_schedules.newest(connection, *key)
    message.live_model_id, _ = await model_schedules.current(connection, *key)
    message.failure = stored.failure
    message.author = stored.author
    message.update_time.CopyFrom(timestamp(stored.update_time))
    return message
