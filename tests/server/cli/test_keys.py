"""`sizing keys` and `--token-file` against a server that asks for credentials."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from compute.shapes import KernelRegistry
from server.cli import app as cli
from storage import embedded
from tests.fixtures_postgres import create_database
from tests.server.support.service_client import started


async def test_a_key_is_made_used_listed_and_revoked(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    monkeypatch.setenv("SIZING_DSN", dsn)

    def run(words: tuple[str, ...]) -> int:
        try:
            cli(list(words))
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    async def sizing(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(run, words)
        said = capsys.readouterr()
        return code, said.out, said.err

    async with started(postgres_server, kernels, tmp_path, dsn=dsn, auth="required") as app:
        monkeypatch.setenv("SIZING_ADDRESS", f"127.0.0.1:{app.port}")
        code, _, err = await sizing("portfolio", "list")
        assert code == 1
        assert "--token-file" in err

        code, out, err = await sizing("keys", "create", "engine-1", "--role", "viewer", "--json")
        assert code == 0, err
        made = json.loads(out)
        file = tmp_path / "key"
        file.write_text(made["key"] + "\n")
        give_up = time.monotonic() + 60
        while (await sizing("portfolio", "list", "--token-file", str(file)))[0] != 0:
            assert time.monotonic() < give_up
        monkeypatch.setenv("SIZING_TOKEN_FILE", str(file))
        assert (await sizing("portfolio", "list"))[0] == 0
        code, _, err = await sizing("portfolio", "halt", "--firm", "--reason", "x")
        assert code == 1
        assert "sizing.halt or sizing.resume" in err

        code, out, _ = await sizing("keys", "list")
        assert made["key_id"] in out
        assert made["key"] not in out
        assert (await sizing("keys", "revoke", made["key_id"]))[0] == 0
        give_up = time.monotonic() + 60
        while (await sizing("portfolio", "list"))[0] == 0:
            assert time.monotonic() < give_up
        code, _, err = await sizing("keys", "revoke", "ffffffff", "--tenant", "elsewhere")
        assert code == 1
        assert "tenant 'elsewhere' has no key 'ffffffff'" in err
        code, out, _ = await sizing("keys", "list", "--tenant", "elsewhere")
        assert (code, "tenant 'elsewhere' has no keys" in out) == (0, True)
        code, _, err = await sizing("keys", "create", "x", "--role", "viewer", "--portfolio", "a*b")
        assert code == 1
        assert "'a*b' is no portfolio id and no prefix" in err
        code, _, err = await sizing("keys", "create", "x", "--scope", "all")
        assert code == 1
        assert "sizing.read" in err
