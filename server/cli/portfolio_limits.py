"""Commands on what a portfolio may hold: limits, breaches, reservations, trading state."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import (
    DEFAULT_ADDRESS,
    Address,
    AsJson,
    Firm,
    Group,
    Reason,
    Strategy,
    connect,
    console,
    print_json,
    say,
    scope_of,
    scope_words,
)
from server.cli.portfolio import PortfolioId, SomePortfolio

if TYPE_CHECKING:
    from positionsizing.v1 import portfolio_service_pb2

    from server.client import Client

commands = typer.Typer()


@commands.command()
def limits(
    portfolio_id: SomePortfolio = "",
    new: Annotated[
        Path | None,
        typer.Option("--set", exists=True, dir_okay=False, help="New limits, TOML or JSON, whole."),
    ] = None,
    shared: Annotated[
        Path | None,
        typer.Option("--set-shared", exists=True, dir_okay=False, help="A group's shared limits."),
    ] = None,
    version: Annotated[int, typer.Option(min=0, help="Show a past version.")] = 0,
    group: Group = "",
    strategy: Strategy = "",
    firm: Firm = False,
    reason: Reason = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Shows the limits of a scope, or stores new ones."""
    from google.protobuf.json_format import MessageToJson
    from positionsizing.v1 import limits_pb2
    from positionsizing.v1 import portfolio_service_pb2 as pb

    from server.cli import files

    scope = scope_of(portfolio_id, group, strategy, firm)
    with connect(address) as client:
        if new or shared:
            request = _stored(client, scope)  # what is not given stays as it is
            request.reason = reason
            if new:
                request.limits.CopyFrom(files.read_message(new, limits_pb2.Limits()))
            if shared:
                request.shared.CopyFrom(files.read_message(shared, pb.SharedLimits()))
            client.portfolios.SetLimits(request)
        found = client.portfolios.GetLimits(pb.GetLimitsRequest(scope=scope, version=version))
    if as_json:
        print_json(found)
        return
    change = found.change
    say(f"limits of {scope_words(scope)}, version {change.version}  {change.reason}")
    typer.echo(MessageToJson(found.limits, preserving_proto_field_name=True))
    if found.HasField("shared"):
        say("shared:")
        typer.echo(MessageToJson(found.shared, preserving_proto_field_name=True))


def _stored(
    client: "Client", scope: "portfolio_service_pb2.Scope"
) -> "portfolio_service_pb2.SetLimitsRequest":
    """A request that stores the limits of a scope as they are."""
    import grpc
    from positionsizing.v1 import portfolio_service_pb2 as pb

    try:
        found = client.portfolios.GetLimits(pb.GetLimitsRequest(scope=scope))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return pb.SetLimitsRequest(scope=scope, expected_version=0)
    request = pb.SetLimitsRequest(
        scope=scope, limits=found.limits, expected_version=found.change.version
    )
    if found.HasField("shared"):
        request.shared.CopyFrom(found.shared)
    return request


@commands.command()
def halt(
    portfolio_id: SomePortfolio = "",
    reducing: Annotated[
        bool, typer.Option("--reducing", help="Only let positions shrink, instead of nothing.")
    ] = False,
    group: Group = "",
    strategy: Strategy = "",
    firm: Firm = False,
    reason: Reason = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Stops sizing in a scope: the kill switch."""
    state = 2 if reducing else 3
    _set_state(scope_of(portfolio_id, group, strategy, firm), state, reason, as_json, address)


@commands.command()
def resume(
    portfolio_id: SomePortfolio = "",
    group: Group = "",
    strategy: Strategy = "",
    firm: Firm = False,
    reason: Reason = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lets a scope trade again; wider scopes may still be halted."""
    _set_state(scope_of(portfolio_id, group, strategy, firm), 1, reason, as_json, address)


@commands.command()
def reservations(
    portfolio_id: PortfolioId, as_json: AsJson = False, address: Address = DEFAULT_ADDRESS
) -> None:
    """Lists what is sized but not filled yet."""
    from positionsizing.v1 import portfolio_service_pb2 as pb

    from server.cli.labels import money
    from server.cli.render import table

    request = pb.ListReservationsRequest(portfolio_id=portfolio_id, page_size=1000)
    with connect(address) as client:
        answer = client.portfolios.ListReservations(request)
    if as_json:
        print_json(answer)
        return
    left = ("decision", "strategy", "until", "lots to fill")
    out = table("Open reservations", *left, "cash", left=left, drop=("cash", "strategy"))
    for item in answer.reservations:
        lots = zip(item.instrument_ids, item.trade_lots_open, strict=True)
        text = ", ".join(f"{name} {count:+d}" for name, count in lots)
        until = f"{item.expire_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
        out.add_row(item.decision_id, item.strategy_id, until, text, money(item.cash_open))
    console().print(out)


@commands.command()
def breaches(
    portfolio_id: PortfolioId,
    snapshot: Annotated[str, typer.Option(help="Market snapshot; default: the newest.")] = "",
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Shows the limits that the book is beyond at the prices of a market snapshot."""
    from positionsizing.v1 import portfolio_service_pb2 as pb

    from server.cli.labels import limit_and_value
    from server.cli.render import table

    request = pb.GetBreachesRequest(portfolio_id=portfolio_id, market_snapshot_id=snapshot)
    with connect(address) as client:
        answer = client.portfolios.GetBreaches(request)
    if as_json:
        print_json(answer)
        return
    left = ("limit", "of", "told")
    out = table("Limits passed", "limit", "of", "is", "told", left=left)
    for item in answer.breaches:
        group = item.limit if item.instrument_ids else ""
        limit, value = limit_and_value(item.kind, item.bound, item.value, group)
        of = ", ".join(item.instrument_ids) or item.limit
        time = item.begin_time.ToDatetime() if item.HasField("begin_time") else None
        told = "" if time is None else f"{time:%Y-%m-%d %H:%M}"
        out.add_row(limit, of, f"{value}, reserved" if item.only_reserved else value, told)
    if answer.breaches:
        console().print(out)
    elif not answer.not_checked:
        say("inside all limits")
    for text in answer.not_checked:
        say(f"not looked at: {text}")


def _set_state(
    scope: "portfolio_service_pb2.Scope", state: int, reason: str, as_json: bool, address: str
) -> None:
    from positionsizing.v1 import portfolio_service_pb2 as pb
    from positionsizing.v1 import types_pb2

    from server.cli.labels import enum_words

    request = pb.SetTradingStateRequest(
        scope=scope, trading_state=types_pb2.TradingState.ValueType(state), reason=reason
    )
    with connect(address) as client:
        answer = client.portfolios.SetTradingState(request)
    if as_json:
        print_json(answer)
        return
    words = enum_words(types_pb2.TradingState, answer.trading_state, "TRADING_STATE_")
    say(f"{scope_words(scope)}: {words}, version {answer.trading_state_version}")
