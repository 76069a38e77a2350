"""LearningService: training, the stages of models, and what they are worth since."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import numpy as np
from google.protobuf.message import Message
from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.evidence import evidence
from compute.learn.models import ModelKind
from server.convert import learning as convert
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
from server.errors import FieldViolation, Refusal, invalid, invalid_fields, precondition
from server.models import Models, ReadModel, read
from server.request_context import Call
from server.worker import Worker
from storage.errors import AlreadyExists, NotFound
from storage.postgres import models, requests
from storage.postgres.models import StageChange, StoredModel
from storage.postgres.pool import Database
from storage.postgres.requests import Request

_NEXT = {
    pb.MODEL_STAGE_SHADOW: ("CANDIDATE",),
    pb.MODEL_STAGE_LIVE: ("SHADOW",),
    pb.MODEL_STAGE_RETIRED: ("CANDIDATE", "SHADOW", "LIVE"),
}
"""The stages that a model may come from."""
E_VALUE_GONE = 20.0
A = TypeVar("A", bound=Message)


class LearningService:
    """See `protos/positionsizing/v1/learning_service.proto`."""

    def __init__(self, database: Database, worker: Worker, live: Models) -> None:
        self._database = database
        self._worker = worker
        self._live = live

    async def train_model(self, call: Call, request: pb.TrainModelRequest) -> pb.TrainModelResponse:
        """Trains in a process of its own and stores a candidate."""
        request_id = uuid(request.request_id, "request_id")
        found = await asyncio.to_thread(lambda: list(convert.train_violations(request)))
        if found:
            raise invalid_fields(found)
        digest = _digest(request)
        async with self._database.connection(deadline_s=call.left_s) as connection:
            known = await requests.find(connection, call.tenant_id, request_id)
            if known is not None:
                return pb.TrainModelResponse.FromString(known.answer_to("TrainModel", digest))
            if await _exists(connection, call.tenant_id, request.model_id):
                raise AlreadyExists("model", request.model_id)
        made = await self._worker.run("TrainModel", request, deadline_s=call.left_s)
        model = pb.Model.FromString(made)
        details = pb.Model.FromString(made)
        details.ClearField("document")
        request.ClearField("rows")  # the hash has them; they are not kept

        async def store(connection: asyncpg.Connection) -> pb.TrainModelResponse:
            stored = await models.put(
                connection,
                call.tenant_id,
                request.model_id,
                author=call.author,
                document=model.document,
                digest=bytes.fromhex(model.hash),
                details=details.SerializeToString(deterministic=True),
            )
            return pb.TrainModelResponse(model=_message(stored, with_document=True))

        return await self._once(call, "TrainModel", request_id, digest, request, store)

    async def get_model(self, call: Call, request: pb.GetModelRequest) -> pb.GetModelResponse:
        """A model with its stages and scores."""
        model_id = checked_id(request.model_id, "model_id")
        async with self._database.connection(deadline_s=call.left_s) as connection:
            stored = await models.get(connection, call.tenant_id, model_id)
            stages = await models.stages(connection, call.tenant_id, model_id)
            scores = await models.scores(connection, call.tenant_id, model_id)
        response = pb.GetModelResponse(
            model=_message(stored, with_document=True), stages=[_change(item) for item in stages]
        )
        if scores:
            response.score_since.CopyFrom(await _scored(read(stored), scores))
        return response

    async def list_models(self, call: Call, request: pb.ListModelsRequest) -> pb.ListModelsResponse:
        """Models by id."""
        size = page_size(request.page_size)
        start = page_start(request, name)
        if request.stage not in pb.ModelStage.values():
            raise invalid("stage", "UNKNOWN_VALUE", f"is {request.stage}; it is no stage")
        async with self._database.connection(deadline_s=call.left_s) as connection:
            rows = await models.list_page(
                connection,
                call.tenant_id,
                stage=_stage_name(request.stage) if request.stage else None,
                after="" if start is None else start[0],
                limit=size + 1,
            )
        response = pb.ListModelsResponse(models=[_message(row) for row in rows[:size]])
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
            stored = await models.lock(connection, call.tenant_id, model_id)
            if stored.stage not in _NEXT[request.stage]:
                text = f"model {model_id!r} is {stored.stage.lower()}; it can't become "
                text += _stage_name(request.stage).lower()
                raise precondition("WRONG_STAGE", text, stage=stored.stage)
            if request.stage == pb.MODEL_STAGE_LIVE:
                scores = await models.scores(connection, call.tenant_id, model_id)
                refused = await _unproven(read(stored), scores)
                if refused is not None:
                    raise refused
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
        self._live.changed(call.tenant_id, model_id)
        return answer

    async def score_model(self, call: Call, request: pb.ScoreModelRequest) -> pb.ScoreModelResponse:
        """Scores a model on bets that came since, and keeps what it said of them."""
        request_id = uuid(request.request_id, "request_id")
        model_id = checked_id(request.model_id, "model_id")
        found = [*number_violations(request), *convert.rows_violations(request.rows, "rows")]
        if found:
            raise invalid_fields(found)
        digest = _digest(request)

        async def store(connection: asyncpg.Connection) -> pb.ScoreModelResponse:
            known = read(await models.lock(connection, call.tenant_id, model_id))
            scores = await models.scores(connection, call.tenant_id, model_id)
            payload = _judged(known, request.rows, scores)
            await models.add_score(
                connection, call.tenant_id, model_id, author=call.author, payload=payload
            )
            return pb.ScoreModelResponse(score_since=await _scored(known, [*scores, payload]))

        return await self._once(call, "ScoreModel", request_id, digest, request, store)

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
        async with self._database.transaction(deadline_s=call.left_s) as connection:
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


def _digest(request: Message) -> bytes:
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


async def _exists(connection: asyncpg.Connection, tenant_id: str, model_id: str) -> bool:
    try:
        await models.stage_of(connection, tenant_id, model_id)
    except NotFound:
        return False
    return True


def _judged(known: ReadModel, message: pb.TrainingRows, scores: list[bytes]) -> bytes:
    """What a model says of bets, with them; raises `Refusal` where they aren't later than all."""
    if known.model.kind is ModelKind.SIZE_MULTIPLIER:
        raise precondition("NO_PROBABILITY", "a size multiplier says no probability to score")
    rows = convert.rows_of(message)
    for feature in known.model.features:
        if feature not in rows.names:
            text = f"lacks {feature!r}, which the model reads"
            raise invalid("rows.features", "MISSING_FEATURE", text)
    trained_until = known.details.report.trained_until_time
    until = int(convert.nanoseconds([trained_until])[0])
    place = int(np.argmin(rows.start))
    where, first = f"rows.start_times[{place}]", int(rows.start[place])
    if first < until:
        text = f"is before {trained_until.ToJsonString()}, when the training data ended"
        raise invalid(where, "OVERLAPS_TRAINING", text)
    if scores and first <= int(convert.scored_rows(scores)[0].start.max()):
        raise invalid(where, "NOT_LATER", "is not later than all bets scored before")
    probability, _ = known.model.predict(rows.columns(known.model.features).features, rows.implied)
    return convert.scored_bytes(rows, probability)


