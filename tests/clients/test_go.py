"""A client in Go, generated from the contract and compiled here, really calls the service.

Needs Go and its module proxy. Where they are missing the test is skipped, except under CI=true.
"""

import asyncio
import importlib.resources
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from service_client import started

from compute.shapes import KernelRegistry
from storage import embedded

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).parent / "go"
PLUGINS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.34.2",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.4.0",
)
MODULE = "positionsizing.example/gen"

# A cold build of the client compiles all of gRPC.
BUILD_TIMEOUT_S = 900
pytestmark = pytest.mark.timeout(2 * BUILD_TIMEOUT_S)


def missing(what: str) -> None:
    """Skips loudly; fails where a continuous build should have it."""
    text = f"the Go client was NOT tested: {what}"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def run(*arguments: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        arguments,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    return done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled client."""
    if shutil.which("go") is None:
        missing("there is no `go`")
    folder = tmp_path_factory.mktemp("go")
    tools = ROOT / ".cache" / "go"
    try:
        for plugin in PLUGINS:
            if not (tools / plugin.split("/")[-1].split("@")[0]).exists():
                run("go", "install", plugin, cwd=folder, GOBIN=str(tools))
    except RuntimeError as error:
        missing(str(error))
    client = folder / "client"
    shutil.copytree(SOURCES, client)
    generated = client / "gen"
    generated.mkdir()
    (generated / "go.mod").write_text(f"module {MODULE}\n\ngo 1.21\n")
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    protos = sorted(str(p.relative_to(ROOT / "protos")) for p in (ROOT / "protos").rglob("*.proto"))
    run(
        *(sys.executable, "-m", "grpc_tools.protoc", "-I.", f"-I{well_known}"),
        *(f"--go_out={generated}", f"--go_opt=module={MODULE}"),
        *(f"--go-grpc_out={generated}", f"--go-grpc_opt=module={MODULE}"),
        *protos,
        cwd=ROOT / "protos",
        PATH=f"{tools}{os.pathsep}{os.environ['PATH']}",
    )
    try:
        run("go", "mod", "download", cwd=client)
    except RuntimeError as error:
        missing(str(error))
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
