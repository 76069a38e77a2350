"""What the tests of clients in other languages share: their tools, and the code they generate."""

import importlib.resources
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD_TIMEOUT_S = 900
"""A cold build of a client compiles all of gRPC."""


def missing(language: str, what: str) -> None:
    """Skips loudly; fails where a continuous build should have it."""
    text = f"the {language} client was NOT tested: {what}"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def run(*arguments: str, cwd: Path, **environment: str) -> str:
    """What a command wrote. RuntimeError with its errors where it fails."""
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
        raise RuntimeError(f"{' '.join(arguments)}: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def npm_packages(sources: Path, folder: Path, language: str) -> Path:
    """Installs what `sources/package-lock.json` names, unless it is there; where its tools are."""
    if shutil.which("npm") is None:
        missing(language, "there is no `npm`")
    folder.mkdir(parents=True, exist_ok=True)
    lock, installed = sources / "package-lock.json", folder / "installed.json"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        shutil.copy(lock, folder)
        shutil.copy(sources / "package.json", folder)
        try:
            run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
        except RuntimeError as error:
            missing(language, str(error))
        shutil.copy(lock, installed)
    return folder / "node_modules" / ".bin"


def protoc(*options: str, **environment: str) -> None:
    """Generates code from the contract with the plugins that the options name."""
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    protos = sorted(str(p.relative_to(ROOT / "protos")) for p in (ROOT / "protos").rglob("*.proto"))
    command = (sys.executable, "-m", "grpc_tools.protoc", "-I.", f"-I{well_known}")
    run(*command, *options, *protos, cwd=ROOT / "protos", **environment)
