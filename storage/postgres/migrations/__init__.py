"""The schema, one numbered step after the other, by Alembic.

Alembic keeps the order of the steps and writes the SQL; asyncpg, the one driver of this service,
runs it, all in one transaction. To change the schema add `versions/NNNN_what.sql` and a revision
file beside it that names the one before; a step that has been released is never edited.

Who may do what with which rows is `roles.sql` and `access.sql`, run after the steps: a new table
with a tenant is walled by itself, and read and added to; what may be changed in it has to be said
there.
"""

import io
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from storage.errors import SchemaMismatch
from storage.postgres.tenancy import has_wall

_LOCK = 0x53495A45  # any number, as long as every release of this service takes the same
_LOCK_TIMEOUT = "60s"
_ROLES = Path(__file__).parent / "roles.sql"
_ACCESS = Path(__file__).parent / "access.sql"


def newest_version() -> str:
    """The version of the schema this release was written for, such as "0001"."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


async def current_version(dsn: str) -> str | None:
    """The version of the schema that is in the database, None before the first migration."""
    connection = await asyncpg.connect(dsn)
    try:
        return await _read_version(connection)
    finally:
        await connection.close()


async def check(dsn: str) -> str:
    """The version of the schema, where that is `newest_version`.

    Errors: `SchemaMismatch` for any other.
    """
    connection = await asyncpg.connect(dsn)
    try:
        version, newest = await _read_version(connection), newest_version()
        if version != newest:
            raise SchemaMismatch(
                f"the database is at schema version {version}, this release needs {newest}: run "
                "`sizing migrate` with the owner's DSN"
            )
        return version
    finally:
        await connection.close()


async def migrate(dsn: str, target: str = "head") -> str:
    """Bring the database to `target`, by default `newest_version`, and return its version.

    Roles and their rights are made where they are missing and the user may make them. Does nothing
    if all is there.

    Safe to call from several replicas at once: one does the work, the others wait for it. Either
    all steps are applied or none.

    Errors: `SchemaMismatch` if the database is of a newer release than this one.
    """
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            before = await _read_version(connection)
            steps = _sql_of_steps(before, target)
            if steps:
                await connection.execute(steps)
            if target == "head" and (steps or not await has_wall(connection)):
                await connection.execute(_ROLES.read_text())
                await connection.execute(_ACCESS.read_text())
            version = await _read_version(connection)
        assert version is not None
        return version
    finally:
        await connection.close()


async def make_roles(dsn: str) -> None:
    """Makes the roles that a dump of the schema names, where they are missing and the user may."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(_ROLES.read_text())
    finally:
        await connection.close()


async def _read_version(connection: asyncpg.Connection) -> str | None:
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    version: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return version


def _sql_of_steps(before: str | None, target: str) -> str:
    """The SQL that leads from version `before` to `target`, "" if there is nothing to do."""
    if before == (newest_version() if target == "head" else target):
        return ""
    sql = io.StringIO()
    span = target if before is None else f"{before}:{target}"
    try:
        command.upgrade(_config(sql), span, sql=True)
    except CommandError as error:
        raise SchemaMismatch(
            f"the database is at schema version {before}, this release knows up to "
            f"{newest_version()}: run a newer release"
        ) from error
    return sql.getvalue()


def _config(output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
