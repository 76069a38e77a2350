"""Commands on custom sizing algorithms: what there is, and whether one does what it has to."""

import asyncio
import re
from pathlib import Path
from typing import Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json, say

_TEMPLATE = '''"""A custom sizing algorithm: a part of full Kelly, in the server's process."""

VERSION = "1.0"
"""Another one wherever sizes may differ: it is recorded with every decision."""


def size(columns, parameters, portfolio):
    """Weights of the lines, signed fractions of equity; limits, cash and lots come afterwards.

    columns: arrays by name, an entry a line: `kelly` (full Kelly, signed; 0 without an edge),
    `side` (1 or -1), `volatility` and others; they can't be changed. parameters: numbers by name.
    portfolio: numbers of the book. NaN refuses a line, which keeps its position.
    """
    del portfolio
    return parameters.get("part", 0.5) * columns["kelly"]
'''

algorithm = typer.Typer(no_args_is_help=True, help="Custom sizing algorithms, while you write one.")

SettingsFile = Annotated[
    Path,
    typer.Option(
        "--file",
        envvar="SIZING_ALGORITHMS_FILE",
        exists=True,
        dir_okay=False,
        help="The settings that name it.",
    ),
]


def algorithms(as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Lists the custom sizing algorithms of the service, and whether each answers."""
    from positionsizing.v1 import algorithm_service_pb2 as pb
    from positionsizing.v1 import sizing_pb2

    from server.cli.labels import enum_words
    from server.cli.render import table

    with connect(address) as client:
        answer = client.algorithms.ListAlgorithms(pb.ListAlgorithmsRequest())
    if as_json:
        print_json(answer)
        return
    if not answer.algorithms:
        say("no custom algorithms: set SIZING_ALGORITHMS_FILE for the server")
        return
    left = ("version", "runs in", "state", "deadline ms", "SHA-256", "about")
    out = table("Custom sizing algorithms", "name", *left, left=left)
    for item in answer.algorithms:
        state = enum_words(pb.AlgorithmState, item.state, "ALGORITHM_STATE_")
        where = enum_words(sizing_pb2.AlgorithmTier, item.tier, "ALGORITHM_TIER_")
        about = item.state_message or item.description
        out.add_row(
            item.name,
            item.version,
            where,
            state,
            f"{item.deadline_ms:g}",
            item.sha256[:12],
            about,
        )
    console().print(out)


@algorithm.command("new")
def make(
    name: Annotated[str, typer.Argument(help="Of the algorithm: small letters, digits and -.")],
    folder: Annotated[Path, typer.Option(help="Made where it is missing.")] = Path(),
) -> None:
    """Writes an algorithm in Python to begin with, and the settings that name and pin it."""
    from server.algorithms.trusted import code_hash
    from server.cli.errors import CommandError

    if not re.fullmatch(r"[a-z][a-z0-9-]{0,60}", name):
        raise CommandError(f"{name!r} is no name", "small letters, digits and -: half-kelly")
    module = name.replace("-", "_")
    code, settings = folder / f"{module}.py", folder / f"{name}.toml"
    if found := next((path for path in (code, settings) if path.exists()), None):
        raise CommandError(f"{found} is there already", "choose another name or --folder")
    folder.mkdir(parents=True, exist_ok=True)
    code.write_text(_TEMPLATE)
    entry_point = f"{module}:size"
    settings.write_text(
        f"""[{name}]
entry_point = "{entry_point}"
folder = "."
# After each change of the code: sizing algorithm hash {entry_point} --folder {folder}
sha256 = "{code_hash(entry_point, folder)}"
"""
    )
    say(f"{code} and {settings}; try it: sizing algorithm test {name} --file {settings}")


@algorithm.command("hash")
def print_hash(
    entry_point: Annotated[str, typer.Argument(help="MODULE:FUNCTION of Python code.")],
    folder: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Where; default: installed.")
    ] = None,
) -> None:
    """Prints the SHA-256 that pins Python code in the settings."""
    from server.algorithms.trusted import code_hash
    from server.cli.errors import CommandError

    try:
        say(code_hash(entry_point, folder))
    except ValueError as error:
        raise CommandError(str(error), "is --folder right?") from error


@algorithm.command("test")
def try_out(
    name: Annotated[str, typer.Argument(help="Its name in the settings.")],
    file: SettingsFile,
    numbers: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of its parameters; repeat.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tries an algorithm out, without a server: does it do what each has to do?

    The same answer to the same question, whatever the order of lines; odd input; time. Exit code 1
    where a check fails.
    """
    from server.algorithms.conformance import Verdict, conformance
    from server.algorithms.registry import Algorithms
    from server.cli.errors import CommandError
    from server.cli.render import table

    given = dict(_number(text) for text in numbers or ())
    chosen = Algorithms.of(file)
    if name not in chosen.names:
        raise CommandError(f"{file} has no {name!r}", f"it has {', '.join(chosen.names) or 'none'}")

    async def run() -> list[dict[str, str]]:
        try:
            found = await conformance(name, chosen, given)
        finally:
            await chosen.close()
        return [
            {"check": item.name, "verdict": item.verdict.value, "text": item.text} for item in found
        ]

    found = asyncio.run(run())
    if as_json:
        print_json(found)
    else:
        out = table(name, "check", "verdict", "text", left=("check", "verdict", "text"))
        for item in found:
            out.add_row(*item.values())
        console().print(out)
    if any(item["verdict"] == Verdict.FAIL.value for item in found):
        raise typer.Exit(1)


def _number(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if equals and name:
            return name, float(value)
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
