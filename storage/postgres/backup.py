"""A backup of the whole database in a folder, and a database made of one.

    sizing.dump      `pg_dump`, custom format: one moment of the database, while it serves
    manifest.json    what it is of, its SHA-256, and the rows of each table at that moment

The dump is written first and the manifest last: a folder without one holds no whole backup.
"""

import asyncio
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg

from storage.embedded import program
from storage.errors import StorageError
from storage.postgres.migrations import make_roles, migrate, newest_version

DUMP, MANIFEST = "sizing.dump", "manifest.json"
FORMAT = 1
_CHUNK = 1 << 20
_PREAMBLE_LINES = 100
"""The settings stand before the first object of a script, which has more lines than these."""
_SETTINGS_SINCE = {"transaction_timeout": 17}
"""First versions of settings that scripts of pg_restore 18 begin with and older servers lack."""
_TABLES = """SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition
    AND relnamespace = current_schema()::regnamespace ORDER BY relname"""


class BackupError(StorageError):
    """A backup that can't be made, or from which nothing can be restored; the text says why."""

    reason = "BACKUP"


@dataclass(frozen=True)
class Manifest:
    """What a backup is of. schema_version: such as "0021"; row_counts: by table."""

    release: str
    schema_version: str
    postgres_version: str
    create_time: str
    dump_sha256: str
    dump_bytes: int
    row_counts: dict[str, int]


async def backup(dsn: str, folder: Path, *, release: str) -> Manifest:
    """Writes a backup into a folder that is new or empty. Needs the owner's DSN.

    release: of this program, for the manifest. Errors: `BackupError`.
    """
    await asyncio.to_thread(_make_empty, folder)
    connection = await asyncpg.connect(dsn)
    try:
        # The dump and the counts see the same moment.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            dump = folder / DUMP
            arguments = ("--format=custom", f"--snapshot={snapshot}", f"--file={dump}")
            await _run("pg_dump", dsn, *arguments)
            manifest = Manifest(
                release=release,
                schema_version=await _schema_version(connection),
                postgres_version=await connection.fetchval("SHOW server_version"),
                create_time=datetime.now(UTC).isoformat(timespec="seconds"),
                dump_sha256=await asyncio.to_thread(_sha256, dump),
                dump_bytes=dump.stat().st_size,
                row_counts=await _row_counts(connection),
            )
    finally:
        await connection.close()
    text = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=2)
    unfinished = folder / f"{MANIFEST}.new"
    unfinished.write_text(text + "\n")
    unfinished.rename(folder / MANIFEST)
    return manifest


def _make_empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BackupError(f"{folder} is not empty")


async def restore(dsn: str, folder: Path) -> Manifest:
    """Makes an empty database what the backup is of, then brings it to this release's schema.

    Every table must have the rows that the manifest says. Errors: `BackupError`, before anything is
    written where the folder or the database is not as it has to be.
    """
    manifest = await asyncio.to_thread(checked, folder)
    if manifest.schema_version > newest_version():
        raise BackupError(
            f"the backup has schema {manifest.schema_version}, this release knows up to "
            f"{newest_version()}: use release {manifest.release} or newer"
        )
    connection = await asyncpg.connect(dsn)
    try:
        if found := await connection.fetch(_TABLES):
            raise BackupError(f"the database is not empty: it has {len(found)} tables")
        await make_roles(dsn)
        version = connection.get_server_version().major
        await asyncio.to_thread(_pour, folder / DUMP, dsn, version)
        counts = await _row_counts(connection)
        if counts != manifest.row_counts:
            names = counts.keys() | manifest.row_counts.keys()
            wrong = [n for n in sorted(names) if counts.get(n) != manifest.row_counts.get(n)]
            raise BackupError(f"other numbers of rows than the manifest says: {', '.join(wrong)}")
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    await migrate(dsn)
    return manifest


