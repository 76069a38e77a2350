"""LearningService: training, the stages of models, and what they are worth since."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from google.protobuf.message import Message
from positionsizing.v1 import learning_service_pb2 as pb

from server.calls.errors import FieldViolation, Refusal, invalid, invalid_fields, precondition
from server.calls.long_work import in_thread
from server.calls.request_context import Call
from server.convert import mix, model_records, recalibration, training_request
from server.convert.names import (
    checked_id,
    name,
    page_size,
    page_start,
    page_token,
    text_violations,
    timestamp,
    uuid,
)
from server.convert.ranges import number_violations
from server.convert.training_rows import rows_violations
from server.jobs.worker import Worker
from server.learning import feature_join
from server.learning.model_evidence import is_unbounded, judged, scored, unproven
from server.learning.model_schedules import ModelSchedules
from server.learning.model_versions import ModelVersions
from server.learning.models import Models, check_document, read
from storage.errors import AlreadyExists, NotFound
from storage.postgres import model_schedules, models, requests
from storage.postgres.jobs import StoredJob
from storage.postgres.models import StageChange, StoredModel
from storage.postgres.pool import Database
from storage.postgres.requests import Request

_NEXT = {
    pb.MODEL_STAGE_SHADOW: ("CANDIDATE",),
    pb.MODEL_STAGE_LIVE: ("SHADOW",),
    pb.MODEL_STAGE_RETIRED: ("CANDIDATE", "SHADOW", "LIVE"),
}
"""The stages that a model may come from."""
A = TypeVar("A", bound=Message)


class LearningService:
    """See `protos/positionsizing/v1/learning_service.proto`."""

    def __init__(
        self, database: Database, worker: Worker, live: Models, schedules: ModelSchedules
    ) -> None:
        self._database = database
        self._worker = worker
        self._versions = ModelVersions(live)
        self._schedules = schedules

    async def train_model(self, call: Call, request: pb.TrainModelRequest) -> pb.TrainModelResponse:
        """Trains in a process of its own and stores a candidate."""
        request_id = uuid(request.request_id, "request_id")
        await _check_first(request)
        digest = _digest(request)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            known = await requests.find(connection, call.tenant_id, request_id)
            if known is not None:
                return pb.TrainModelResponse.FromString(known.answer_to("TrainModel", digest))
            await _join(connection, call.tenant_id, request)
        if request.feature_set_id:
            await _checked(training_request.train_violations, request)
        if call.ticket is not None:  # its latency says nothing of how busy the server is
            call.ticket.takes_long()
        made = await self._worker.run("TrainModel", request, deadline_s=call.left_s)
        request.ClearField("rows")  # the hash has them; they are not kept
        request.imported_trees.ClearField("document")

        async def store(connection: asyncpg.Connection) -> pb.TrainModelResponse:
            return await put_candidate(connection, call.tenant_id, call.author, made)

        return await self._once(call, "TrainModel", request_id, digest, request, store)

    async def ready(self, call: Call, request: pb.TrainModelRequest) -> pb.TrainModelRequest:
        """A request that is trained later, checked, with the features of its set in its rows.

        Raises `Refusal` and `AlreadyExists`.
        """
        request.ClearField("request_id")
        await _check_first(request)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            await _join(connection, call.tenant_id, request)
        if request.feature_set_id:
            await _checked(training_request.train_violations, request)
        return request

    async def get_model(self, call: Call, request: pb.GetModelRequest) -> pb.GetModelResponse:
        """A model with its stages and scores."""
        model_id = checked_id(request.model_id, "model_id")
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            stored = await models.get(connection, call.tenant_id, model_id)
            stages = await models.stages(connection, call.tenant_id, model_id)
            scores = await models.scores(connection, call.tenant_id, model_id)
        response = pb.GetModelResponse(
            model=_message(stored, with_document=True), stages=[_change(item) for item in stages]
        )
        if scores:
            response.score_since.CopyFrom(await scored(read(stored), scores))
        return response

    async def list_models(self, call: Call, request: pb.ListModelsRequest) -> pb.ListModelsResponse:
        """Models by id."""
        size = page_size(request.page_size)
        start = page_start(request, name)
        if request.stage not in pb.ModelStage.values():
            raise invalid("stage", "UNKNOWN_VALUE", f"is {request.stage}; it is no stage")
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await models.list_page(
                connection,
                call.tenant_id,
                stage=_stage_name(request.stage) if request.stage else None,
                after="" if start is None else start[0],
                limit=size + 1,
            )
        response = pb.ListModelsResponse(models=[_listed(row) for row in rows[:size]])
        if len(rows) > size:
            response.next_page_token = page_token(request, rows[size - 1].model_id)
        return response

    async def promote_model(
        self, call: Call, request: pb.PromoteModelRequest
    ) -> pb.PromoteModelResponse:
        """Moves a model to another stage, where its record allows it."""
        request_id = uuid(request.request_id, "request_id")
        model_id = checked_id(request.model_id, "model_id")
        found = list(text_violations(request.reason, "reason"))
        if not request.reason.strip():
            found.append(FieldViolation("reason", "MISSING", "say why, for the record"))
        if request.stage not in _NEXT:
            text = "must be SHADOW, LIVE or RETIRED"
            found.append(FieldViolation("stage", "NOT_APPLICABLE", text))
        if found:
            raise invalid_fields(found)

        async def store(connection: asyncpg.Connection) -> pb.PromoteModelResponse:
            stored = await model_schedules.lock_model(connection, call.tenant_id, model_id)
            if stored.stage not in _NEXT[request.stage]:
                text = f"model {model_id!r} is {stored.stage.lower()}; it can't become "
                text += _stage_name(request.stage).lower()
                raise precondition("WRONG_STAGE", text, stage=stored.stage)
            if request.stage == pb.MODEL_STAGE_LIVE:
                scores = await models.scores(connection, call.tenant_id, model_id)
                refused = await unproven(read(stored), scores)
                if refused is not None:
                    raise refused
                moved = await self._versions.go_live(
                    connection, call.tenant_id, stored, author=call.author, reason=request.reason
                )
            else:
                moved = await models.move(
                    connection,
                    call.tenant_id,
                    model_id,
                    _stage_name(request.stage),
                    author=call.author,
                    reason=request.reason,
                )
            return pb.PromoteModelResponse(change=_change(moved))

        digest = _digest(request)
        answer = await self._once(call, "PromoteModel", request_id, digest, request, store)
        self._versions.changed(call.tenant_id)
        return answer

    async def score_model(self, call: Call, request: pb.ScoreModelRequest) -> pb.ScoreModelResponse:
        """Scores a model on bets that came since, and keeps what it said of them."""
        request_id = uuid(request.request_id, "request_id")
        model_id = checked_id(request.model_id, "model_id")
        found = [*number_violations(request), *rows_violations(request.rows, "rows", 0)]
        if found:
            raise invalid_fields(found)
        digest = _digest(request)

        async def store(connection: asyncpg.Connection) -> pb.ScoreModelResponse:
            locked = await model_schedules.lock_model(connection, call.tenant_id, model_id)
            known = read(locked)
            await feature_join.join_lacking(connection, call.tenant_id, request.rows, known)
            scores = await models.scores(connection, call.tenant_id, model_id)
            payload = judged(known, request.rows, scores)
            since = await scored(known, [*scores, payload])
            await models.add_score(
                connection,
                call.tenant_id,
                model_id,
                author=call.author,
                payload=payload,
                is_unbounded=is_unbounded(since),
            )
            await self._versions.judge(connection, call.tenant_id, model_id, since.e_value_gone)
            return pb.ScoreModelResponse(score_since=since)

        answer = await self._once(call, "ScoreModel", request_id, digest, request, store)
        self._versions.changed(call.tenant_id)
        return answer

    async def mix_strategies(
        self, call: Call, request: pb.MixStrategiesRequest
    ) -> pb.MixStrategiesResponse:
        """Money divided among strategies by what they made."""
        if found := list(mix.violations(request)):
            raise invalid_fields(found)
        return await asyncio.to_thread(mix.mixed, request)

    async def calibrate_forecasts(
        self, call: Call, request: pb.CalibrateForecastsRequest
    ) -> pb.CalibrateForecastsResponse:
        """Claimed probabilities as what they mean."""
        if found := list(recalibration.violations(request)):
            raise invalid_fields(found)
        return await in_thread(call, lambda: recalibration.calibrated(request))

    async def set_model_schedule(
        self, call: Call, request: pb.SetModelScheduleRequest
    ) -> pb.SetModelScheduleResponse:
        """Has versions of a model trained from now on."""
        return await self._schedules.put(call, request)

    async def list_model_schedules(
        self, call: Call, request: pb.ListModelSchedulesRequest
    ) -> pb.ListModelSchedulesResponse:
        """Schedules by id."""
        del request
        return await self._schedules.listed(call)

    async def delete_model_schedule(
        self, call: Call, request: pb.DeleteModelScheduleRequest
    ) -> pb.DeleteModelScheduleResponse:
        """Ends a schedule."""
        return await self._schedules.remove(call, request)

    async def _once(
        self,
        call: Call,
        method: str,
        request_id: UUID,
        digest: bytes,
        request: Message,
        store: Callable[[asyncpg.Connection], Coroutine[Any, Any, A]],
    ) -> A:
        """What `store` answers, in one transaction with the request; a retry gets it again."""
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await requests.lock(connection, call.tenant_id, request_id)
            known = await requests.find(connection, call.tenant_id, request_id)
            if known is not None:
                answer_type: type[A] = getattr(pb, f"{method}Response")
                return answer_type.FromString(known.answer_to(method, digest))
            answer = await store(connection)
            content = request.SerializeToString(deterministic=True)
            made = Request(request_id, method, digest, content, answer.SerializeToString())
            await requests.put(connection, call.tenant_id, made)
        return answer


async def put_candidate(
    connection: asyncpg.Connection, tenant_id: str, author: str, made: bytes
) -> pb.TrainModelResponse:
    """Stores what a worker has trained. Errors: `AlreadyExists`."""
    model = pb.Model.FromString(made)
    details = pb.Model.FromString(made)
    details.ClearField("document")
    stored = await models.put(
        connection,
        tenant_id,
        model.model_id,
        author=author,
        document=model.document,
        digest=bytes.fromhex(model.hash),
        details=details.SerializeToString(deterministic=True),
    )
    return pb.TrainModelResponse(model=_message(stored, with_document=True))


async def keep_trained(connection: asyncpg.Connection, job: StoredJob, made: bytes) -> bytes:
    """What a job has trained, stored in the name of whoever started it."""
    stored = await put_candidate(connection, job.tenant_id, job.author, made)
    return stored.SerializeToString()


async def _check_first(request: pb.TrainModelRequest) -> None:
    """What can be said of a request before the features of a set are joined to its rows."""
    joins = bool(request.feature_set_id)
    await _checked(
        training_request.joinable_violations if joins else training_request.train_violations,
        request,
    )


async def _join(
    connection: asyncpg.Connection, tenant_id: str, request: pb.TrainModelRequest
) -> None:
    """Reads the features of the set, if any. Errors: `AlreadyExists` of the model."""
    if await _exists(connection, tenant_id, request.model_id):
        raise AlreadyExists("model", request.model_id)
    if request.feature_set_id:
        age_s = training_request.age_limit_of(request)
        key = (connection, tenant_id, request.rows, request.feature_set_id)
        await feature_join.join(*key, request.stored_features, age_s)


async def _checked(
    violations: Callable[[pb.TrainModelRequest], Iterator[FieldViolation]],
    request: pb.TrainModelRequest,
) -> None:
    """Raises `Refusal` where there are any."""
    if found := await asyncio.to_thread(lambda: list(violations(request))):
        raise invalid_fields(found)


def _digest(request: Message) -> bytes:
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


async def _exists(connection: asyncpg.Connection, tenant_id: str, name: str) -> bool:
    """Whether a model or a schedule of models is called so."""
    try:
        await model_schedules.current(connection, tenant_id, name)
    except NotFound:
        return False
    return True


def _stage_name(stage: pb.ModelStage.ValueType) -> str:
    return pb.ModelStage.Name(stage).removeprefix("MODEL_STAGE_")


def _message(stored: StoredModel, *, with_document: bool = False) -> pb.Model:
    message = model_records.stored_message(stored)
    if with_document:
        check_document(stored)
        message.document = stored.document
    _set_columns(message, stored)
    return message


def _listed(stored: StoredModel) -> pb.Model:
    """A model in a list, which one with a damaged record doesn't end."""
    try:
        return _message(stored)
    except Refusal as refusal:
        message = pb.Model(
            model_id=stored.model_id,
            hash=stored.hash.hex(),
            schedule_id=stored.schedule_id,
            damage=refusal.message,
        )
        _set_columns(message, stored)
        return message


def _set_columns(message: pb.Model, stored: StoredModel) -> None:
    """What has columns of its own."""
    message.stage = pb.ModelStage.Value(f"MODEL_STAGE_{stored.stage}")
    message.author = stored.author
    message.create_time.CopyFrom(timestamp(stored.create_time))


def _change(item: StageChange) -> pb.ModelStageChange:
    return pb.ModelStageChange(
        stage=pb.ModelStage.Value(f"MODEL_STAGE_{item.stage}"),
        author=item.author,
        reason=item.reason,
        create_time=timestamp(item.create_time),
    )
