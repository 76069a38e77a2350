"""`sizing algorithm new`: what it writes passes the kit."""

from pathlib import Path

import pytest

from server.cli import app as cli


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli(["algorithm", *words])
    return int(end.value.code or 0)


def test_what_is_written_passes_the_kit_and_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    assert run("new", "half-kelly", "--folder", str(folder)) == 0
    settings = folder / "half-kelly.toml"
    assert run("test", "half-kelly", "--file", str(settings)) == 0, capsys.readouterr().out
    code = folder / "half_kelly.py"
    code.write_text(code.read_text().replace("0.5", "0.6"))
    assert run("test", "half-kelly", "--file", str(settings)) != 0, "it is pinned"
    capsys.readouterr()
    assert run("new", "half-kelly", "--folder", str(folder)) == 1
    assert "is there already" in capsys.readouterr().err
    assert run("new", "../Half", "--folder", str(folder)) == 1
    assert "is no name" in capsys.readouterr().err
