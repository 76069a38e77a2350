"""Models: what is stored beside their documents has hashes, and a changed byte is seen."""

import hashlib

import asyncpg
import pytest

from storage.errors import FailedPrecondition
from storage.postgres import models, tenants
from storage.postgres.pool import Database
from tests.fixtures_postgres import TENANT

DOCUMENT = "{}"
DIGEST = hashlib.sha256(DOCUMENT.encode()).digest()


async def test_a_changed_score_of_a_model_is_seen(database: Database, postgres_dsn: str) -> None:
    del database  # it makes the tenant
    connection = await asyncpg.connect(postgres_dsn)
    await tenants.ensure(connection, TENANT)
    # As the release before adds them, which knows of no hashes.
    await connection.execute(
        """INSERT INTO model (tenant_id, model_id, author, document, hash, details)
        VALUES ($1, 'm', 'ann', $2, $3, $4)""",
        *(TENANT, DOCUMENT, DIGEST, b"details"),
    )
    await models.move(connection, TENANT, "m", "CANDIDATE", author="ann", reason="trained")
    for payload in (b'{"start": [1]}', b'{"start": [2]}'):
        await models.add_score(
            connection, TENANT, "m", author="ann", payload=payload, is_unbounded=False
        )
    stored = await models.get(connection, TENANT, "m")
    assert stored.details_hash == hashlib.sha256(b"details").digest()
    assert len(await models.scores(connection, TENANT, "m")) == 2

    change = "UPDATE model_score SET payload = '{\"start\": [3]}' WHERE sequence = 2"
    await connection.execute("ALTER TABLE model_score DISABLE TRIGGER USER")
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(change)
    await connection.execute("ALTER TABLE model_score DROP CONSTRAINT model_score_check")
    await connection.execute(change)
    with pytest.raises(FailedPrecondition, match="not what was stored") as refused:
        await models.scores(connection, TENANT, "m")
    assert refused.value.reason == "MODEL_CORRUPT"
    await connection.close()
