"""Models that decide: those that are live now, read from storage and kept."""

from dataclasses import dataclass

from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.document import ModelDocumentError, decode, digest
from compute.learn.models import Model
from server.errors import precondition
from server.refreshing_cache import RefreshingCache
from storage.postgres import models
from storage.postgres.models import StoredModel
from storage.postgres.pool import Database

STAGE_AGE_MAX_S = 0.25
"""For so long after it was retired a model may still decide on another server."""
_MODELS_MAX = 64


@dataclass(frozen=True)
class ReadModel:
    """A stored model, checked and decoded; `details` without the document."""

    model: Model
    details: pb.Model


def read(stored: StoredModel) -> ReadModel:
    """Raises `Refusal` where the stored text is not what was stored."""
    name = f"the document of model {stored.model_id!r}"
    if digest(stored.document) != stored.hash.hex():
        raise precondition("MODEL_CORRUPT", f"{name} doesn't have the hash it was stored with")
    try:
        return ReadModel(decode(stored.document), pb.Model.FromString(stored.details))
    except ModelDocumentError as error:
        raise precondition("MODEL_UNREADABLE", f"{name} {error}") from error


class Models:
    """Live models of all tenants. Documents never change, stages are looked at again."""

    def __init__(self, database: Database, deadline_s: float) -> None:
        self._database = database
        self._deadline_s = deadline_s
        self._models: RefreshingCache[ReadModel] = RefreshingCache(float("inf"), _MODELS_MAX)
        self._stages: RefreshingCache[str] = RefreshingCache(STAGE_AGE_MAX_S)

    async def live(self, tenant_id: str, model_id: str) -> ReadModel:
        """A model that may decide. Raises `Refusal` for another stage; errors: `NotFound`."""
        key = (tenant_id, model_id)
        stage = await self._stages.get(key, lambda: self._stage(*key))
        if stage != "LIVE":
            text = f"model {model_id!r} is {stage.lower()}: only live models decide"
            raise precondition("MODEL_NOT_LIVE", text, model=model_id)
        return await self._models.get(key, lambda: self._read(*key))

    def changed(self, tenant_id: str, model_id: str) -> None:
        """Forgets which stage a model is in."""
        self._stages.drop(lambda key: key == (tenant_id, model_id))

    async def _stage(self, tenant_id: str, model_id: str) -> str:
        async with self._database.connection(deadline_s=self._deadline_s) as connection:
            return await models.stage_of(connection, tenant_id, model_id)

    async def _read(self, tenant_id: str, model_id: str) -> ReadModel:
        async with self._database.connection(deadline_s=self._deadline_s) as connection:
            return read(await models.get(connection, tenant_id, model_id))
