"""A backup of the whole database in a folder, and a database made of one.

    sizing.dump      `pg_dump`, custom format: one moment of the database, while it serves
    manifest.json    what it is of, its SHA-256, and the rows of each table at that moment

The dump is written first and the manifest last: a folder without one holds no whole backup.
"""

import asyncio
import hashlib
import json
import os
import subprocess
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
        arguments = ("--no-owner", "--exit-on-error", "--single-transaction", str(folder / DUMP))
        await _run("pg_restore", dsn, *arguments)
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
    shown, password = _without_password(dsn)
    secret = {} if password is None else {"PGPASSWORD": password}
    done = await asyncio.to_thread(
        subprocess.run,
        [program(tool), f"--dbname={shown}", *arguments],
        env={**os.environ, **secret},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BackupError(f"{tool} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")


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
