"""Commands on market data."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json, say
from server.cli.errors import CommandError
from server.cli.prices import (
    HALF_LIFE,
    EstimatorName,
    HalfLife,
    Last,
    PricesFile,
    matrix_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from positionsizing.v1 import market_service_pb2

TIME = "ISO 8601 such as 2022-12-28T21:00, in UTC unless it names a zone"
_KINDS = ("scenarios", "covariance", "correlation")

market = typer.Typer(no_args_is_help=True, help="Market snapshots and matrices.")

OfUniverse = Annotated[
    str, typer.Option("--universe", help="The latest of this universe; default: without a name.")
]


@market.command()
def load(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="CSV, CSV.gz, Parquet or JSON.")
    ],
    snapshot_id: Annotated[str, typer.Option("--id", help="Default: made from the time.")] = "",
    as_of: Annotated[str, typer.Option(help=f"{TIME}; default: now.")] = "",
    universe: Annotated[
        str, typer.Option(help="Portfolios of this universe take the newest; default: no name.")
    ] = "",
    rates: Annotated[
        list[str] | None,
        typer.Option(
            "--rate", metavar="FROM/TO=RATE", help="EUR/USD=1.08: a euro is 1.08 dollars."
        ),
    ] = None,
    confirm_prices: Annotated[
        bool, typer.Option("--confirm-prices", help="Accept prices that jumped as well.")
    ] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Stores a market snapshot; the same one again is no error.

    Portfolios are priced at the newest snapshot of their universe (`sizing portfolio universe`).

    Where instruments or cash are in other currencies than the portfolio's, give exchange rates.

    Lines whose price is further from the last accepted one than price_jump_max are not sized until
    `sizing market confirm`.
    """
    from positionsizing.v1 import market_service_pb2 as pb

    from server.cli import files

    snapshot = files.read_market(file)
    snapshot.exchange_rates.extend(_exchange_rate(given) for given in rates or [])
    if as_of or not snapshot.HasField("as_of_time"):
        now = datetime.now(UTC).replace(tzinfo=None)
        snapshot.as_of_time.FromDatetime(parse_time(as_of, "--as-of") if as_of else now)
    snapshot.universe_id = universe or snapshot.universe_id
    made_id = snapshot.as_of_time.ToDatetime().isoformat()  # two in one second are two
    snapshot.snapshot_id = snapshot_id or snapshot.snapshot_id or made_id
    with connect(address) as client, files.naming_lines(file):
        answer = client.market.PutMarketSnapshot(
            pb.PutMarketSnapshotRequest(snapshot=snapshot, confirm_prices=confirm_prices)
        )
    if as_json:
        print_json(answer)
    else:
        of = f" of universe {snapshot.universe_id}" if snapshot.universe_id else ""
        say(f"market snapshot {answer.snapshot_id}{of}: {answer.instrument_count} instruments")
        _say_jumps(answer.price_jumps, f"sizing market confirm {answer.snapshot_id}")


def _exchange_rate(given: str) -> "market_service_pb2.ExchangeRate":
    from positionsizing.v1 import market_service_pb2 as pb

    from server.cli.sheet import parse_number

    pair, equals, rate = given.partition("=")
    first, slash, second = pair.partition("/")
    if not (equals and slash):
        raise CommandError(f"{given!r} is no exchange rate", "write FROM/TO=RATE: EUR/USD=1.08")
    return pb.ExchangeRate(
        from_currency=first.strip().upper(),
        to_currency=second.strip().upper(),
        rate=parse_number(rate, "rate", given),
    )


