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
    print_json,
    say,
)
from server.cli.market import TIME, parse_time

volatility = typer.Typer(no_args_is_help=True, help="Volatilities estimated from snapshots.")

_MODEL = typer.Argument(help="Which model.")
_FROM = typer.Option("--from", help=f"Earliest snapshot to begin with, {TIME}.")


@volatility.command()
def put(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="TOML or JSON.")],
    start: Annotated[str, _FROM] = "",
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Stores a model and computes its state from the stored snapshots."""
    from positionsizing.v1 import volatility_service_pb2 as pb

    from server.cli import files

    model = files.read_message(file, pb.VolatilityModel())
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
    names = ("model", "version", "instruments", "periods", "late", "newest snapshot")
    out = table("Volatility models", *names, left=("model", "newest snapshot"))
    for item in answer.models:
        state = item.state
        counts = (state.instrument_count, state.period_count, state.late_count)
        name, version = item.model.model_id, str(item.change.version)
        out.add_row(name, version, *map(str, counts), state.market_snapshot_id)
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
    names = ("instrument", "in use", "estimate", "long run", "returns")
    out = table(f"{model_id}, state {answer.state.version}", *names, left=names[:1])
    for place, name in enumerate(answer.instrument_ids):
        columns = (answer.volatility[place], answer.estimate[place], answer.long_run[place])
        told = [f"{value:.4g}" if value else "-" for value in columns]
        out.add_row(name, *told, str(answer.return_count[place]))
    console().print(out)


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
