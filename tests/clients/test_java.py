"""A client in Java, generated from the contract and compiled here, really calls the service.

Needs a JDK of 17 or later, Maven and its central repository. Where they are missing the test is
skipped, except under CI=true.
"""

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from compute.shapes import KernelRegistry
from storage import embedded
from tests.clients.foreign import BUILD_TIMEOUT_S, ROOT, missing, run
from tests.server.support.service_client import started

SOURCES = Path(__file__).parent / "java"

pytestmark = pytest.mark.timeout(2 * BUILD_TIMEOUT_S)


def build(folder: Path) -> Path:
    """The sources with the client compiled among them."""
    for program in ("mvn", "javac"):
        if shutil.which(program) is None:
            missing("Java", f"there is no `{program}`")
    target = folder / "java"
    shutil.copytree(SOURCES, target)
    try:
        run("mvn", "-q", "-B", f"-Dprotos={ROOT / 'protos'}", "compile", cwd=target)
    except RuntimeError as error:
        if "COMPILATION ERROR" in str(error):
            raise
        missing("Java", str(error))
    return target


async def test_a_client_in_java_sizes_a_signal(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    project = await asyncio.to_thread(build, tmp_path)
    async with started(postgres_server, kernels, tmp_path / "data") as app:
        address = f"127.0.0.1:{app.port}"
        output = await asyncio.to_thread(
            run,
            *("mvn", "-q", "-B", f"-Dprotos={ROOT / 'protos'}", "exec:java"),
            f"-Dexec.args={address}",
            cwd=project,
        )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)  # Maven colours even what isn't its own
    assert plain.splitlines() == [
        "contract positionsizing.v1 lines at most 100000",
        "lots 500 LIMIT_KIND_WEIGHT_MAX",
        "refused signals.win_probability[0]",
    ]