@market.command()
def confirm(
    snapshot_id: Annotated[str, typer.Argument(metavar="[SNAPSHOT]", help="Default: latest.")] = "",
    universe: OfUniverse = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Accepts the prices and rates of a snapshot that jumped, after a look at them."""
    from positionsizing.v1 import market_service_pb2 as pb

    with connect(address) as client:
        wanted = pb.GetMarketSnapshotRequest(snapshot_id=snapshot_id, universe_id=universe)
        found = client.market.GetMarketSnapshot(wanted)
        request = pb.PutMarketSnapshotRequest(snapshot=found.snapshot, confirm_prices=True)
        answer = client.market.PutMarketSnapshot(request)
    if as_json:
        print_json(answer)
        return
    _say_jumps(found.price_jumps)
    count = len(found.price_jumps)
    what = "price" if count == 1 else "prices"
    say(f"market snapshot {answer.snapshot_id}: {count} {what} accepted")


def _say_jumps(jumps: "Iterable[market_service_pb2.PriceJump]", hint: str = "") -> None:
    """A line for each price that jumped; `hint`: what accepts them."""
    said = False
    for item in jumps:
        moved = item.price / item.accepted_price - 1.0
        said, of = True, " (underlying)" if item.is_underlying else ""
        say(
            f"  {item.instrument_id or item.currency_pair}{of}: {item.price:.6g} after "
            f"{item.accepted_price:.6g} ({moved:+.0%})"
        )
    if said and hint:
        say(f"  not sized on until they are put right, or accepted by: {hint}")


@market.command("list")
def list_snapshots(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    universe: Annotated[
        str | None, typer.Option(help="Of this universe; default: of all.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists market snapshots, newest first."""
    from positionsizing.v1 import market_service_pb2 as pb

    from server.cli.render import table

    request = pb.ListMarketSnapshotsRequest(page_size=limit, universe_id=universe)
    with connect(address) as client:
        answer = client.market.ListMarketSnapshots(request)
    if as_json:
        print_json(answer)
        return
    left: tuple[str, ...] = ("snapshot", "as of")
    if has_universes := any(item.universe_id for item in answer.snapshots):
        left += ("universe",)
    out = table("Market snapshots", *left, "instruments", left=left)
    for item in answer.snapshots:
        moment = f"{item.as_of_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
        of = (item.universe_id,) if has_universes else ()
        out.add_row(item.snapshot_id, moment, *of, str(item.instrument_count))
    console().print(out)


@market.command("show")
def show_snapshot(
    snapshot_id: Annotated[str, typer.Argument(metavar="[SNAPSHOT]", help="Default: latest.")] = "",
    universe: OfUniverse = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Shows a market snapshot: a row an instrument."""
    from positionsizing.v1 import market_service_pb2 as pb

    from server.cli.render import columns_table

    wanted = pb.GetMarketSnapshotRequest(snapshot_id=snapshot_id, universe_id=universe)
    with connect(address) as client:
        answer = client.market.GetMarketSnapshot(wanted)
    if as_json:
        print_json(answer)
        return
    found = answer.snapshot
    moment = f"{found.as_of_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
    out = console()
    of = f" of universe {found.universe_id}" if found.universe_id else ""
    out.print(columns_table(f"Market snapshot {found.snapshot_id}{of}, as of {moment} UTC", found))
    for rate in found.exchange_rates:
        out.print(f"1 {rate.from_currency} = {rate.rate:,.6g} {rate.to_currency}")


@market.command()
def matrix(
    matrix_id: Annotated[str, typer.Option("--id", help="Id that requests name it by.")],
    file: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, help="CSV, CSV.gz, Parquet or JSON."),
    ] = None,
    kind: Annotated[str, typer.Option(help="scenarios, covariance or correlation.")] = "",
    as_of: Annotated[str, typer.Option(help=f"{TIME}; default: unsaid.")] = "",
    prices: PricesFile = None,
    last: Last = 0,
    estimator: EstimatorName = "sample",
    half_life: HalfLife = HALF_LIFE,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Stores a matrix: a header of instruments, then rows of numbers; or made from prices.

    A row of scenarios is what each instrument returns in one of them. The same matrix again under
    its id is no error, another is.
    """
    from positionsizing.v1 import market_service_pb2 as pb

    from server.cli import files

    if (file is None) == (prices is None):
        raise typer.BadParameter("give either FILE or --prices")
    if kind not in _KINDS:
        raise typer.BadParameter(f"must be one of {', '.join(_KINDS)}", param_hint="--kind")
    if prices is not None:
        given = matrix_of(prices, kind, last, estimator, half_life)
    else:
        assert file is not None
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
        say(f"matrix {answer.matrix_id}: {kind}, {size}")


@market.command("show-matrix")
def show_matrix(
    matrix_id: Annotated[str, typer.Argument(metavar="MATRIX", help="Id of the matrix.")],
    rows: Annotated[int, typer.Option(min=1, help="Most rows to show.")] = 20,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Shows a matrix: what it is, and its first rows."""
    from positionsizing.v1 import market_service_pb2 as pb

    from server.cli.labels import enum_words
    from server.cli.render import table
    from server.convert import matrix

    with connect(address) as client:
        found = client.market.GetMatrix(pb.GetMatrixRequest(matrix_id=matrix_id)).matrix
    if as_json:
        print_json(found)
        return
    names, values = list(found.instrument_ids), matrix.matrix(found).values
    kind = enum_words(pb.MatrixKind, found.kind, "MATRIX_KIND_")
    form = "" if found.HasField("dense") else f", as {found.WhichOneof('form')}"
    title = f"Matrix {found.matrix_id}: {kind}, {len(values)} rows{form}"
    out = table(title, *names, drop=tuple(reversed(names[1:])))
    for row in values[:rows]:
        out.add_row(*(f"{value:.4g}" for value in row))
    if len(values) > rows:
        out.caption = f"the first {rows} rows; --rows N shows more, --json all"
    console().print(out)


def parse_time(text: str, option: str) -> datetime:
    """A time in UTC without its zone, as protobuf takes it; a text without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        hint = "write 2022-12-28T21:00Z"
        raise CommandError(f"{option} is {text!r}, not a time", hint) from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
