"""Threats of `docs/security.md` that no other test is about."""

import ast
import asyncio
import os
import re
import subprocess
import time
from pathlib import Path

import grpc
import pytest

from compute.shapes import KernelRegistry
from server.auth.keyset import ASKED_MIN_S, KeySet
from server.cli import app as cli
from storage import embedded
from tests.server.support.credentials import AUDIENCE, ISSUER, Issuer
from tests.server.support.raw_calls import offer
from tests.server.support.service_client import Client, started

ROOT = Path(__file__).parents[3]
SECRETS = re.compile(
    rb"-----BEGIN (?:EC |RSA |OPENSSH |ENCRYPTED )?PRIVATE KEY-----\n[A-Za-z0-9+/]"
    rb"|psk_[0-9a-f]{8}_[A-Za-z0-9_-]{43}"
    rb"|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
)
PATH = "/positionsizing.v1.SizingService/SizePositions"


async def test_a_small_message_that_unpacks_to_a_large_one_is_refused(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    """32 MiB of zeros, which travel as 32 KiB, to a server that takes 1 MiB."""
    async with started(postgres_server, kernels, tmp_path, message_bytes_max=1 << 20) as app:
        gzip = grpc.Compression.Gzip
        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}", compression=gzip) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(PATH)(bytes(32 << 20))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        async with Client.connected(app.port) as client:
            assert await client.ready(), "it goes on serving"


async def test_memory_stays_flat_under_200_large_bodies_of_strangers(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    """12.5 GiB in all, at once, of which the server takes next to nothing."""
    body, streams, connections = 64 << 20, 50, 4
    async with started(
        postgres_server,
        kernels,
        tmp_path,
        auth="required",
        jwks=str(Issuer().write(tmp_path / "keys.json")),
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
    ) as app:
        before = highest = resident()
        asked = asyncio.gather(
            *(
                asyncio.to_thread(offer, app.port, PATH, streams=streams, body=body)
                for _ in range(connections)
            )
        )
        while not asked.done():
            highest = max(highest, resident())
            await asyncio.sleep(0.005)
        found = await asked
    assert [item.answered for item in found] == [streams] * connections
    assert sum(item.taken for item in found) < body, "what fits into windows, and no more"
    assert highest - before < body


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_what_people_are_shown_has_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dsn = "postgresql://desk:canary-1@127.0.0.1:9/sizing?password=canary-2"
    monkeypatch.setenv("SIZING_DSN", dsn)
    monkeypatch.setenv("SIZING_PULSAR_TOKEN", "canary-3")

    def run(*words: str) -> None:
        with pytest.raises(SystemExit):
            cli([*words])

    for words in (("doctor",), ("doctor", "--json"), ("migrate",), ("keys", "list")):
        await asyncio.to_thread(run, *words)
    shown = "".join(capsys.readouterr())
    assert "SIZING_DSN" in shown
    assert "canary" not in shown


def test_no_secret_is_among_the_files() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout: the files were NOT looked at")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / name for name in names.decode().splitlines()]
    assert len(files) > 500
    found = [file.name for file in files if file.is_file() and SECRETS.search(file.read_bytes())]
    assert found == []


UNPICKLES = {"server/joint/runner.py", "server/programs/store.py"}
"""What it pickled itself a line before; compiled programs, in a folder of the service's user."""
_RUNS_CODE = {"eval", "exec", "compile", "__import__"}
_LOADERS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}


def test_nothing_that_comes_from_outside_is_run_as_code() -> None:
    """No pickle is read but the service's own, and no text is run."""
    found: dict[str, set[str]] = {}
    for package in ("compute", "server", "storage"):
        for file in sorted((ROOT / package).rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(file.read_text())):
                words: list[str] = []
                if isinstance(node, ast.Import):
                    words = [alias.name.split(".")[0] for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    words = [(node.module or "").split(".")[0]]
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    words = [node.func.id] if node.func.id in _RUNS_CODE else []
                elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                    words = ["pickle"] if not _is_false(node.value) else []
                for word in words:
                    if word in _LOADERS | _RUNS_CODE:
                        found.setdefault(name, set()).add(word)
    assert found == {name: {"pickle"} for name in UNPICKLES}


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


async def test_a_flood_of_unknown_key_ids_asks_the_issuer_once(tmp_path: Path) -> None:
    keys = KeySet(str(Issuer().write(tmp_path / "keys.json")))
    await keys.renew()
    began = time.monotonic()
    renewing = asyncio.create_task(keys.run())
    for n in range(100_000):
        assert keys.get(f"kid-{n}") is None
        if n % 1000 == 0:
            await asyncio.sleep(0)
    renewing.cancel()
    assert keys.fetches <= 1 + (time.monotonic() - began) / ASKED_MIN_S
