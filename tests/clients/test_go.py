"""A client and an algorithm in Go, compiled here, really work with the service.

Needs Go and its module proxy. Where they are missing the tests are skipped, except under CI=true.
"""

import asyncio
from pathlib import Path

import grpc
import pytest
from positionsizing.v1 import parameter_service_pb2, types_pb2

from compute.shapes import KernelRegistry
from server.algorithms.conformance import Verdict, conformance
from server.algorithms.registry import Algorithms
from storage import embedded
from tests.clients.foreign import BUILD_TIMEOUT_S, ROOT, run
from tests.clients.golang import build
from tests.server.support.service_client import Client, sizing_request, started

SOURCES = Path(__file__).parent / "go"
CONFIG = ROOT / "protos" / "python" / "positionsizing" / "service_config.json"

pytestmark = pytest.mark.timeout(2 * BUILD_TIMEOUT_S)


async def test_a_client_in_go_sizes_a_signal(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path: Path,
) -> None:
    program = await asyncio.to_thread(build, SOURCES, tmp_path)
    async with started(postgres_server, kernels, tmp_path) as app:
        address = f"127.0.0.1:{app.port}"
        output = await asyncio.to_thread(run, str(program), address, str(CONFIG), cwd=tmp_path)
    assert output.splitlines() == [
        "contract positionsizing.v1 lines at most 100000",
        "lots 500 LIMIT_KIND_WEIGHT_MAX",
        "refused signals.win_probability[0]",
    ]


async def test_an_algorithm_in_go_sizes_and_does_what_it_has_to(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    sources = ROOT / "examples" / "algorithms" / "go"
    program = await asyncio.to_thread(build, sources, tmp_path)
    address = f"unix:{tmp_path}/a"
    process = await asyncio.create_subprocess_exec(str(program), address)
    settings = tmp_path / "algorithms.toml"
    settings.write_text(
        f'[capped-kelly]\naddress = "{address}"\nversion = "1.0"\ndeadline_ms = 10000\n'
    )
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            await asyncio.wait_for(channel.channel_ready(), 60.0)
        chosen = Algorithms.of(settings)
        found = await conformance("capped-kelly", chosen, {})
        await chosen.close()
        assert Verdict.FAIL not in {item.verdict for item in found}, found
        async with (
            started(postgres_server, kernels, tmp_path / "data", algorithms_file=settings) as app,
            Client.connected(app.port) as client,
        ):
            portfolio_id = await client.ready()
            request = sizing_request(portfolio_id, ["I0", "I1"], {"win_probability": [0.6, 0.53]})
            request.method = types_pb2.SIZING_METHOD_CUSTOM
            request.algorithm.CopyFrom(parameter_service_pb2.AlgorithmChoice(name="capped-kelly"))
            decision = await client.size(request)
        assert list(decision.algorithm.weight) == pytest.approx([0.05, 0.03])
        assert list(decision.sizes.weight) == pytest.approx([0.05, 0.03], abs=1e-4)
    finally:
        process.kill()
        await process.wait()
