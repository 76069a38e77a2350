"""Options that many commands share, the client they use, and output for people and programs."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message
    from positionsizing.v1.portfolio_service_pb2 import Scope
    from rich.console import Console

    from server.client import Client

DEFAULT_ADDRESS = "127.0.0.1:50051"
TIMEOUT_S = 30.0

Address = Annotated[
    str, typer.Option(envvar="SIZING_ADDRESS", help="HOST:PORT of the service.", show_default=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Reason = Annotated[str, typer.Option(help="Why, for the history.")]
Firm = Annotated[bool, typer.Option("--firm", help="The whole firm instead of one portfolio.")]
Group = Annotated[str, typer.Option("--group", help="A group of portfolios, by id.")]
Strategy = Annotated[str, typer.Option("--strategy", help="A strategy, by id.")]


def _can_be_written(path: Path | None) -> Path | None:
    """Refuses before any work what could not be written after it."""
    if path is not None:
        folder = path.absolute().parent
        if not folder.is_dir():
            raise typer.BadParameter(f"there is no folder {folder}")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise typer.BadParameter(f"{path} can't be written")
    return path


def _page_can_be_written(path: Path | None) -> Path | None:
    if path is not None:
        from server.cli.page import check_installed

        check_installed()
    return _can_be_written(path)


def _tables_can_be_written(folder: Path | None) -> Path | None:
    if folder is not None:
        from server.cli.page import check_installed

        check_installed()
        there = next(
            path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
        )
        if not os.access(there, os.W_OK):
            raise typer.BadParameter(f"{folder} can't be written")
    return folder


def file_to_write(what: str) -> typer.models.OptionInfo:
    """An option that names a file to write; what can't be written is refused before any work."""
    return typer.Option(dir_okay=False, callback=_can_be_written, help=what)


Report = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        callback=_page_can_be_written,
        help="Write an HTML page that opens offline.",
    ),
]
Tables = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        callback=_tables_can_be_written,
        help="Write what the page draws into this folder, as CSV and Parquet.",
    ),
]
GuaranteePeriods = Annotated[
    float | None,
    typer.Option(help="Growth kept over so many, whatever the distribution; with the next."),
]
GuaranteeProbability = Annotated[
    float | None, typer.Option(help="Of growing less than that, at most.")
]


_timeout_s = TIMEOUT_S
_token_file: Path | None = None
_tls: dict[str, Path | None] = {}
_RULE = 80
_WIDE = 1000
"""Columns where the output is no terminal and COLUMNS is unset: nothing is wrapped or left out."""


def set_timeout(timeout_s: float) -> None:
    """How long the calls of this process wait for their answers."""
    global _timeout_s
    _timeout_s = timeout_s


def set_credentials(token_file: Path | None, **tls: Path | None) -> None:
    """What the calls of this process show; `tls`: files as `Client` takes them."""
    global _token_file, _tls
    _token_file, _tls = token_file, tls


def connect(address: str) -> "Client":
    """A client of the service at `address`."""
    from server.client import Client

    return Client(address, timeout_s=_timeout_s, token_file=_token_file, **_tls)


def channel_of(address: str) -> "grpc.aio.Channel":
    """An asynchronous channel with the TLS files of this process, and no credential."""
    import grpc

    from server.client import CHANNEL_OPTIONS, channel_credentials

    credentials = channel_credentials(**_tls)
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def console() -> "Console":
    """Where tables and sentences go: what is printed is data, never markup."""
    from rich.console import Console

    from server.cli.layout import visible

    class PlainConsole(Console):
        """Shows strings as they are, with control characters as escapes."""

        def print(self, *objects: Any, **kwargs: Any) -> None:
            """Prints, without markup."""
            shown = (visible(o, lines=True) if isinstance(o, str) else o for o in objects)
            super().print(*shown, **kwargs)

        def rule(self, title: Any = "", **kwargs: Any) -> None:
            """A line across, not longer than people read."""
            from rich.rule import Rule

            super().print(Rule(visible(str(title)), **kwargs), width=min(self.width, _RULE))

    looks: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    plain = PlainConsole(**looks)
    if plain.is_terminal or "COLUMNS" in os.environ:
        return plain
    return PlainConsole(width=_WIDE, **looks)


def say(text: str) -> None:
    """A line or more for people, on standard output, with control characters as escapes."""
    from server.cli.layout import visible

    typer.echo(visible(text, lines=True))


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


def author() -> str:
    """Who is at this machine."""
    import getpass

    try:
        return f"local:{getpass.getuser()}"
    except (KeyError, OSError):
        return "local"
