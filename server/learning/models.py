"""Models that decide: those that are live now, read from storage and kept."""

from dataclasses import dataclass

from compute.learn.document import ModelDocumentError, decode, digest
from compute.learn.models import Model
from server.calls.errors import precondition
from server.convert.model_records import ModelDetails, details_of, stored_message
from server.refreshing_cache import RefreshingCache
from storage.postgres import model_schedules, models
from storage.postgres.models import StoredModel
from storage.postgres.pool import Database

STAGE_AGE_MAX_S = 0.25
"""For so long after it was retired a model may still decide on another server."""
_MODELS_MAX = 64


@dataclass(frozen=True)
class ReadModel:
    """A stored model, checked and decoded, with what it was trained and compared on."""

    model: Model
    details: ModelDetails


def check_document(stored: StoredModel) -> None:
    """Raises `Refusal` where the document is not what was stored."""
    if digest(stored.document) != stored.hash.hex():
        text = f"the document of model {stored.model_id!r} doesn't have the hash it was stored with"
        raise precondition("MODEL_CORRUPT", text, model=stored.model_id)


def read(stored: StoredModel) -> ReadModel:
    """Raises `Refusal` where the stored text is not what was stored."""
    check_document(stored)
    name = f"the document of model {stored.model_id!r}"
    try:
        model = decode(stored.document)
    except ModelDocumentError as error:
        raise precondition("MODEL_UNREADABLE", f"{name} {error}") from error
    return ReadModel(model, details_of(stored_message(stored)))


class Models:
    """Live models of all tenants. Documents never change, stages are looked at again."""

    def __init__(self, database: Database, deadline_s: float) -> None:
        self._database = database
        self.deadline_s = deadline_s
        self._models: RefreshingCache[ReadModel] = RefreshingCache(float("inf"), _MODELS_MAX)
        self._current: RefreshingCache[tuple[str, str, bool]] = RefreshingCache(STAGE_AGE_MAX_S)

    async def live(self, tenant_id: str, name: str) -> ReadModel:
        """The model of that name, or the live version of that schedule, if it may decide.

        Raises `Refusal` for another stage, and where it may not decide while its intervals have no
        bounds; errors: `NotFound`.
        """
        key = (tenant_id, name)
        model_id, stage, is_unbounded = await self._current.get(key, lambda: self._stage(*key))
        if stage != "LIVE":
            what = f"model {name!r} is {stage.lower()}"
            what = what if model_id else f"no version of the model schedule {name!r} is live"
            raise precondition("MODEL_NOT_LIVE", f"{what}: only live models decide", model=name)
        key = (tenant_id, model_id)
        found = await self._models.get(key, lambda: self._read(*key))
        if is_unbounded and found.details.refuse_unbounded:
            text = f"model {model_id!r} has missed too often: its intervals have no bounds"
            raise precondition("INTERVALS_UNBOUNDED", text, model=model_id)
        return found

    def changed(self, tenant_id: str) -> None:
        """Forgets which models are live."""
        self._current.drop(lambda key: key[0] == tenant_id)

    async def _stage(self, tenant_id: str, name: str) -> tuple[str, str, bool]:
        async with self._database.connection(tenant_id, deadline_s=self.deadline_s) as connection:
            model_id, stage = await model_schedules.current(connection, tenant_id, name)
            is_unbounded = await models.is_unbounded(connection, tenant_id, model_id)
        return model_id, stage, is_unbounded

    async def _read(self, tenant_id: str, model_id: str) -> ReadModel:
        async with self._database.connection(tenant_id, deadline_s=self.deadline_s) as connection:
            return read(await models.get(connection, tenant_id, model_id))
