"""Commands on market data."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json
from server.cli.errors import CommandError

_KINDS = ("scenarios", "covariance", "correlation")

market = typer.Typer(no_args_is_help=True, help="Market snapshots and matrices.")


@market.command()
def load(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or JSON.")],
    snapshot_id: Annotated[str, typer.Option("--id", help="Default: made from the time.")] = "",
    as_of: Annotated[str, typer.Option(help="ISO 8601, e.g. 2022-12-28; default: now.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Stores a market snapshot; the same one again is no error."""
    from positionsizing.v1 import market_service_pb2 as pb

    from server.cli import files

    snapshot = files.read_market(file)
    if as_of or not snapshot.HasField("as_of_time"):
        now = datetime.now(UTC).replace(tzinfo=None)
        snapshot.as_of_time.FromDatetime(parse_time(as_of, "--as-of") if as_of else now)
    made_id = f"{snapshot.as_of_time.ToDatetime():%Y-%m-%dT%H:%M:%S}"
    snapshot.snapshot_id = snapshot_id or snapshot.snapshot_id or made_id
    with connect(address) as client:
        answer = client.market.PutMarketSnapshot(pb.PutMarketSnapshotRequest(snapshot=snapshot))
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"market snapshot {answer.snapshot_id}: {answer.instrument_count} instruments")


@market.command("list")
def list_snapshots(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists market snapshots, newest first."""
    from positionsizing.v1 import market_service_pb2 as pb

    from server.cli.render import table

    with connect(address) as client:
        answer = client.market.ListMarketSnapshots(pb.ListMarketSnapshotsRequest(page_size=limit))
    if as_json:
        print_json(answer)
        return
    out = table("Market snapshots", "snapshot", "as of", "instruments", left=("snapshot", "as of"))
    for item in answer.snapshots:
        moment = f"{item.as_of_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
        out.add_row(item.snapshot_id, moment, str(item.instrument_count))
    console().print(out)


@market.command()
def matrix(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or JSON.")],
    kind: Annotated[str, typer.Option(help="scenarios, covariance or correlation.")],
    matrix_id: Annotated[str, typer.Option("--id", help="Id that requests name it by.")],
    as_of: Annotated[str, typer.Option(help="ISO 8601, e.g. 2022-12-28; default: unsaid.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Stores a matrix: a header of instruments, then rows of numbers.

    A row of scenarios is what each instrument returns in one of them. The same matrix again under
    its id is no error, another is.
    """
    from positionsizing.v1 import market_service_pb2 as pb

    from server.cli import files

    if kind not in _KINDS:
        raise typer.BadParameter(f"must be one of {', '.join(_KINDS)}", param_hint="--kind")
    given = files.read_matrix(file, kind)
    given.matrix_id = matrix_id
    if as_of:
        given.as_of_time.FromDatetime(parse_time(as_of, "--as-of"))
    with connect(address) as client:
        answer = client.market.PutMatrix(pb.PutMatrixRequest(matrix=given))
    if as_json:
        print_json(answer)
    else:
        n_rows = len(given.dense.values) // max(len(given.instrument_ids), 1)
        size = f"{n_rows} rows of {len(given.instrument_ids)} instruments"
        typer.echo(f"matrix {answer.matrix_id}: {kind}, {size}")


def parse_time(text: str, option: str) -> datetime:
    """A time in UTC without its zone, as protobuf takes it; a text without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        hint = "write 2022-12-28T21:00Z"
        raise CommandError(f"{option} is {text!r}, not a time", hint) from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
