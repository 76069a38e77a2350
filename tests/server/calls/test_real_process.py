"""A service as a process of its own: it serves before all is there, and ends whatever runs.

Nothing here depends on how fast the machine is: what takes time is waited for.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from positionsizing.v1 import market_service_pb2
from positionsizing.v1 import optimization_service_pb2 as pb

from server.process import FORCED
from storage import embedded
from tests.fixtures_kernels import CACHE
from tests.fixtures_postgres import create_database
from tests.server.support.service_client import Client, refusal, sizing_request

N, PERIODS = 16, 64


@dataclass
class Service:
    """The process and its port."""

    process: asyncio.subprocess.Process
    port: int
    said: list[str]
    reading: asyncio.Task[None]

    async def end(self) -> None:
        """By force, if it hasn't ended; shows what it said if the test fails."""
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        print("".join(self.said[-40:])[-6000:].replace("\\n", "\n"))


async def start(dsn: str, folder: Path, **settings: str) -> Service:
    """`sizing serve` for small joint problems, once it says that it serves."""
    (folder / "data").mkdir(parents=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    (folder / "data" / "kernels").symlink_to(CACHE)
    given = {
        "SIZING_DSN": dsn,
        "SIZING_DATA_DIR": str(folder / "data"),
        "SIZING_LISTEN_PORT": "0",
        "SIZING_LOG_JSON": "true",
        "SIZING_JOINT_ASSETS": f"[{N}]",
        "SIZING_JOINT_SCENARIOS": f"[{PERIODS}]",
        "SIZING_DRAIN_S": "1",
        **settings,
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIZING_")} | given
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server.cli", "serve", env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    said = []
    async for line in process.stderr:
        said.append(line.decode())
        if '"serving"' in said[-1]:
            found = re.search(r"127\.0\.0\.1:(\d+)", said[-1])
            assert found is not None
            reading = asyncio.create_task(_read_on(process.stderr, said))
            return Service(process, int(found[1]), said, reading)
    raise AssertionError("".join(said[-20:]))


async def _read_on(stream: asyncio.StreamReader, said: list[str]) -> None:
    async for line in stream:
        said.append(line.decode())


@pytest_asyncio.fixture
async def service(
    postgres_server: embedded.EmbeddedServer, tmp_path: Path
) -> AsyncIterator[Service]:
    """A service of its own for the test."""
    running = await start(create_database(postgres_server, template=embedded.DATABASE), tmp_path)
    yield running
    await running.end()


def problem(kind: str) -> pb.OptimizationProblem:
    """A book of scenarios."""
    names = [f"I{i}" for i in range(N)]
    returns = 0.02 * np.random.default_rng(3).standard_normal((PERIODS, N)) + 0.001
    scenarios = market_service_pb2.Matrix(
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS, instrument_ids=names
    )
    scenarios.dense.values[:] = returns.ravel()
    objective = pb.Objective(kind=pb.ObjectiveKind.Value(f"OBJECTIVE_KIND_{kind}"))
    return pb.OptimizationProblem(
        instrument_ids=names, objective=objective, scenarios=scenarios, budget_min=1.0
    )


def endless() -> Message:
    """A frontier of as many points as there may be."""
    return pb.TraceFrontierRequest(problem=problem("MIN_CDAR"), point_count=200)


async def test_it_serves_before_all_is_there_and_ends_in_the_middle_of_joint_work(
    service: Service,
) -> None:
    async with Client.connected(service.port) as client:
        portfolio_id = await client.ready()
        assert await client.size(sizing_request(portfolio_id))  # joint programs or not
        optimum = pb.OptimizePortfolioRequest(problem=problem("LOG_GROWTH"))
        # Its programs are made next; the call waits for them.
        answer = await client.optimization.OptimizePortfolio(optimum, timeout=3600)
        assert answer.status == pb.OPTIMIZATION_STATUS_OPTIMAL
        # A caller that goes away leaves the place to the next.
        gone = client.optimization.TraceFrontier(endless(), timeout=3600)
        await asyncio.sleep(0.5)
        gone.cancel()
        again = await client.optimization.OptimizePortfolio(optimum, timeout=3600)
        assert list(again.weights) == list(answer.weights)
        running = client.optimization.TraceFrontier(endless(), timeout=3600)
        await asyncio.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        if not running.done():
            try:
                await running
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
        code = await service.process.wait()
    assert code != FORCED
    assert code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_while_it_starts(
    postgres_server: embedded.EmbeddedServer, tmp_path: Path, number: signal.Signals
) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    (tmp_path / "data").mkdir()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("SIZING_")},
        "SIZING_DSN": dsn,
        "SIZING_DATA_DIR": str(tmp_path / "data"),  # nothing is compiled yet
        "SIZING_LISTEN_PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server.cli", "serve", env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async for line in process.stderr:
        if b"storage open" in line:
            break
    process.send_signal(number)
    rest = await process.stderr.read()
    assert await process.wait() == 0, rest.decode()


async def test_a_call_without_a_deadline_ends_at_the_servers_own(
    postgres_server: embedded.EmbeddedServer, tmp_path: Path
) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    service = await start(dsn, tmp_path, SIZING_DEADLINE_DEFAULT_S="0.5")
    try:
        async with Client.connected(service.port) as client:
            known = pb.OptimizePortfolioRequest(problem=problem("MIN_CDAR"))
            await client.optimization.OptimizePortfolio(known, timeout=3600)
            told = await refusal(client.optimization.TraceFrontier(endless()))
            while told.reason == "PREPARING":  # a slow machine is still compiling
                await asyncio.sleep(1.0)
                told = await refusal(client.optimization.TraceFrontier(endless()))
            assert (told.code.name, told.reason) in {
                ("DEADLINE_EXCEEDED", "DEADLINE"),
                ("FAILED_PRECONDITION", "TOO_LONG"),
            }
    finally:
        await service.end()
