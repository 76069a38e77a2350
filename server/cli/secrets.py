"""Keys that encrypt the secrets in the database: a new one, and to encrypt all by it."""

import typer

from server.cli.common import AsJson, print_json, say
from server.cli.errors import CommandError
from server.cli.service import DataDir, database, load_config

secrets = typer.Typer(
    no_args_is_help=True, help="Keys that encrypt the secrets of webhooks in the database."
)


@secrets.command("new-key")
def new_key(as_json: AsJson = False) -> None:
    """Prints a new key, for a line of the file that SIZING_SECRET_KEYS_FILE names."""
    from server import secret_keys

    key = secret_keys.new_key()
    if as_json:
        print_json({"key": key})
    else:
        say(key)


@secrets.command()
def reseal(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Encrypts the secrets of all webhooks by the first key of the file; then older ones may go.

    Works on the database that SIZING_DSN names, while servers serve.
    """
    import asyncio

    from server.secret_keys import SecretKeysError, keys_of
    from server.webhooks.secrets import reseal as encrypt
    from storage.postgres.pool import Database

    config = load_config(data_dir=data_dir)

    async def work(dsn: str) -> int:
        opened = await Database.open(dsn)
        try:
            return await encrypt(opened, keys_of(config))
        finally:
            await opened.aclose()

    with database(config) as dsn:
        try:
            count = asyncio.run(work(dsn))
        except SecretKeysError as error:
            raise CommandError(str(error), "keep older keys until this has gone through") from error
    if as_json:
        print_json({"webhooks": count})
    else:
        say(f"secrets of {count} webhooks are encrypted by the first key")
