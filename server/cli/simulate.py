"""Commands on the past and on what may come: backtest, simulate. Nothing is recorded."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated

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
from server.cli.past import Past, over_the_past, prices_of

EQUAL_WEIGHTS = "equal-weights"


@over_the_past
def backtest(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="TOML or JSON of a RunBacktestRequest."),
    ],
    past: Past,
    benchmark: Annotated[
        str, typer.Option(help="Show beside: an instrument by its name, or equal-weights, held.")
    ] = "",
    report: Report = None,
    tables: Tables = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="All settings at once; see BacktestMode of the contract.")
    ] = False,
    job: Annotated[
        bool, typer.Option("--job", help="Only start it, and say the job's id; see sizing jobs.")
    ] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Runs settings through past prices, by the code that sizes live, and says what each earned.

    Files of --opens, --dividends, --splits and --volumes are like that of closes; days and names
    that they lack are none. A line of --delistings says what is got for a position in an instrument
    whose prices have ended.
    """
    from positionsizing.v1 import simulation_service_pb2 as pb

    from server.cli import files, simulated
    from server.cli.long_work import followed, start

    request = files.read_message(file, pb.RunBacktestRequest())
    past.put_into(request, "run through")
    if benchmark == EQUAL_WEIGHTS:
        request.benchmark.equal_weights = True
    elif benchmark:
        request.benchmark.instrument_id = benchmark
    if fast:
        request.mode = pb.BACKTEST_MODE_FAST
        request.summary_only = len(request.settings) > 64
    if job:
        from positionsizing.v1 import job_service_pb2

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
    mean: Annotated[float | None, typer.Option(help="Mean excess return a year.")] = None,
    volatility: Annotated[float | None, typer.Option(help="Standard deviation a year.")] = None,
    prices: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Or closes to draw returns from."),
    ] = None,
    instrument: Annotated[str, typer.Option(help="With --prices: which column.")] = "",
    confirm_prices: Annotated[
        bool,
        typer.Option("--confirm-prices", help="Draw from prices that jump like splits as well."),
    ] = False,
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
    from server.cli.long_work import followed

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
        if mean is not None or volatility is not None:
            text = "returns are drawn from --prices, or of --mean and --volatility, not both"
            raise CommandError(text)
        found = _returns(prices, instrument, is_confirmed=confirm_prices)
        request.bootstrap.excess_returns.extend(found)
    elif volatility is None or instrument or confirm_prices:
        raise CommandError("there are no returns to draw", "--mean and --volatility, or --prices")
    else:
        request.distribution.mean, request.distribution.volatility = mean or 0.0, volatility
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


def _returns(path: Path, instrument: str, *, is_confirmed: bool) -> list[float]:
    """Simple returns of one instrument; sessions without a price are passed over.

    Raises `CommandError` for a price that jumps like a split, unless it is confirmed.
    """
    from compute.simulate.price_jumps import is_jump

    table = prices_of(path)
    names = list(table.instrument_ids)
    if instrument not in names:
        hint = f"one of: {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}"
        raise CommandError(f"{path} has no instrument {instrument!r}", f"--instrument, {hint}")
    column = list(table.close)[names.index(instrument) :: len(names)]
    closes = [(day, price) for day, price in zip(table.dates, column, strict=True) if price > 0.0]
    for (_, before), (day, after) in pairwise(closes):
        if not is_confirmed and is_jump(after / before):
            text = f"{path}, {day}, {instrument}: the close is {after:g}, the one before {before:g}"
            hint = "a split? adjust what is before it; or draw from it: --confirm-prices"
            raise CommandError(text, hint)
    return [after / before - 1.0 for (_, before), (_, after) in pairwise(closes)]
