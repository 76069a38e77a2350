"""Commands on histories of prices and returns."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json, say
from server.cli.market import TIME, parse_time

history = typer.Typer(no_args_is_help=True, help="Histories of prices and returns, by universe.")

Universe = Annotated[str, typer.Option("--universe", help="Name of the universe, e.g. us-large.")]


@history.command()
def load(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="CSV, CSV.gz or Parquet.")
    ],
    universe: Universe,
    kind: Annotated[str, typer.Option(help="prices or returns.")] = "prices",
    known: Annotated[str, typer.Option(help=f"When it was known, {TIME}; default: now.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Adds a file to a universe: a row an observation, a column an instrument.

    The same file again is stored once. Empty cells are missing.
    """
    from positionsizing.v1 import history_service_pb2 as pb

    from server.cli import history_files

    if kind not in ("prices", "returns"):
        raise typer.BadParameter("must be prices or returns", param_hint="--kind")
    part = history_files.read_history(file, kind)
    part.universe_id = universe
    if known:
        part.known_time.FromDatetime(parse_time(known, "--known"))
    with connect(address) as client:
        answer = client.histories.PutHistory(pb.PutHistoryRequest(history=part))
    if as_json:
        print_json(answer)
        return
    gaps = f", {answer.missing_count} numbers missing" if answer.missing_count else ""
    say(
        f"history {answer.universe_id}, part {answer.part_sequence}: {answer.observation_count} "
        f"observations of {answer.instrument_count} instruments{gaps}"
    )


@history.command("list")
def list_histories(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists universes."""
    from positionsizing.v1 import history_service_pb2 as pb

    from server.cli.labels import enum_words
    from server.cli.render import table

    with connect(address) as client:
        answer = client.histories.ListHistories(pb.ListHistoriesRequest(page_size=limit))
    if as_json:
        print_json(answer)
        return
    left = ("universe", "kind", "first", "last")
    out = table("Histories", "universe", "kind", "instruments", "first", "last", "parts", left=left)
    for item in answer.histories:
        out.add_row(
            item.universe_id,
            enum_words(pb.HistoryKind, item.kind, "HISTORY_KIND_"),
            str(item.instrument_count),
            f"{item.first_observation_time.ToDatetime():%Y-%m-%d}",
            f"{item.last_observation_time.ToDatetime():%Y-%m-%d}",
            str(item.part_count),
        )
    console().print(out)


@history.command()
def show(
    universe: Annotated[str, typer.Argument(help="Name of the universe.")],
    as_of: Annotated[str, typer.Option(help=f"Last observation, {TIME}; default: all.")] = "",
    known: Annotated[str, typer.Option(help="As known at this time; default: now.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Shows what a universe holds for each instrument: observations, gaps, volatility."""
    import numpy as np
    from positionsizing.v1 import history_service_pb2 as pb

    from server.cli.render import table

    request = pb.GetHistoryRequest(universe_id=universe)
    if as_of:
        request.as_of_time.FromDatetime(parse_time(as_of, "--as-of"))
    if known:
        request.known_time.FromDatetime(parse_time(known, "--known"))
    with connect(address) as client:
        answer = client.histories.GetHistory(request)
    if as_json:
        print_json(answer)
        return
    found = answer.history
    values = np.array(found.values)
    values[np.array(found.missing, dtype=int)] = np.nan
    values = values.reshape(len(found.observation_times), -1)
    out = table(
        f"History {universe}", "instrument", "observations", "gaps", "first", "last", "deviation"
    )
    prices = found.kind == pb.HISTORY_KIND_PRICES
    days = [f"{item.ToDatetime():%Y-%m-%d}" for item in found.observation_times]
    for name, column in zip(found.instrument_ids, values.T, strict=True):
        there = np.flatnonzero(~np.isnan(column))
        returns = column[1:] / column[:-1] - 1.0 if prices else column
        sure = returns[~np.isnan(returns)]
        out.add_row(
            name,
            str(len(there)),
            str(int(there[-1] - there[0]) + 1 - len(there)),
            days[there[0]],
            days[there[-1]],
            f"{sure.std(ddof=1):.4%}" if len(sure) > 1 else "-",
        )
    console().print(out)


@history.command()
def edges(
    universe: Annotated[str, typer.Argument(help="Name of the universe.")],
    instrument: Annotated[
        list[str] | None, typer.Option(help="Only this one; may be repeated.")
    ] = None,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Draw the means towards each other (James and Stein).")
    ] = False,
    half_life: Annotated[
        float, typer.Option(help="Observations after which one counts half; default: all alike.")
    ] = 0.0,
    probability: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    as_of: Annotated[str, typer.Option(help=f"Last observation, {TIME}; default: all.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Estimates the edge of holding each instrument, and how far each number may be off."""
    from positionsizing.v1 import edge_service_pb2 as pb

    from server.cli.render import table

    request = pb.EstimateEdgeRequest(
        universe_id=universe, instrument_ids=instrument or (), interval_probability=probability
    )
    if shrink:
        request.mean_shrinkage = pb.MEAN_SHRINKAGE_JAMES_STEIN
    if half_life:
        request.half_life = half_life
    if as_of:
        request.as_of_time.FromDatetime(parse_time(as_of, "--as-of"))
    with connect(address) as client:
        answer = client.edges.EstimateEdge(request)
    if as_json:
        print_json(answer)
        return
    found = answer.estimates
    out = table(
        f"Edges in {universe}, per period",
        *("instrument", "returns", "mean", "+-", "deviation", "wins", "gain", "loss"),
        *("Kelly", "from", "to"),
    )
    for i, name in enumerate(found.instrument_ids):
        out.add_row(
            name,
            f"{found.observation_count[i]:.0f}",
            f"{found.mean[i]:.4%}",
            f"{found.mean_error[i]:.4%}",
            f"{found.volatility[i]:.3%}",
            f"{found.win_probability[i]:.1%}",
            f"{found.payoff[i]:.3%}",
            f"{found.loss_fraction[i]:.3%}",
            f"{found.kelly[i]:.2f}",
            f"{found.kelly_low[i]:.2f}",
            f"{found.kelly_high[i]:.2f}",
        )
    console().print(out)
    if shrink:
        centre, share = answer.shrinkage_centre, answer.shrinkage_intensity
        say(f"means are drawn {share:.0%} of the way towards {centre:.4%}")
