"""A client in Go, generated from the contract and compiled here, really calls the service.

Needs Go and its module proxy. Where they are missing the test is skipped, except under CI=true.
"""

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from foreign import BUILD_TIMEOUT_S, ROOT, missing, protoc, run
from service_client import started

from compute.shapes import KernelRegistry
from storage import embedded

SOURCES = Path(__file__).parent / "go"
PLUGINS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.34.2",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.4.0",
)
MODULE = "positionsizing.example/gen"

pytestmark = pytest.mark.timeout(2 * BUILD_TIMEOUT_S)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled client."""
    if shutil.which("go") is None:
        missing("Go", "there is no `go`")
    folder = tmp_path_factory.mktemp("go")
    tools = ROOT / ".cache" / "go"
    try:
        for plugin in PLUGINS:
            if not (tools / plugin.split("/")[-1].split("@")[0]).exists():
                run("go", "install", plugin, cwd=folder, GOBIN=str(tools))
    except RuntimeError as error:
        missing("Go", str(error))
    client = folder / "client"
    shutil.copytree(SOURCES, client)
    generated = client / "gen"
    generated.mkdir()
    (generated / "go.mod").write_text(f"module {MODULE}\n\ngo 1.21\n")
    protoc(
        *(f"--go_out={generated}", f"--go_opt=module={MODULE}"),
        *(f"--go-grpc_out={generated}", f"--go-grpc_opt=module={MODULE}"),
        PATH=f"{tools}{os.pathsep}{os.environ['PATH']}",
    )
    try:
        run("go", "mod", "download", cwd=client)
    except RuntimeError as error:
        missing("Go", str(error))
    run("go", "build", "-o", "client", ".", cwd=client)
    return client / "client"


async def test_a_client_in_go_sizes_a_signal(
    program: Path,
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path: Path,
) -> None:
    async with started(postgres_server, kernels, tmp_path) as app:
        address = f"127.0.0.1:{app.port}"
        output = await asyncio.to_thread(run, str(program), address, cwd=tmp_path)
    assert output.splitlines() == [
        "lots 500 LIMIT_KIND_WEIGHT_MAX",
        "refused signals.win_probability[0]",
    ]
