"""Keys for programs: create, list, revoke; block and unblock callers. Works on the database."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from server.cli.common import AsJson, author, print_json, say
from server.cli.errors import CommandError
from server.cli.service import DataDir, database, load_config
from storage.errors import NotFound

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")
_GRANT = re.compile(r"[A-Za-z0-9._:-]{1,128}|[A-Za-z0-9._:-]{0,128}\*")
_OTHER_TENANT = "--tenant names another one"

keys = typer.Typer(
    no_args_is_help=True,
    help="Keys of programs and blocked callers, in the database that SIZING_DSN names.",
)
Tenant = Annotated[str, typer.Option(help="Tenant. Default: the one the service is set to.")]
DAYS_DEFAULT, DAYS_MAX = 90, 366


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What uses the key, such as engine-1.")],
    scope: Annotated[list[str] | None, typer.Option(help="A scope, such as sizing.read.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="A role: its scopes.")] = None,
    portfolio: Annotated[
        list[str] | None, typer.Option(help="An id, or a prefix such as 'tech-*'. Default: all.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=DAYS_MAX, help="Until it expires.")] = (
        DAYS_DEFAULT
    ),
    tenant: Tenant = "",
    new_tenant: Annotated[bool, typer.Option(help="Make the tenant if it isn't there.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Makes a key and shows it once. A server takes it a second later."""
    from server.auth.identity import ALL, Identity
    from server.auth.keys import new_key
    from storage.postgres import credentials, tenants

    made, expire_time = new_key(), datetime.now(UTC) + timedelta(days=days)
    config = load_config(data_dir=data_dir)
    scopes = frozenset(_scopes(scope or [], role or []))
    granted = tuple(portfolio or ALL)
    for grant in granted:
        if not _GRANT.fullmatch(grant):
            text = f"--portfolio {grant!r} is no portfolio id and no prefix that ends in *"
            raise CommandError(text, "quote it: --portfolio 'tech-*'")
    try:
        identity = Identity(tenant or config.tenant_id, f"key:{name}", scopes, granted)
    except ValueError as error:
        raise CommandError(f"{error} in the arguments", "use letters, digits . _ : -") from error

    async def work(connection: "asyncpg.Connection") -> None:
        if new_tenant or identity.tenant_id == config.tenant_id:
            await tenants.ensure(connection, identity.tenant_id)
        await credentials.create_key(
            connection,
            identity.tenant_id,
            made.key_id,
            hash=made.hash,
            subject=identity.subject,
            scopes=tuple(sorted(scopes)),
            portfolios=granted,
            expire_time=expire_time,
            author=author(),
        )

    _run(config, work)
    if as_json:
        print_json({"key_id": made.key_id, "key": made.text, "expire_time": _text(expire_time)})
        return
    say(made.text)
    typer.echo(f"shown once; id {made.key_id}, until {_text(expire_time)}", err=True)


@keys.command("list")
def list_(tenant: Tenant = "", data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Lists keys, the newest first, without their secrets."""
    from storage.postgres import credentials

    config = load_config(data_dir=data_dir)
    found = _run(config, lambda c: credentials.list_keys(c, tenant or config.tenant_id))
    rows = [
        {
            "key_id": key.key_id,
            "subject": key.subject,
            "scopes": list(key.scopes),
            "portfolios": list(key.portfolios),
            "expire_time": _text(key.expire_time),
            "revoke_time": "" if key.revoke_time is None else _text(key.revoke_time),
            "author": key.author,
        }
        for key in found
    ]
    if as_json:
        print_json({"keys": rows})
        return
    if not rows:
        say(f"tenant {tenant or config.tenant_id!r} has no keys; --tenant names another")
    for row in rows:
        ended = f", revoked {row['revoke_time']}" if row["revoke_time"] else ""
        say(
            f"{row['key_id']}  {row['subject']}  until {row['expire_time']}{ended}  "
            f"{' '.join(row['scopes'])}  on {' '.join(row['portfolios'])}"
        )


@keys.command()
def revoke(
    key_id: str, tenant: Tenant = "", data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Revokes a key. Servers deny it a second later."""
    from storage.postgres import credentials

    config = load_config(data_dir=data_dir)
    name = tenant or config.tenant_id
    try:
        key = _run(config, lambda c: credentials.revoke_key(c, name, key_id))
    except NotFound as error:
        raise CommandError(f"tenant {name!r} has no key {key_id!r}", _OTHER_TENANT) from error
    if as_json:
        print_json({"key_id": key.key_id, "subject": key.subject})
    else:
        say(f"revoked {key.key_id} of {key.subject}")


@keys.command()
def block(
    subject: Annotated[str, typer.Argument(help="As in histories, such as user:ann.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    hours: Annotated[float, typer.Option(min=0.01, max=87600, help="For so long.")] = 24.0,
    tenant: Tenant = "",
    data_dir: DataDir = None,
) -> None:
    """Lets a caller in no more, whatever the credential. Counts a second later."""
    until = datetime.now(UTC) + timedelta(hours=hours)
    _block(subject, reason, until, tenant, data_dir)
    say(f"blocked {subject} until {_text(until)}")


@keys.command()
def unblock(subject: str, tenant: Tenant = "", data_dir: DataDir = None) -> None:
    """Ends a block."""
    _block(subject, "unblocked", datetime.now(UTC), tenant, data_dir)
    say(f"unblocked {subject}")


def _block(subject: str, reason: str, until: datetime, tenant: str, data_dir: Any) -> None:
    from storage.postgres import credentials

    config = load_config(data_dir=data_dir)
    tenant = tenant or config.tenant_id
    _run(
        config,
        lambda c: credentials.block(
            c, tenant, subject, until=until, author=author(), reason=reason
        ),
    )


def _scopes(scopes: list[str], roles: list[str]) -> set[str]:
    from server.auth.access import SCOPES
    from server.auth.roles import ROLES

    for kind, given, known in (("scope", scopes, SCOPES.values()), ("role", roles, ROLES)):
        for name in given:
            if name not in known:
                raise CommandError(f"{name!r} is no {kind}", f"one of {', '.join(sorted(known))}")
    found = set(scopes).union(*(ROLES[name] for name in roles))
    if not found:
        raise CommandError("a key needs a --scope or a --role", "such as --role engine")
    return found


def _run(config: Any, work: Callable[["asyncpg.Connection"], Awaitable[T]]) -> T:
    """`work` in one transaction, the embedded database running meanwhile."""
    from storage.postgres.migrations import migrate
    from storage.postgres.pool import connect

    async def run(dsn: str) -> T:
        await migrate(dsn)
        connection = await connect(dsn)
        try:
            async with connection.transaction():
                return await work(connection)
        finally:
            await connection.close()

    with database(config) as dsn:
        return asyncio.run(run(dsn))


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
