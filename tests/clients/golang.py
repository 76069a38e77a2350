"""Programs in Go, with code generated out of the contract, compiled for tests."""

import os
import shutil
from pathlib import Path

from tests.clients.foreign import ROOT, missing, protoc, run

PLUGINS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.34.2",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.4.0",
)
MODULE = "positionsizing.example/gen"


def build(sources: Path, folder: Path) -> Path:
    """The program that `sources` make, compiled in `folder`; skips where Go is missing."""
    if shutil.which("go") is None:
        missing("Go", "there is no `go`")
    tools = ROOT / ".cache" / "go"
    try:
        for plugin in PLUGINS:
            if not (tools / plugin.split("/")[-1].split("@")[0]).exists():
                run("go", "install", plugin, cwd=folder, GOBIN=str(tools))
    except RuntimeError as error:
        missing("Go", str(error))
    target = folder / "program"
    shutil.copytree(sources, target)
    generated = target / "gen"
    generated.mkdir()
    (generated / "go.mod").write_text(f"module {MODULE}\n\ngo 1.21\n")
    protoc(
        *(f"--go_out={generated}", f"--go_opt=module={MODULE}"),
        *(f"--go-grpc_out={generated}", f"--go-grpc_opt=module={MODULE}"),
        PATH=f"{tools}{os.pathsep}{os.environ['PATH']}",
    )
    try:
        run("go", "mod", "download", cwd=target)
    except RuntimeError as error:
        missing("Go", str(error))
    run("go", "build", "-o", "made", ".", cwd=target)
    return target / "made"