async def _scored(known: ReadModel, scores: list[bytes]) -> pb.ForecastScore:
    """The score of all bets since."""

    def work() -> pb.ForecastScore:
        rows, probability = convert.scored_rows(scores)
        climatology = np.full(len(rows), known.details.report.win_rate)
        return convert.score(evidence(rows, probability, climatology))

    return await asyncio.to_thread(work)


async def _unproven(known: ReadModel, scores: list[bytes]) -> Refusal | None:
    """Why a model may not go live; None where it may."""
    since = await _scored(known, scores) if scores else pb.ForecastScore()
    if since.e_value_gone >= E_VALUE_GONE:
        text = f"its edge is gone: the e-value against it is {since.e_value_gone:.3g}"
        return precondition("EDGE_GONE", text)
    if known.details.report.is_proven or (since.climatology.is_beaten and since.implied.is_beaten):
        return None
    report = known.details.report
    if known.model.kind is ModelKind.SIZE_MULTIPLIER:
        gained = f"its growth over whole stakes is {report.growth.mean:+.2e} a bet"
        text = f"{gained}, with no interval above 0"
    else:
        text = (
            f"growth over climatology {report.score.climatology.growth.mean:+.2e} a bet, e-value "
            f"{report.score.climatology.e_value:.3g}; over the odds "
            f"{report.score.implied.growth.mean:+.2e}, e-value {report.score.implied.e_value:.3g}: "
            "both need an e-value of 20, or an interval above 0"
        )
    return precondition("NOT_PROVEN", f"the model has not beaten the bars: {text}")


def _stage_name(stage: pb.ModelStage.ValueType) -> str:
    return pb.ModelStage.Name(stage).removeprefix("MODEL_STAGE_")


def _message(stored: StoredModel, *, with_document: bool = False) -> pb.Model:
    message = pb.Model.FromString(stored.details)
    message.stage = pb.ModelStage.Value(f"MODEL_STAGE_{stored.stage}")
    message.author = stored.author
    message.create_time.CopyFrom(timestamp(stored.create_time))
    if with_document:
        message.document = stored.document
    return message


def _change(item: StageChange) -> pb.ModelStageChange:
    return pb.ModelStageChange(
        stage=pb.ModelStage.Value(f"MODEL_STAGE_{item.stage}"),
        author=item.author,
        reason=item.reason,
        create_time=timestamp(item.create_time),
    )
