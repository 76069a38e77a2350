"""A client in TypeScript, generated from the contract and type-checked here, calls the service.

Needs Node 18 or later with npm and its registry. Where they are missing the test is skipped, except
under CI=true.
"""

import asyncio
import shutil
from pathlib import Path

import pytest

from compute.shapes import KernelRegistry
from storage import embedded
from tests.clients.foreign import BUILD_TIMEOUT_S, ROOT, npm_packages, protoc, run
from tests.server.support.service_client import started

SOURCES = Path(__file__).parent / "node"
pytestmark = pytest.mark.timeout(2 * BUILD_TIMEOUT_S)


@pytest.fixture(scope="module")
def program() -> Path:
    """The compiled client, in a folder that keeps its packages between runs."""
    folder = ROOT / ".cache" / "node"
    tools = npm_packages(SOURCES, folder, "TypeScript")
    for name in ("gen", "out"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "gen").mkdir()
    for name in ("main.ts", "tsconfig.json"):
        shutil.copy(SOURCES / name, folder)
    protoc(
        f"--plugin=protoc-gen-ts_proto={tools / 'protoc-gen-ts_proto'}",
        f"--ts_proto_out={folder / 'gen'}",
        "--ts_proto_opt=outputServices=grpc-js,esModuleInterop=true,forceLong=number",
    )
    run(str(tools / "tsc"), "-p", ".", cwd=folder)
    return folder / "out" / "main.js"


async def test_a_client_in_typescript_sizes_a_signal(
    program: Path,
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path: Path,
) -> None:
    async with started(postgres_server, kernels, tmp_path) as app:
        address = f"127.0.0.1:{app.port}"
        output = await asyncio.to_thread(run, "node", str(program), address, cwd=tmp_path)
    assert output.splitlines() == [
        "contract positionsizing.v1 lines at most 100000",
        "lots 500 LIMIT_KIND_WEIGHT_MAX",
        "refused INVALID_ARGUMENT signals.win_probability[0]",
    ]
