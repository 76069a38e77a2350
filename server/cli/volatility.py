"""Commands on volatility models, which market snapshots move."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    connect,
    console,
    file_to_write,
    print_json,
    say,
)
from server.cli.market import TIME, parse_time

volatility = typer.Typer(no_args_is_help=True, help="Volatilities estimated from snapshots.")

_MODEL = typer.Argument(help="Which model.")
_BARS = "Of har: the history's columns of opening, highest and lowest prices, with commas."
_FROM = typer.Option("--from", help=f"Earliest snapshot to begin with, {TIME}.")


@volatility.command()
def put(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="TOML or JSON.")],
    start: Annotated[str, _FROM] = "",
    universe: Annotated[
        str, typer.Option(help="Of the market snapshots that move it; default: as the file says.")
    ] = "",
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Stores a model and computes its state from the stored snapshots."""
    from positionsizing.v1 import volatility_service_pb2 as pb

    from server.cli import files

    model = files.read_message(file, pb.VolatilityModel())
    model.universe_id = universe or model.universe_id
    request = pb.PutVolatilityModelRequest(model=model, reason=reason)
    if start:
        request.start_time.FromDatetime(parse_time(start, "--from"))
    with connect(address) as client:
        answer = client.volatility.PutVolatilityModel(request)
    if as_json:
        print_json(answer)
    else:
        state = answer.state
        say(
            f"volatility model {request.model.model_id} version {answer.change.version}: "
            f"{state.instrument_count} instruments, {state.period_count} periods"
        )


