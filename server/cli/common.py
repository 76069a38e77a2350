"""Options that many commands share, the client they use, and output for programs."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from positionsizing.v1.portfolio_service_pb2 import Scope
    from rich.console import Console

    from server.client import Client

DEFAULT_ADDRESS = "127.0.0.1:50051"

Address = Annotated[
    str, typer.Option(envvar="SIZING_ADDRESS", help="HOST:PORT of the service.", show_default=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Reason = Annotated[str, typer.Option(help="Why, for the history.")]
Firm = Annotated[bool, typer.Option("--firm", help="The whole firm instead of one portfolio.")]
Group = Annotated[str, typer.Option("--group", help="A group of portfolios, by id.")]
Strategy = Annotated[str, typer.Option("--strategy", help="A strategy, by id.")]


def connect(address: str) -> "Client":
    """A client of the service at `address`."""
    from server.client import Client

    return Client(address)


def console() -> "Console":
    """Where tables go; wide enough for them where the output is no terminal."""
    from rich.console import Console

    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=140)


def print_json(message: "Message | Sequence[Any] | dict[str, Any]") -> None:
    """A message in the JSON form of protobuf, fields named as in the contract; or plain data."""
    from google.protobuf.json_format import MessageToDict
    from google.protobuf.message import Message

    data: Any = message
    if isinstance(message, Message):
        data = MessageToDict(message, preserving_proto_field_name=True)
    typer.echo(json.dumps(data, indent=2))


def scope_of(portfolio: str, group: str, strategy: str, firm: bool) -> "Scope":
    """The scope that the options name: exactly one of them."""
    from positionsizing.v1.portfolio_service_pb2 import Scope

    if sum(map(bool, (portfolio, group, strategy, firm))) != 1:
        raise typer.BadParameter("name one: PORTFOLIO, --group, --strategy or --firm")
    if firm:
        return Scope()
    if group:
        return Scope(group_id=group)
    if strategy:
        return Scope(strategy_id=strategy)
    return Scope(portfolio_id=portfolio)


def scope_words(scope: "Scope") -> str:
    """A scope in words."""
    which = scope.WhichOneof("scope")
    if which is None:
        return "the firm"
    return f"{which.removesuffix('_id')} {getattr(scope, which)}"
