"""The versions of a schedule: how they come, follow each other, and go.

    trained -> CANDIDATE -> SHADOW -> LIVE -> SHADOW (the predecessor of the next) -> RETIRED

One version of a schedule is live. A new candidate retires the candidate before; a version that goes
live makes the one before its predecessor, and retires the predecessor before that.
"""

import asyncpg
from positionsizing.v1 import learning_service_pb2 as pb

from compute.analytics.forecasts import E_VALUE_GONE
from server.convert.events import Severity
from server.learning.model_evidence import scored, unproven
from server.learning.models import Models, read
from server.observability.alerts import INFO, WARNING, alert
from storage.errors import NotFound
from storage.postgres import model_schedules, models, outbox
from storage.postgres.model_schedules import StoredSchedule
from storage.postgres.models import StageChange, StoredModel

AUTHOR = "service:model-schedules"


class ModelVersions:
    """Every method works in the caller's transaction; tell `changed` after it."""

    def __init__(self, live: Models) -> None:
        self._live = live

    def changed(self, tenant_id: str) -> None:
        """Forgets which models are live."""
        self._live.changed(tenant_id)

    async def add(
        self, connection: asyncpg.Connection, stored: StoredSchedule, made: pb.Model
    ) -> None:
        """A new candidate, which goes live at once where policy and evidence allow it."""
        tenant_id = stored.tenant_id
        await model_schedules.lock(connection, tenant_id, stored.schedule_id)
        for version in await model_schedules.versions(connection, tenant_id, stored.schedule_id):
            if version.stage == "CANDIDATE":
                await _move(connection, tenant_id, version, "RETIRED", f"{made.model_id} is newer")
        document, digest = made.document, bytes.fromhex(made.hash)
        made.ClearField("document")
        made.schedule_id = stored.schedule_id
        added = await models.put(
            connection,
            tenant_id,
            made.model_id,
            author=AUTHOR,
            document=document,
            digest=digest,
            details=made.SerializeToString(deterministic=True),
            schedule_id=stored.schedule_id,
        )
        schedule = pb.ModelSchedule.FromString(stored.document)
        if schedule.promotion != pb.PROMOTION_POLICY_WITH_EVIDENCE:
            return
        if await unproven(read(added), []) is None:
            reason = "beat the bars; the schedule's policy"
            await _move(connection, tenant_id, added, "SHADOW", reason)
            await self.go_live(connection, tenant_id, added, author=AUTHOR, reason=reason)
            text = f"{added.model_id} decides now: it has beaten the bars with evidence"
            await _tell(connection, tenant_id, added, INFO, "MODEL_PROMOTED", text)

    async def go_live(
        self,
        connection: asyncpg.Connection,
        tenant_id: str,
        model: StoredModel,
        *,
        author: str,
        reason: str,
    ) -> StageChange:
        """Moves a model to LIVE; of a schedule the live version becomes the predecessor."""
        if model.schedule_id:
            await model_schedules.lock(connection, tenant_id, model.schedule_id)
            for version in await model_schedules.versions(connection, tenant_id, model.schedule_id):
                if version.model_id == model.model_id:
                    continue
                if version.stage == "LIVE":
                    text = f"{model.model_id} is live in its place"
                    await _move(connection, tenant_id, version, "SHADOW", text)
                elif await _is_predecessor(connection, tenant_id, version):
                    text = f"{model.model_id} is live, with another predecessor"
                    await _move(connection, tenant_id, version, "RETIRED", text)
        return await models.move(
            connection, tenant_id, model.model_id, "LIVE", author=author, reason=reason
        )

    async def judge(
        self, connection: asyncpg.Connection, tenant_id: str, model_id: str, e_value: float
    ) -> None:
        """Retires a live version whose edge is gone, as its schedule's policy says."""
        version = await model_schedules.lock_model(connection, tenant_id, model_id)
        if e_value < E_VALUE_GONE or not version.schedule_id or version.stage != "LIVE":
            return
        try:
            stored = await model_schedules.get(connection, tenant_id, version.schedule_id)
        except NotFound:
            return  # the schedule has ended, and its policy with it
        policy = pb.ModelSchedule.FromString(stored.document).retirement
        gone = f"the edge of {model_id} is gone: the e-value against it is {e_value:.3g}"
        if policy == pb.RETIREMENT_POLICY_KEEP:
            if await model_schedules.warned(connection, stored, model_id):
                text = f"{gone}. It decides on, as the policy of its schedule says"
                await _tell(connection, tenant_id, version, WARNING, "MODEL_EDGE_GONE", text)
            return
        await _move(connection, tenant_id, version, "RETIRED", gone)
        text = f"{gone}. It is retired; lines that ask {stored.schedule_id} are refused"
        if policy == pb.RETIREMENT_POLICY_PREDECESSOR:
            before = await self._predecessor(connection, stored)
            if before is not None:
                reason = f"{gone}; this one was live before"
                await models.move(
                    connection, tenant_id, before.model_id, "LIVE", author=AUTHOR, reason=reason
                )
                text = f"{gone}. It is retired; {before.model_id}, live before, decides again"
        await _tell(connection, tenant_id, version, WARNING, "MODEL_RETIRED", text)

    async def _predecessor(
        self, connection: asyncpg.Connection, stored: StoredSchedule
    ) -> StoredModel | None:
        """The version that was live before, unless its edge is gone as well."""
        tenant_id = stored.tenant_id
        for version in await model_schedules.versions(connection, tenant_id, stored.schedule_id):
            if await _is_predecessor(connection, tenant_id, version):
                scores = await models.scores(connection, tenant_id, version.model_id)
                known = read(version)
                if not scores or (await scored(known, scores)).e_value_gone < E_VALUE_GONE:
                    return version
        return None


async def _is_predecessor(
    connection: asyncpg.Connection, tenant_id: str, version: StoredModel
) -> bool:
    if version.stage != "SHADOW":
        return False
    return await model_schedules.was_live(connection, tenant_id, version.model_id)


async def _move(
    connection: asyncpg.Connection, tenant_id: str, model: StoredModel, stage: str, reason: str
) -> None:
    await models.move(connection, tenant_id, model.model_id, stage, author=AUTHOR, reason=reason)


async def _tell(
    connection: asyncpg.Connection,
    tenant_id: str,
    model: StoredModel,
    severity: Severity,
    reason: str,
    text: str,
) -> None:
    event = alert(severity, reason, text, f"model:{model.model_id}")
    await outbox.append(connection, tenant_id, "", [event])
