"""`sizing archive` and `sizing report`, where there is nothing to write or to read."""

from pathlib import Path

from tests.server.cli.test_commands import Sizing, sizing

__all__ = ["sizing"]


async def test_what_is_wrong_is_said(sizing: Sizing, tmp_path: Path) -> None:
    folder, file = str(tmp_path / "archive"), tmp_path / "file"
    turned = await sizing("archive", folder, "--from", "2026-11-30", "--to", "2026-11-01")
    assert turned.code == 1
    assert "--from 2026-11-30 is after --to 2026-11-01" in turned.err
    wrong = await sizing("archive", folder, "--from", "yesterday")
    assert wrong.code == 1
    assert "--from 'yesterday' is no day" in wrong.err
    file.write_text("")
    taken = await sizing("archive", str(file))
    assert taken.code == 1
    assert "is no folder" in taken.err
    missing = await sizing("report", str(tmp_path / "nowhere"))
    assert missing.code == 1
    assert "sizing archive" in missing.err
    empty = await sizing("report", str(tmp_path))
    assert empty.code == 1
    assert "has no archived days" in empty.err
