"""A page's own clients (Connect for the web, in each of its forms) call the service by the gateway.

Needs Node 20 or later with npm and its registry. Where they are missing the test is skipped, except
under CI=true.
"""

import asyncio
import shutil
from pathlib import Path

import pytest
from google.rpc import error_details_pb2
from positionsizing.v1 import market_service_pb2, portfolio_service_pb2

from compute.shapes import KernelRegistry
from storage import embedded
from tests.clients.foreign import BUILD_TIMEOUT_S, ROOT, npm_packages, protoc, run
from tests.server.gateway.test_gateway import gateway_for
from tests.server.support.service_client import Client, started

SOURCES = Path(__file__).parent / "web"
ORIGIN = "https://desk.example"
pytestmark = pytest.mark.timeout(2 * BUILD_TIMEOUT_S)


@pytest.fixture(scope="module")
def program() -> Path:
    """The page's program, beside its packages and what is generated from the contract."""
    folder = ROOT / ".cache" / "web"
    tools = npm_packages(SOURCES, folder, "web")
    shutil.rmtree(folder / "gen", ignore_errors=True)
    (folder / "gen").mkdir()
    shutil.copy(SOURCES / "main.js", folder)
    errors = Path(error_details_pb2.__file__)  # its source is beside it
    protoc(
        f"--plugin=protoc-gen-es={tools / 'protoc-gen-es'}",
        f"--es_out={folder / 'gen'}",
        "--es_opt=target=js,import_extension=js",
        f"-I{errors.parents[2]}",
        "google/rpc/error_details.proto",
    )
    return folder / "main.js"


async def put_market_and_portfolio(client: Client) -> None:
    snapshot = market_service_pb2.MarketSnapshot(
        snapshot_id="page", instrument_ids=["PAGE"], price=[100.0]
    )
    snapshot.as_of_time.GetCurrentTime()
    put = market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot)
    await client.market.PutMarketSnapshot(put)
    await client.put_portfolio(1e6, portfolio_id="page")
    await client.set_limits(portfolio_service_pb2.Scope(portfolio_id="page"), weight_max=0.05)


async def test_a_page_of_a_named_origin_calls_by_grpc_web_and_connect(
    program: Path,
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path: Path,
) -> None:
    async with (
        started(postgres_server, kernels, tmp_path) as app,
        Client.connected(app.port) as client,
        gateway_for(app.port, "--origin", ORIGIN) as gateway,
    ):
        await put_market_and_portfolio(client)
        page = ("node", str(program), f"http://127.0.0.1:{gateway.port}")
        output = await asyncio.to_thread(run, *page, ORIGIN, cwd=tmp_path)
        with pytest.raises(RuntimeError, match="Disallowed CORS origin"):
            await asyncio.to_thread(run, *page, "https://evil.example", cwd=tmp_path)
    assert output.splitlines() == [
        line
        for name in ("grpc-web", "connect", "connect json")
        for line in (
            f"{name} lots 500",
            f"{name} refused InvalidArgument signals.win_probability[0]",
            f"{name} stream simulateGrowth",
            f"{name} stream refused InvalidArgument",
        )
    ]
