"""Commands on sizing parameters: how signals become stakes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Reason,
    connect,
    console,
    print_json,
    say,
)
from server.cli.market import TIME, parse_time

if TYPE_CHECKING:
    from positionsizing.v1 import parameter_service_pb2 as pb

    from server.client import Client

parameters = typer.Typer(no_args_is_help=True, help="Versioned sizing parameters.")

Portfolio = Annotated[str, typer.Option(help="Portfolio; default: all.")]
OfStrategy = Annotated[str, typer.Option(help="Strategy; default: all.")]


@parameters.command()
def show(
    portfolio: Portfolio = "",
    strategy: OfStrategy = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Shows the parameters in force, where each comes from, and what their rules come to now."""
    from google.protobuf.json_format import MessageToJson
    from positionsizing.v1 import parameter_service_pb2 as pb

    from server.cli.render import table

    wanted = pb.GetParametersRequest(portfolio_id=portfolio, strategy_id=strategy)
    with connect(address) as client:
        answer = client.parameters.GetParameters(wanted)
    if as_json:
        print_json(answer)
        return
    version = answer.parameters_version or "none stored, defaults only"
    say(f"parameters in force, version {version}")
    typer.echo(MessageToJson(answer.parameters, preserving_proto_field_name=True))
    if answer.origins:
        left = ("field", "set for", "by", "why", "since")
        out = table("Where they come from", "version", *left, left=left, drop=("by", "why"))
        for item in answer.origins:
            scope = " ".join(filter(None, (item.portfolio_id, item.strategy_id))) or "all"
            since = f"{item.effective_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
            change = item.change
            told = (item.field, scope, change.author, change.reason, since)
            out.add_row(str(change.version), *told)
        console().print(out)
    for rule in answer.adjustments:
        counts = "counts" if rule.is_binding else "does not count, another is smaller"
        say(f"{rule.name}: x {rule.multiplier:.4g}, {counts} ({rule.explanation})")
    if answer.adjustments:
        say(f"Kelly fraction now {answer.kelly_fraction_now:.4g}")


@parameters.command("set")
def set_parameters(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="TOML or JSON; what it leaves out is as by default."
        ),
    ],
    portfolio: Portfolio = "",
    strategy: OfStrategy = "",
    merge: Annotated[
        bool, typer.Option("--merge", help="What the file leaves out stays as this scope has it.")
    ] = False,
    effective: Annotated[str, typer.Option(help=f"From when, {TIME}; default: at once.")] = "",
    reason: Reason = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Stores a new version of the parameters of a scope."""
    from positionsizing.v1 import parameter_service_pb2 as pb

    from server.cli import files

    request = pb.SetParametersRequest(
        portfolio_id=portfolio,
        strategy_id=strategy,
        parameters=files.read_message(file, pb.SizingParameters()),
        reason=reason,
    )
    if effective:
        request.effective_time.FromDatetime(parse_time(effective, "--effective"))
    with connect(address) as client:
        if merge:
            _merge(client, request)
        answer = client.parameters.SetParameters(request)
    if as_json:
        print_json(answer)
    else:
        named = {"strategy": strategy, "portfolio": portfolio}
        whose = " in ".join(f"{what} {name}" for what, name in named.items() if name)
        of = whose or "all portfolios and strategies"
        say(f"parameters of {of} stored, version {answer.change.version}")


def _merge(client: "Client", request: "pb.SetParametersRequest") -> None:
    """Fills in what the scope has when the request is to count; nobody may change it meanwhile."""
    from positionsizing.v1 import parameter_service_pb2 as pb

    wanted = pb.ListParameterVersionsRequest(
        portfolio_id=request.portfolio_id, strategy_id=request.strategy_id, page_size=1000
    )
    versions = client.parameters.ListParameterVersions(wanted).versions
    request.expected_version = versions[0].change.version if versions else 0
    given = request.effective_time.ToDatetime(UTC) if request.HasField("effective_time") else None
    moment = given or datetime.now(UTC)
    past = [item for item in versions if item.effective_time.ToDatetime(UTC) <= moment]
    if not past:
        return
    newest = max(past, key=lambda x: (x.effective_time.ToDatetime(UTC), x.change.version))
    merged = newest.parameters
    for field, _ in request.parameters.ListFields():
        merged.ClearField(field.name)  # type: ignore[arg-type]  # a name that it told itself
    merged.MergeFrom(request.parameters)
    request.parameters.CopyFrom(merged)


@parameters.command()
def simulate(
    portfolio: Annotated[str, typer.Option(help="Portfolio.")],
    file: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, help="TOML or JSON to try out; default: none."),
    ] = None,
    strategy: OfStrategy = "",
    start: Annotated[
        str, typer.Option("--from", help=f"First, {TIME}; default: 30 days ago.")
    ] = "",
    end: Annotated[str, typer.Option("--to", help=f"Last, {TIME}; default: now.")] = "",
    step_s: Annotated[float, typer.Option("--step", help="Seconds between times.")] = 86400.0,
    instrument: Annotated[
        list[str] | None, typer.Option(help="Tell of its lines as well; repeat.")
    ] = None,
    as_told: Annotated[
        bool, typer.Option("--as-told", help="Observations count from when they arrived.")
    ] = False,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Says what rules would have done to parameters on past days; stores nothing."""
    from positionsizing.v1 import parameter_service_pb2 as pb

    from server.cli import files
    from server.cli.simulated_parameters import show

    request = pb.SimulateParametersRequest(
        portfolio_id=portfolio,
        strategy_id=strategy,
        instrument_ids=instrument or (),
        as_told=as_told,
    )
    request.step.FromNanoseconds(round(step_s * 1e9))
    if file is not None:
        request.parameters.CopyFrom(files.read_message(file, pb.SizingParameters()))
    if start:
        request.start_time.FromDatetime(parse_time(start, "--from"))
    if end:
        request.end_time.FromDatetime(parse_time(end, "--to"))
    with connect(address) as client:
        answer = client.parameters.SimulateParameters(request)
    if as_json:
        print_json(answer)
    else:
        show(answer)


@parameters.command()
def history(
    portfolio: Portfolio = "",
    strategy: OfStrategy = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists the versions of one scope, newest first."""
    from google.protobuf.json_format import MessageToDict
    from positionsizing.v1 import parameter_service_pb2 as pb

    from server.cli.render import table

    wanted = pb.ListParameterVersionsRequest(
        portfolio_id=portfolio, strategy_id=strategy, page_size=limit
    )
    with connect(address) as client:
        answer = client.parameters.ListParameterVersions(wanted)
    if as_json:
        print_json(answer)
        return
    left = ("from", "by", "why", "parameters")
    out = table("Parameter versions", "version", *left, left=left, drop=("by",))
    for item in answer.versions:
        given = MessageToDict(item.parameters, preserving_proto_field_name=True)
        text = ", ".join(f"{name} {value}" for name, value in given.items())
        start = f"{item.effective_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
        out.add_row(str(item.change.version), start, item.change.author, item.change.reason, text)
    console().print(out)