def checked(folder: Path) -> Manifest:
    """The manifest of a backup whose dump is as it was written. Errors: `BackupError`."""
    try:
        told = json.loads((folder / MANIFEST).read_text())
        if told.pop("format") != FORMAT:
            raise BackupError(f"{folder} is of a format that this release doesn't read")
        manifest = Manifest(**told)
        digest = _sha256(folder / DUMP)
    except FileNotFoundError as error:
        raise BackupError(f"{folder} holds no whole backup: {error.filename} is missing") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupError(f"{folder / MANIFEST} is no manifest: {error}") from error
    if digest != manifest.dump_sha256:
        raise BackupError(f"{folder / DUMP} is not what was written: its SHA-256 is another")
    return manifest


async def _schema_version(connection: asyncpg.Connection) -> str:
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        raise BackupError("the database has no schema of this service")
    return str(await connection.fetchval("SELECT version_num FROM alembic_version"))


async def _row_counts(connection: asyncpg.Connection) -> dict[str, int]:
    counts = {}
    for row in await connection.fetch(_TABLES):
        name = row["relname"]
        counts[name] = int(await connection.fetchval(f'SELECT count(*) FROM "{name}"'))
    return counts


async def _run(tool: str, dsn: str, *arguments: str) -> None:
    """Runs one of PostgreSQL's programs; the password is not among its arguments."""
    name, environment = _reached(dsn)
    done = await asyncio.to_thread(
        subprocess.run,
        [program(tool), name, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BackupError(f"{tool} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")


def _pour(dump: Path, dsn: str, version: int) -> None:
    """Fills an empty database of a server of that major version with a dump, all or nothing.

    pg_restore would write to the database itself, but begins with settings of its own version that
    an older server refuses. Its script without them goes through psql. Errors: `BackupError`.
    """
    name, environment = _reached(dsn)
    to_script = [program("pg_restore"), "--no-owner", "--file=-", str(dump)]
    to_database = [program("psql"), name, "--no-psqlrc", "--quiet", "--single-transaction"]
    with tempfile.TemporaryFile() as unread, tempfile.TemporaryFile() as refused:
        source = subprocess.Popen(to_script, stdout=subprocess.PIPE, stderr=unread)
        sink = subprocess.Popen(
            [*to_database, "--set=ON_ERROR_STOP=1"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=refused,
        )
        assert source.stdout is not None
        assert sink.stdin is not None
        try:
            for line in itertools.islice(source.stdout, _PREAMBLE_LINES):
                if _is_known(line, version):
                    sink.stdin.write(line)
            shutil.copyfileobj(source.stdout, sink.stdin, _CHUNK)
            if source.wait() != 0:
                sink.kill()  # what it has taken in so far is no whole database
            sink.stdin.close()
        except BrokenPipeError:
            pass  # psql has ended, and says why
        finally:
            source.stdout.close()
            codes = {"pg_restore": source.wait(), "psql": sink.wait()}
        for tool, written in (("psql", refused), ("pg_restore", unread)):
            written.seek(0)
            if codes[tool] and (text := written.read().decode(errors="replace").strip()):
                raise BackupError(f"{tool} ended with {codes[tool]}: {text[-2000:]}")
        if any(codes.values()):
            raise BackupError(f"the dump was not restored: {codes}")


def _is_known(line: bytes, version: int) -> bool:
    """Whether a server of a major version has the setting that a line of a script sets, if any."""
    name = line.removeprefix(b"SET ").split(b" ", 1)[0].decode(errors="replace")
    return not line.startswith(b"SET ") or version >= _SETTINGS_SINCE.get(name, 0)


def _reached(dsn: str) -> tuple[str, dict[str, str]]:
    """How a program is told of a database: its argument, and its environment with the password."""
    shown, password = _without_password(dsn)
    secret = {} if password is None else {"PGPASSWORD": password}
    return f"--dbname={shown}", {**os.environ, **secret}


def _without_password(dsn: str) -> tuple[str, str | None]:
    parts = urlsplit(dsn)
    if parts.password is None:
        return dsn, None
    user, host = parts.netloc.rpartition("@")[::2]
    netloc = f"{user.partition(':')[0]}@{host}"
    return urlunsplit(parts._replace(netloc=netloc)), unquote(parts.password)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