@volatility.command("list")
def list_models(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Shows the models."""
    from positionsizing.v1 import volatility_service_pb2 as pb

    from server.cli.render import table

    with connect(address) as client:
        answer = client.volatility.ListVolatilityModels(pb.ListVolatilityModelsRequest())
    if as_json:
        print_json(answer)
        return
    names = ("model", "version", "instruments", "periods", "late", "newest snapshot", "universe")
    left = ("model", "newest snapshot", "universe")
    out = table("Volatility models", *names, left=left, drop=("universe",))
    for item in answer.models:
        state = item.state
        counts = (state.instrument_count, state.period_count, state.late_count)
        name, version = item.model.model_id, str(item.change.version)
        of = (state.market_snapshot_id, item.model.universe_id)
        out.add_row(name, version, *map(str, counts), *of)
    console().print(out)


@volatility.command()
def show(
    model_id: Annotated[str, _MODEL],
    instruments: Annotated[list[str] | None, typer.Argument(help="Default: all.")] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Shows what a model says of instruments, a year."""
    from positionsizing.v1 import volatility_service_pb2 as pb

    from server.cli.render import table

    request = pb.GetVolatilityRequest(model_id=model_id, instrument_ids=instruments or ())
    with connect(address) as client:
        answer = client.volatility.GetVolatility(request)
    if as_json:
        print_json(answer)
        return
    names: tuple[str, ...] = ("instrument", "in use", "estimate", "long run", "returns")
    regimes = [f"{value:.4g}" for value in answer.regime_probability]
    names += ("turbulent next",) if regimes else ()
    out = table(f"{model_id}, state {answer.state.version}", *names, left=names[:1])
    for place, name in enumerate(answer.instrument_ids):
        columns = (answer.volatility[place], answer.estimate[place], answer.long_run[place])
        told = [f"{value:.4g}" if value else "-" for value in columns]
        out.add_row(name, *told, str(answer.return_count[place]), *regimes[place : place + 1])
    if silent := sum(not value for value in answer.volatility):
        out.caption = (
            f"of {silent} instruments it says nothing yet: it needs the prices of more periods "
            "(observations_min of the model), one snapshot a period"
        )
    console().print(out)


@volatility.command()
def fit(
    kind: Annotated[str, typer.Argument(help="garch, gjr-garch, regimes, har, log-har.")],
    universe: Annotated[str, typer.Option(help="Stored history; `sizing history load`.")],
    instrument: Annotated[str, typer.Option(help="Whose returns.")],
    model_id: Annotated[str, typer.Option("--id", help="Id of the proposal.")] = "fitted",
    start: Annotated[str, typer.Option("--from", help=f"Earliest observation, {TIME}.")] = "",
    end: Annotated[str, typer.Option("--to", help=f"Latest observation, {TIME}.")] = "",
    regimes: Annotated[int, typer.Option(help="How many, of regimes; 0: 2.")] = 0,
    bars: Annotated[str, typer.Option(help=_BARS)] = "",
    estimator: Annotated[str, typer.Option(help="Variance of a bar, of har.")] = "garman-klass",
    out: Annotated[Path | None, file_to_write("JSON file to write the proposal to.")] = None,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Fits a model to a stored history and shows it; `put` is what stores it."""
    from google.protobuf.json_format import MessageToJson
    from positionsizing.v1 import volatility_service_pb2 as pb

    from server.cli.labels import enum_value

    request = pb.FitVolatilityModelRequest(
        fit=enum_value(pb.VolatilityFit, "VOLATILITY_FIT_", kind, "KIND"),
        universe_id=universe,
        instrument_id=instrument,
        base=pb.VolatilityModel(model_id=model_id),
        regime_count=regimes,
    )
    if request.fit in (pb.VOLATILITY_FIT_HAR, pb.VOLATILITY_FIT_LOG_HAR) and not bars:
        text = "HAR is of bars: name the columns of their prices, as SPX.open,SPX.high,SPX.low"
        raise typer.BadParameter(text, param_hint="--bars")
    if bars:
        columns = [part.strip() for part in bars.split(",")]
        if len(columns) != 3:
            raise typer.BadParameter("three columns are needed: open,high,low", param_hint="--bars")
        names = ("open_instrument_id", "high_instrument_id", "low_instrument_id")
        request.bars.CopyFrom(pb.BarColumns(**dict(zip(names, columns, strict=True))))
        named = enum_value(pb.RangeEstimator, "RANGE_ESTIMATOR_", estimator, "--estimator")
        request.base.range.estimator = named
    if start:
        request.start_time.FromDatetime(parse_time(start, "--from"))
    if end:
        request.as_of_time.FromDatetime(parse_time(end, "--to"))
    with connect(address) as client:
        answer = client.volatility.FitVolatilityModel(request)
    proposal = MessageToJson(answer.model, preserving_proto_field_name=True)
    if out is not None:
        out.write_text(proposal + "\n")
    if as_json:
        print_json(answer)
        return
    typer.echo(proposal)
    last = f"{answer.last_time.ToDatetime():%Y-%m-%d}"
    end_words = "" if answer.converged else "; the search did not end at an optimum"
    say(f"fitted to {answer.return_count} returns up to {last}{end_words}; nothing is stored")
    for share, length in zip(answer.occupancy, answer.duration, strict=True):
        say(f"a regime of {share:.1%} of the returns, {length:.3g} periods long on average")
    if answer.HasField("r_squared"):
        say(f"explains {answer.r_squared:.1%} of the next period's variance")
    if answer.HasField("held_out_loss"):
        ours, plain = answer.held_out_loss, answer.held_out_loss_exponential
        better = "better" if ours < plain else "no better"
        say(f"loss on the last third {ours:.4g}, exponential weights {plain:.4g}: {better}")
    if out is not None:
        say(f"sizing volatility put {out}")


@volatility.command()
def rebuild(
    model_id: Annotated[str, _MODEL],
    start: Annotated[str, _FROM] = "",
    compare: Annotated[bool, typer.Option("--compare", help="Changes nothing.")] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Computes a state from the stored snapshots anew and says where it differs."""
    from positionsizing.v1 import volatility_service_pb2 as pb

    request = pb.RebuildVolatilityRequest(model_id=model_id, validate_only=compare)
    if start:
        request.start_time.FromDatetime(parse_time(start, "--from"))
    with connect(address) as client:
        answer = client.volatility.RebuildVolatility(request)
    if as_json:
        print_json(answer)
        return
    say(f"{answer.different_count} of {answer.state.instrument_count} instruments differ")
    if answer.first_different:
        say(
            f"the first is {answer.first_different}: "
            f"{answer.first_before:.6g} in use before, {answer.first_after:.6g} from the log"
        )
