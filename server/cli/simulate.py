"""Commands on the past and on what may come: backtest, simulate. Nothing is recorded."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Report,
    Tables,
    connect,
    console,
    print_json,
)
from server.cli.errors import CommandError
from server.cli.page import Output

if TYPE_CHECKING:
    from positionsizing.v1 import simulation_service_pb2 as pb

    from server.client import Client

Beside = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Beside --prices.")]
ConfirmPrices = Annotated[
    bool, typer.Option("--confirm-prices", help="Run through prices that jump like splits as well.")
]
Delistings = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="Instruments that leave: date, instrument_id, and price or return.",
    ),
]
DelistingReturn = Annotated[
    float | None,
    typer.Option(help="Return on the last close where prices end without a line in --delistings."),
]
Experiment = Annotated[
    str, typer.Option(help="What settings are counted under; the instruments if not given.")
]
EQUAL_WEIGHTS = "equal-weights"
TIMEOUT_S = 3600.0
"""A backtest of decades takes minutes."""
WORK = {"run_backtest": "backtest", "tune_parameters": "search", "simulate_growth": "futures"}
"""Fields of FollowSimulationRequest in words."""


def backtest(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="TOML or JSON of a RunBacktestRequest."),
    ],
    prices: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Closes: CSV, CSV.gz or Parquet."),
    ] = None,
    universe: Annotated[str, typer.Option(help="Or a universe stored before, by name.")] = "",
    opens: Beside = None,
    dividends: Beside = None,
    splits: Beside = None,
    volumes: Beside = None,
    delistings: Delistings = None,
    delisting_return: DelistingReturn = None,
    benchmark: Annotated[
        str, typer.Option(help="Show beside: an instrument by its name, or equal-weights, held.")
    ] = "",
    report: Report = None,
    tables: Tables = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="All settings at once; see BacktestMode of the contract.")
    ] = False,
    confirm_prices: ConfirmPrices = False,
    experiment: Experiment = "",
    job: Annotated[
        bool, typer.Option("--job", help="Only start it, and say the job's id; see sizing jobs.")
    ] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Runs settings through past prices, by the code that sizes live, and says what each earned.

    Files of --opens, --dividends (cash a unit, on the day it goes ex), --splits (units for one) and
    --volumes are like that of closes; days and names that they lack are none. A line of
    --delistings says what is got for a position in an instrument whose prices have ended.
    """
    from positionsizing.v1 import simulation_service_pb2 as pb

    from server.cli import files, simulated

    request = files.read_message(file, pb.RunBacktestRequest())
    use_history(request, prices, universe, "run through")
    beside = {"open": opens, "dividend": dividends, "split": splits, "volume": volumes}
    for name, path in beside.items():
        if path:
            add_beside(request.prices, name, path)
    use_delistings(request, delistings, delisting_return)
    if benchmark == EQUAL_WEIGHTS:
        request.benchmark.equal_weights = True
    elif benchmark:
        request.benchmark.instrument_id = benchmark
    request.confirm_prices |= confirm_prices
    request.experiment = experiment or request.experiment
    if fast:
        request.mode = pb.BACKTEST_MODE_FAST
        request.summary_only = len(request.settings) > 64
    if job:
        from positionsizing.v1 import job_service_pb2

        from server.cli.jobs import start

        work = job_service_pb2.StartJobRequest(run_backtest=request, about=file.name)
        with connect(address) as client:
            start(client, work, as_json=as_json)
        return
    with connect(address) as client:
        answer = followed(client, pb.FollowSimulationRequest(run_backtest=request)).run_backtest
    output = Output(report, tables)
    if output:
        from server.cli.backtest_page import write_backtest

        write_backtest(output, answer)
    if as_json:
        print_json(answer)
        return
    out = console()
    simulated.show_backtest(out, answer)
    for line in output.lines():
        out.print(line, markup=False)


