"""`sizing methods`: every way to size, estimate and measure, and where each is chosen."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from server.cli.common import AsJson, console, say
from server.cli.errors import CommandError

CATALOGUE = Path(__file__).with_name("catalogue.json")
"""Made from the contract (`make proto`)."""


def methods(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="Only what says all of these.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lists the ways to size, estimate and measure, and where each is chosen; needs no service.

    docs/methods.md has formulas, sources and examples.
    """
    groups = _having(json.loads(CATALOGUE.read_text()), words or [])
    if not groups:
        raise CommandError(
            f"nothing says {' '.join(words or [])!r}", "sizing methods without a word lists all"
        )
    if as_json:
        typer.echo(json.dumps(groups, indent=2, ensure_ascii=False))
        return
    from server.cli.render import table

    for group in groups:
        out = table(group["title"], "name", "what it is", left=("name", "what it is"))
        for way in group["ways"]:
            out.add_row(way["name"], way["text"] if words else _first_sentence(way["text"]))
        console().print(out)
        say(f"  in {group['where']}")


def _having(groups: list[dict[str, Any]], words: list[str]) -> list[dict[str, Any]]:
    """The groups with the ways that say every word, without those that have none."""

    def has_all(group: dict[str, Any], way: dict[str, str]) -> bool:
        said = f"{group['title']} {group['where']} {way['name']} {way['text']}".lower()
        return all(word.lower() in said for word in words)

    kept = [
        {**group, "ways": [way for way in group["ways"] if has_all(group, way)]} for group in groups
    ]
    return [group for group in kept if group["ways"]]


_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bet al)\. |: ")
"""Where a sentence ends; an abbreviation ends none."""


def _first_sentence(text: str) -> str:
    return _END.split(text)[0].rstrip(".")
