"""Commands on backups of the whole database. They work on the database, not through the service."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.common import AsJson, print_json, say
from server.cli.errors import CommandError
from server.cli.service import DataDir, database, load_config


def backup(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="New or empty folder.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Writes a backup of the database, one moment of it, while servers go on serving."""
    import asyncio
    from dataclasses import asdict

    from server.version import VERSION
    from storage.postgres import backup as backups

    with database(load_config(data_dir=data_dir)) as dsn:
        try:
            made = asyncio.run(backups.backup(dsn, folder, release=VERSION))
        except backups.BackupError as error:
            raise CommandError(str(error), "nothing else was changed") from error
    if as_json:
        print_json(asdict(made))
        return
    rows = sum(made.row_counts.values())
    say(f"{folder}: {rows} rows of {len(made.row_counts)} tables, {made.dump_bytes} bytes")
    say(f"release {made.release}, schema {made.schema_version}, {made.create_time}")


def restore(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Of a backup.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Makes an empty database what a backup is of: that of SIZING_DSN, or a new embedded one."""
    import asyncio
    from dataclasses import asdict

    from storage.postgres import backup as backups
    from storage.postgres.migrations import newest_version

    config = load_config(data_dir=data_dir)
    try:
        if config.dsn is None and not (config.data_dir / "postgres").exists():
            backups.checked(folder)  # before a server is made for nothing
        with database(config) as dsn:
            made = asyncio.run(backups.restore(dsn, folder))
    except backups.BackupError as error:
        raise CommandError(str(error), "restore a whole backup into an empty database") from error
    if as_json:
        print_json({**asdict(made), "restored_schema_version": newest_version()})
        return
    rows = sum(made.row_counts.values())
    say(f"restored {rows} rows of {len(made.row_counts)} tables as of {made.create_time}")
    say(f"schema {newest_version()}. Set holdings as the broker has them before you size")
