"""`sizing retention`: decisions that the archive has leave the database. Works on the database."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import AsJson, author, console, print_json, say
from server.cli.errors import CommandError
from server.cli.service import DataDir, database, load_config

if TYPE_CHECKING:
    from positionsizing.v1 import sizing_service_pb2 as pb

    from server.maintenance.retention import Removed

KEEP_DAYS_DEFAULT, KEEP_DAYS_MIN = 90, 30


def retention(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Of `sizing archive`.")
    ],
    keep_days: Annotated[
        int, typer.Option(min=KEEP_DAYS_MIN, help="Days that stay in the database, beside today.")
    ] = KEEP_DAYS_DEFAULT,
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Remove; or only say what would be.")
    ] = False,
    name: Annotated[
        str, typer.Option(help="What callers are told that the archive is called. Default: FOLDER.")
    ] = "",
    reason: Annotated[str, typer.Option(help="For the chain of changes.")] = "",
    tenant: Annotated[str, typer.Option(help="Tenant; default: that of the settings.")] = "",
    pause_ms: Annotated[int, typer.Option(min=0, help="Between two transactions.")] = 50,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Removes decisions that FOLDER has, byte for byte, from the database; servers go on serving.

    What still reserves something stays, and what the archive has not, or not as it is recorded.
    Needs the owner's DSN. `sizing explain ID --archive FOLDER` reads what has gone.
    """
    import asyncio

    from server.maintenance.retention import Retention, first_kept, retain
    from storage.archive.records import RecordError

    config, done, now = load_config(data_dir=data_dir), list["Removed"](), datetime.now(UTC)
    wanted = Retention(
        folder,
        tenant or config.tenant_id,
        first_kept(keep_days, now),
        name or str(folder),
        author(),
        reason,
        pause_ms / 1000,
    )

    async def work(dsn: str) -> None:
        async for removed in retain(dsn, wanted, now, apply=apply):
            done.append(removed)

    with database(config) as dsn:
        try:
            asyncio.run(work(dsn))
        except RecordError as error:
            text = "nothing of that day was removed; write it again, or restore the file"
            raise CommandError(str(error), text) from error
    if as_json:
        print_json([asdict(item) | {"day": item.day.isoformat()} for item in done])
        return
    _print(done, apply=apply)


def from_archive(folder: Path, decision_id: str) -> "pb.GetDecisionResponse":
    """A decision as it was answered, its digest checked, whosever it is in the archive."""
    from uuid import UUID

    from positionsizing.v1 import sizing_service_pb2 as pb

    from server.convert.recorded import answer_of
    from storage.archive import records

    try:
        record = records.find(folder, UUID(decision_id))
    except ValueError as error:
        raise CommandError(f"{decision_id!r} is no id of a decision", "name one") from error
    except records.RecordError as error:
        raise CommandError(str(error), "restore the file from a copy") from error
    if record is None:
        raise CommandError(f"{folder} has no decision {decision_id}", "`sizing archive` fills it")
    return pb.GetDecisionResponse(
        decision=answer_of(record["method"], record["response"], decision_id)
    )


def _print(done: "list[Removed]", *, apply: bool) -> None:
    from server.cli.render import table

    columns = ("decisions", "settlements", "open", "unlike", "settled later", "busy")
    out = table("Removed" if apply else "Would be removed", "day", *columns, left=("day",))
    for item in done:
        counts = (
            *(item.decisions, item.settlements),
            *(item.open, item.unlike, item.settled_later, item.busy),
        )
        out.add_row(item.day.isoformat(), *(f"{n:,}" for n in counts))
    if done:
        console().print(out)
        say("open, unlike, settled later, busy: decisions that stay")
    else:
        say("nothing to remove: no archived day is that old, or all has gone")
    if done and not apply:
        say("nothing was changed; --apply removes")
