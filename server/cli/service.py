"""Commands that run the service and prepare what it needs: serve, health, migrate, topics."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, print_json
from server.cli.errors import CommandError

DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the embedded PostgreSQL and the kernels.")
]
topics = typer.Typer(no_args_is_help=True, help="Topics on the Pulsar broker.")


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: any.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Runs the service until SIGTERM or Ctrl-C."""
    import uvloop

    from server.observability.telemetry import configure_logging
    from server.process import run

    config = load_config(listen_host=host, listen_port=port, data_dir=data_dir)
    configure_logging(config.log_level, as_json=config.log_json)
    uvloop.run(run(config))


def health(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Asks the service whether it serves; exit code 1 if it doesn't."""
    with connect(address) as client:
        state = client.health()
    if as_json:
        print_json({"address": address, "state": state})
    else:
        typer.echo(f"{state} at {address}")
    if state != "SERVING":
        raise typer.Exit(1)


def migrate(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Brings the database to the schema of this release."""
    import asyncio

    from storage.postgres.migrations import migrate as run_migrations

    with database(load_config(data_dir=data_dir)) as dsn:
        version = asyncio.run(run_migrations(dsn))
    if as_json:
        print_json({"schema": version})
    else:
        typer.echo(f"schema {version}")


@topics.command()
def ensure(
    retention_minutes: Annotated[
        int | None, typer.Option(min=1, help="Keep what everybody has read for. Default: 7 days.")
    ] = None,
    retention_mb: Annotated[
        int | None, typer.Option(min=1, help="Keep at most, for each topic. Default: 10 GB.")
    ] = None,
    time_to_live_s: Annotated[
        int | None,
        typer.Option(min=1, help="Drop what a subscriber has not read for. Default: 7 days."),
    ] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option(help="Whose, where each tenant has a namespace. Default: SIZING_TENANT_ID."),
    ] = None,
    wait_s: Annotated[float, typer.Option(min=0, help="For a broker that is starting.")] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Makes the namespace, all topics and subscriptions; what is there stays as it is.

    An option that is not given leaves the policy the namespace has, or sets the default.
    """
    from storage.events.ports import tenant_topic
    from storage.events.topics import Policies
    from storage.events.topics import ensure as ensure_topics

    config, broker = configured_broker(tenant)
    policies = Policies(retention_minutes, retention_mb, time_to_live_s)
    made_topics, made_subscriptions = list[str](), list[str]()
    for tenant_id in dict.fromkeys(tenant or [config.tenant_id]):
        made = ensure_topics(broker.of_tenant(tenant_id), policies, patience_s=wait_s)
        for names, found in ((made_topics, made.topics), (made_subscriptions, made.subscriptions)):
            is_each = broker.has_namespace_a_tenant
            names += [tenant_topic(tenant_id, name) if is_each else name for name in found]
    if as_json:
        print_json({"topics": made_topics, "subscriptions": made_subscriptions})
        return
    typer.echo(f"made {len(made_topics)} topics and {len(made_subscriptions)} subscriptions")
    for name in (*made_topics, *made_subscriptions):
        typer.echo(f"  {name}")


def configured_broker(tenants: list[str] | None) -> tuple[Any, Any]:
    """The configuration and its broker, which may be administered. Raises `CommandError`.

    tenants: those that were named, where each has a namespace.
    """
    from server.auth.identity import TENANT_ID
    from server.messaging.events import broker_config

    config = load_config()
    broker = broker_config(config)
    if broker is None or not broker.admin_url:
        raise CommandError(
            "no broker is configured", "set SIZING_PULSAR_URL and SIZING_PULSAR_ADMIN_URL"
        )
    if tenants and not broker.has_namespace_a_tenant:
        raise CommandError(
            f"all tenants have the namespace {broker.namespace}",
            'set SIZING_PULSAR_NAMESPACE to a name with "{tenant}" in it, such as sizing-{tenant}',
        )
    for tenant_id in tenants or ():
        if not re.fullmatch(TENANT_ID, tenant_id):
            raise CommandError(f"--tenant {tenant_id!r} is no id of a tenant")
    return config, broker


def load_config(**overrides: Any) -> Any:
    """The configuration, with the options that were given on the command line."""
    from server.config import load

    return load(**{name: value for name, value in overrides.items() if value is not None})


@contextlib.contextmanager
def database(config: Any) -> Iterator[str]:
    """The connection string of the configured database, the embedded one running meanwhile."""
    from storage import embedded

    if config.dsn is not None:
        yield config.dsn.get_secret_value()
        return
    server = embedded.start(config.data_dir / "postgres")
    try:
        yield server.dsn
    finally:
        server.stop()
