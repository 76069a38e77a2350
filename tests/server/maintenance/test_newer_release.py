"""What a server of a newer release has stored, read by this one while servers are replaced."""

import json
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from positionsizing.v1 import parameter_service_pb2, portfolio_service_pb2
from positionsizing.v1 import sizing_service_pb2 as pb

from compute.shapes import KernelRegistry
from storage import embedded
from tests.fixtures_postgres import create_database
from tests.server.support.service_client import Client, refusal, sizing_request, started


async def rewrite(dsn: str, statement: str, *values: object) -> None:
    owner = await asyncpg.connect(dsn)
    await owner.execute("SET session_replication_role = replica")  # past the triggers
    assert (await owner.execute(statement, *values)).split()[-1] == "1"
    await owner.close()


@pytest.mark.parametrize("where", ["of the document", "of limits", "of joint limits"])
async def test_a_record_with_a_field_of_a_newer_release_is_named_and_not_replayed(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path, where: str
) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    async with (
        started(postgres_server, kernels, tmp_path, dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        made = await client.size(sizing_request(await client.ready()))
        decision_id = UUID(made.decision_id)
        owner = await asyncpg.connect(dsn)
        data = await owner.fetchval(
            "SELECT inputs FROM decision WHERE decision_id = $1", decision_id
        )
        await owner.close()
        document = json.loads(data)
        inside = {
            "of the document": document,
            "of limits": document["limits"],
            "of joint limits": document["limits"]["joint"],
        }[where]
        inside["moon_phase_max"] = 0.5
        statement = "UPDATE decision SET inputs = $1 WHERE decision_id = $2"
        await rewrite(dsn, statement, json.dumps(document).encode(), decision_id)
        replay = pb.ReplayDecisionRequest(decision_id=made.decision_id)
        told = await refusal(client.sizing.ReplayDecision(replay))
        assert (told.code.name, told.reason) == ("FAILED_PRECONDITION", "RECORDED_BY_NEWER_RELEASE")
        assert "moon_phase_max" in told.message


@pytest.mark.parametrize("kind", ["limits", "parameters"])
async def test_a_bound_of_a_newer_release_is_not_left_out(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path, kind: str
) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    async with (
        started(postgres_server, kernels, tmp_path / "a", dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        book = await client.ready()
        scope = portfolio_service_pb2.Scope(portfolio_id=book)
        await client.set_limits(scope, weight_max=0.05)
        given = parameter_service_pb2.SizingParameters(kelly_fraction=0.5)
        await client.parameter.SetParameters(
            parameter_service_pb2.SetParametersRequest(portfolio_id=book, parameters=given)
        )
    statement = {
        "limits": """UPDATE limit_set SET document = jsonb_set(document, '{limits,moon_max}', '1')
            WHERE (scope_id, version) IN (SELECT scope_id, max(version) FROM limit_set
                WHERE scope_id = $1 GROUP BY scope_id)""",
        "parameters": """UPDATE parameter_set SET document = jsonb_set(document, '{moon_max}', '1')
            WHERE portfolio_id = $1""",
    }[kind]
    await rewrite(dsn, statement, book)
    async with (
        started(postgres_server, kernels, tmp_path / "b", dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        told = await refusal(client.size(sizing_request(book)))
        assert (told.code.name, told.reason) == ("UNAVAILABLE", "STORED_BY_NEWER_RELEASE")
        assert "moon_max" in told.message
