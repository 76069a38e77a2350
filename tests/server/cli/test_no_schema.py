"""Commands on a database that has no schema of the service yet."""

import asyncio
from pathlib import Path

import pytest

from server.cli import app as cli
from storage import embedded
from tests.fixtures_postgres import create_database


async def test_an_archive_of_an_empty_database_says_what_is_missing(
    postgres_server: embedded.EmbeddedServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIZING_DSN", create_database(postgres_server))
    with pytest.raises(SystemExit) as end:
        await asyncio.to_thread(cli, ["archive", str(tmp_path / "archive")])
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert "error: the database has no schema of this release" in said
    assert "try:   sizing migrate" in said
