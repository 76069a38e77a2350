"""`sizing recover`: a database restored to an earlier time takes in what was published since."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.common import AsJson, console, print_json, say
from server.cli.errors import CommandError
from server.cli.market import TIME, parse_time
from server.cli.service import DataDir, database, load_config

if TYPE_CHECKING:
    from server.maintenance.recover import Report
    from storage.postgres.pool import Database

_STOP = "stop them: what they commit meanwhile takes numbers that were published already"


def recover(
    since: Annotated[
        str, typer.Option(metavar=TIME, help="Look at what was published from then on.")
    ] = "",
    dry_run: Annotated[bool, typer.Option(help="Only say what is lost.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Finds what was published that a restored database doesn't have, and enters it again.

    Run it before any server is started on that database. It leaves trading of every firm in it
    halted: look at what is left to do by hand, then `sizing portfolio resume --firm`.
    """
    import asyncio

    from server.maintenance.recover import recover as work
    from server.messaging.events import broker_config
    from storage.events import history
    from storage.postgres import tenants
    from storage.postgres.pool import Database, PoolOptions

    config = load_config(data_dir=data_dir)
    broker = broker_config(config)
    if broker is None:
        text = "no broker is configured: nothing was published that could be looked at"
        raise CommandError(text, "set SIZING_PULSAR_URL, or set holdings as your broker has them")
    begin = parse_time(since, "--since") if since else None

    async def run(dsn: str) -> "Report":
        opened = await Database.open(dsn, PoolOptions(application_name="sizing-recover"))
        try:
            await _check_alone(opened)
            known = await tenants.list_ids(opened, deadline_s=10.0)
            names = await asyncio.to_thread(history.published_topics, broker, known)
            report = await work(
                opened,
                lambda take: history.read(broker, names, take, since=begin),
                write=not dry_run,
            )
            if not dry_run:
                await halt_all(opened)
            return report
        finally:
            await opened.aclose()

    with database(config) as dsn:
        report = asyncio.run(run(dsn))
    if as_json:
        print_json(_document(report))
    else:
        _print(report, dry_run=dry_run)


async def _check_alone(opened: "Database") -> None:
    from storage.postgres import recovery
    from storage.postgres.tenancy import ALL_TENANTS

    async with opened.connection(ALL_TENANTS, deadline_s=10.0) as connection:
        if count := await recovery.n_servers(connection):
            raise CommandError(f"servers have {count} sessions on the database", _STOP)


async def halt_all(opened: "Database") -> None:
    """Halts trading of every tenant, so that nothing is sized before somebody has looked."""
    import time

    from positionsizing.v1 import portfolio_service_pb2, types_pb2

    from server.auth.identity import Identity
    from server.calls.request_context import Call
    from server.maintenance.recover import DEADLINE_S, known_streams
    from server.portfolios.state import States
    from server.services.portfolio import PortfolioService

    service = PortfolioService(opened, States(opened, DEADLINE_S))
    request = portfolio_service_pb2.SetTradingStateRequest(
        trading_state=types_pb2.TRADING_STATE_HALTED,
        reason="the database was restored to an earlier time",
    )
    request.scope.SetInParent()
    for tenant_id in await known_streams(opened):
        identity = Identity(tenant_id, "operator:recover", frozenset())
        await service.set_trading_state(Call(identity, time.monotonic() + DEADLINE_S), request)


def _document(report: "Report") -> dict[str, Any]:
    return {
        "events": [
            {
                "tenant_id": item.event.tenant_id,
                "portfolio_id": item.event.portfolio_id,
                "portfolio_sequence": item.event.sequence,
                "type": item.event.type,
                "event_id": item.event.event_id,
                "publish_time": item.event.publish_time.isoformat(),
                "outcome": item.outcome,
                "why": item.why,
            }
            for item in report.findings
        ],
        "gaps": [
            {
                "tenant_id": gap.tenant_id,
                "portfolio_id": gap.portfolio_id,
                "first": gap.first,
                "last": gap.last,
            }
            for gap in report.gaps
        ],
        "tenants_missing": [
            {"tenant_id": name, "event_count": count} for name, count in report.event_counts.items()
        ],
    }


def _print(report: "Report", *, dry_run: bool) -> None:
    from server.cli.render import table

    left = ("of", "number", "event", "published", "outcome", "why")
    out = table("Published, and not in the database", *left, left=left)
    for item in report.findings:
        event = item.event
        whose = f"{event.tenant_id} {event.portfolio_id}".strip()
        word = item.outcome.lower().replace("_", " ")
        when = f"{event.publish_time:%Y-%m-%d %H:%M:%S}"
        out.add_row(whose, str(event.sequence), event.type, when, word, item.why)
    if report.findings:
        console().print(out)
    elif not report.event_counts:
        say("everything that was published is in the database")
    for name, count in report.event_counts.items():
        say(f"{count} events are of tenant {name!r}, and the database has no such tenant")
    for gap in report.gaps:
        whose = f"{gap.tenant_id} {gap.portfolio_id}".strip()
        say(f"events {gap.first} to {gap.last} of {whose} are on no topic: nobody knows them")
    if not dry_run:
        say("trading is halted: when all is done, sizing portfolio resume --firm")