def simulate(
    fraction: Annotated[list[float], typer.Option(help="Fraction of equity; may be repeated.")],
    mean: Annotated[float, typer.Option(help="Mean excess return a year.")] = 0.0,
    volatility: Annotated[float, typer.Option(help="Standard deviation a year.")] = 0.0,
    prices: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Or closes to draw returns from."),
    ] = None,
    instrument: Annotated[str, typer.Option(help="With --prices: which column.")] = "",
    years: Annotated[float, typer.Option(help="Years to look ahead.")] = 5.0,
    paths: Annotated[int, typer.Option(help="Simulated futures.")] = 2000,
    level: Annotated[
        list[float] | None, typer.Option(help="Chance of ever falling to this; may be repeated.")
    ] = None,
    withdraw: Annotated[
        float, typer.Option(help="Taken out a year, as part of the wealth at the start.")
    ] = 0.0,
    steps: Annotated[
        int | None, typer.Option(help="Steps a year; withdrawals come before each.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same numbers.")] = 0,
    report: Report = None,
    tables: Tables = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Simulates futures of constant fractions: growth, drawdowns, chances of falling."""
    from positionsizing.v1 import simulation_service_pb2 as pb

    from server.cli import simulated

    request = pb.SimulateGrowthRequest(
        fractions=fraction,
        years=years,
        paths=paths,
        levels=level or [0.5],
        seed=seed,
        steps_per_year=steps,
        withdrawal_rate=withdraw,
    )
    if prices:
        request.bootstrap.excess_returns.extend(_returns(prices, instrument))
    else:
        request.distribution.mean, request.distribution.volatility = mean, volatility
    with connect(address) as client:
        work = pb.FollowSimulationRequest(simulate_growth=request)
        answer = followed(client, work).simulate_growth
    output = Output(report, tables)
    if output:
        from server.cli.fan_page import write_fan

        write_fan(output, request, answer)
    if as_json:
        print_json(answer)
        return
    out = console()
    out.print(simulated.fan_table(request, answer))
    for line in output.lines():
        out.print(line, markup=False)


def followed(
    client: "Client", request: "pb.FollowSimulationRequest"
) -> "pb.FollowSimulationResponse":
    """What came of the work; how far it is goes to standard error meanwhile."""
    from rich.console import Console

    from server.cli.progress import progress

    field = str(request.WhichOneof("work"))
    told = None
    with progress(Console(stderr=True), is_percent=True) as tell:
        for told in client.simulation.FollowSimulation(request, timeout=TIMEOUT_S):
            if told.HasField("progress"):
                tell(WORK[field], round(100.0 * told.progress), 100)
            elif told.WhichOneof("result") is None:
                tell(f"{WORK[field]}: begins when it is its turn", 0, 0)
    assert told is not None, "it ends with a result or an error"
    return told


def use_history(
    request: "pb.RunBacktestRequest | pb.TuneParametersRequest",
    prices: Path | None,
    universe: str,
    purpose: str,
) -> None:
    """Prices of a file, or of a stored universe, for the request; `CommandError` without either."""
    if prices:
        request.prices.CopyFrom(_prices_of(prices))
    if universe:
        request.universe_id = universe
    if request.WhichOneof("history") is None:
        hint = "give --prices FILE or --universe"
        raise CommandError(f"there are no prices to {purpose}", hint)


def add_beside(table: "pb.PriceTable", name: str, path: Path) -> None:
    """A column of a table of prices from a file of its own; what the file lacks is none."""
    from server.cli.history_files import read_history

    if not table.dates:
        raise CommandError(f"{path} needs closes beside it", "give --prices FILE")
    part = read_history(path, "prices" if name in ("open", "split") else "amounts")
    days = [time.ToDatetime().date().isoformat() for time in part.observation_times]
    for kind, given, known in (
        ("day", days, table.dates),
        ("instrument", part.instrument_ids, table.instrument_ids),
    ):
        if unknown := [item for item in given if item not in set(known)]:
            raise CommandError(f"{path}: {kind} {unknown[0]!r} is not in the file of closes")
    width, missing = len(table.instrument_ids), set(part.missing)
    values = [1.0 if name == "split" else 0.0] * (len(table.dates) * width)
    row_of = {day: row for row, day in enumerate(table.dates)}
    column_of = {item: column for column, item in enumerate(table.instrument_ids)}
    for cell, value in enumerate(part.values):
        if cell not in missing:
            row, column = divmod(cell, len(part.instrument_ids))
            place = row_of[days[row]] * width + column_of[part.instrument_ids[column]]
            values[place] = value
    getattr(table, name).extend(values)


def use_delistings(
    request: "pb.RunBacktestRequest | pb.TuneParametersRequest",
    path: Path | None,
    default: float | None,
) -> None:
    """The lines of a file of delistings, and the return of those that it lacks, for the request."""
    if default is not None:
        request.delisting_return = default
    if path is None:
        return
    from server.cli.sheet import read_sheet

    sheet = read_sheet(path)
    sheet.check_columns(("date", "instrument_id", "price", "return"), ("date", "instrument_id"))
    days, names = set(request.prices.dates), set(request.prices.instrument_ids)
    pairs = zip(sheet.texts("date"), sheet.texts("instrument_id"), strict=True)
    for row, (day, name) in enumerate(pairs):
        for kind, given, known in (("day", day, days), ("instrument", name, names)):
            if known and given not in known:  # of a stored universe the service knows them
                raise CommandError(
                    f"{sheet.at(row)}: {kind} {given!r} is not in the file of closes"
                )
        cells = {key: sheet.rows[row].get(key) for key in ("price", "return")}
        said = [key for key, cell in cells.items() if cell]
        if len(said) != 1:
            raise CommandError(f"{sheet.at(row)}: give either a price or a return")
        value, least = sheet.number(row, said[0]), 0.0 if said[0] == "price" else -1.0
        if value < least:
            text = f"{said[0]} is {cells[said[0]]}; it must not be below {least:g}"
            raise CommandError(f"{sheet.at(row)}: {text}")
        item = request.delistings.add(instrument_id=name, date=day)
        setattr(item, "price" if said[0] == "price" else "delisting_return", value)


def _prices_of(path: Path) -> "pb.PriceTable":
    """Closes of a file, by session."""
    from positionsizing.v1 import simulation_service_pb2 as pb

    from server.cli.history_files import read_history

    part = read_history(path, "prices")
    return pb.PriceTable(
        dates=[time.ToDatetime().date().isoformat() for time in part.observation_times],
        instrument_ids=part.instrument_ids,
        close=part.values,
    )


def _returns(path: Path, instrument: str) -> list[float]:
    """Simple returns of one instrument; sessions without a price are passed over."""
    table = _prices_of(path)
    names = list(table.instrument_ids)
    if instrument not in names:
        hint = f"one of: {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}"
        raise CommandError(f"{path} has no instrument {instrument!r}", f"--instrument, {hint}")
    column = names.index(instrument)
    closes = [price for price in list(table.close)[column :: len(names)] if price > 0.0]
    return [after / before - 1.0 for before, after in pairwise(closes)]
