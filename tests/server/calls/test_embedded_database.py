"""A service on its own embedded PostgreSQL, which ends."""

import asyncio
import os
import signal
from pathlib import Path

import grpc
from positionsizing.v1 import sizing_service_pb2

from compute.optimize.execution import Programs
from compute.shapes import KernelRegistry
from server.app import App
from server.config import Config
from tests.server.support.service_client import Client, share_programs, sizing_request


async def test_a_database_that_was_killed_is_started_again_and_has_what_was_decided(
    kernels: KernelRegistry, tmp_path: Path
) -> None:
    share_programs(tmp_path / "kernels")
    config = Config(data_dir=tmp_path, listen_port=0, deadline_default_s=60.0)
    pid_file = tmp_path / "postgres" / "pgdata" / "postmaster.pid"

    def pid() -> int:
        return int(pid_file.read_text().split("\n", 1)[0])

    async with (
        App.started(config, Programs(kernels, config.joint_shapes)) as app,
        Client.connected(app.port) as client,
    ):
        portfolio_id = await client.ready()
        decided = await client.size(sizing_request(portfolio_id))
        killed = pid()
        os.kill(killed, signal.SIGKILL)
        while not pid_file.exists() or pid() == killed:  # noqa: ASYNC110  (a process tells nobody)
            await asyncio.sleep(0.05)
        request = sizing_service_pb2.GetDecisionRequest(decision_id=decided.decision_id)
        while True:
            try:
                found = (await client.sizing.GetDecision(request)).decision
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error.details()
                await asyncio.sleep(0.1)
        assert found == decided
        await client.size(sizing_request(portfolio_id))
    assert not pid_file.exists(), "it is stopped with the service"
