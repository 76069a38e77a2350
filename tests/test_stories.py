"""Each bullet of the backlog says how it is reached, and names tests that are there."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import positionsizing.v1
import pytest

from server.config import PREFIX, Config
from storage.events import topics

ROOT = Path(__file__).resolve().parent.parent
SERVICE = ROOT / "tests" / "server"
HEADER = ["bullet", "state", "reached by", "proof", "missing"]
STATES = {"works", "partly", "absent"}
STORIES, BULLETS = 14, 70


def rows() -> list[tuple[str, list[str]]]:
    """The story and the cells of each bullet."""
    found, story = [], ""
    for line in (ROOT / "docs" / "stories.md").read_text().splitlines():
        if line.startswith("## "):
            story = line.removeprefix("## ")
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells != HEADER:
                found.append((story, cells))
    return found


EACH = pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}: {row[1][0]}")


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@cache
def functions_of(path: Path) -> frozenset[str]:
    """Names of functions, those of classes as `Class::function`."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, kinds):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{part.name}" for part in node.body if isinstance(part, kinds)}
    return frozenset(found)


def test_every_bullet_of_every_story_is_there() -> None:
    assert len(rows()) == BULLETS
    assert len({story for story, _ in rows()}) == STORIES


@EACH
def test_a_bullet_names_tests_that_exist_or_says_that_it_is_absent(
    row: tuple[str, list[str]],
) -> None:
    _, cells = row
    assert len(cells) == len(HEADER)
    _, state, reached, proof, missing = cells
    assert state in STATES
    if state == "absent":
        assert not proof
        return
    assert reached
    assert bool(missing) == (state == "partly")
    named = [text.partition("::") for text in spans(proof)]
    assert named
    for path, _, name in named:
        file = (ROOT if path.startswith("tests/") else SERVICE) / path
        assert name in functions_of(file), f"{path}::{name}"
    through = ("tests/server", "tests/clients")
    assert any(p.startswith(through) or not p.startswith("tests/") for p, _, _ in named), (
        "one at least goes through a service"
    )


@cache
def contract() -> dict[str, Any]:
    """Messages and enums of the contract by name; services and methods by theirs, as None."""
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(positionsizing.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"positionsizing.v1.{module.name}").DESCRIPTOR
            found |= {**file.message_types_by_name, **file.enum_types_by_name}
            for service in file.services_by_name.values():
                found |= dict.fromkeys([service.name, *(m.name for m in service.methods)])
    return found


def messages() -> Iterator[Any]:
    return (item for item in contract().values() if hasattr(item, "fields_by_name"))


@cache
def plain_names() -> frozenset[str]:
    """What may be named alone: fields, topics, and values of enums whole or by their last words."""
    names = {name for message in messages() for name in message.fields_by_name}
    names |= {topic.name for topic in (*topics.OUTGOING, *topics.INCOMING)}
    for item in contract().values():
        if hasattr(item, "values_by_name"):
            for value in item.values_by_name:
                words = value.split("_")
                names |= {"_".join(words[place:]) for place in range(len(words))}
    return frozenset(names)


def is_there(text: str) -> bool:
    """Whether it exists: `Message.field.field`, an RPC, a setting, a file, a name."""
    first, *path = text.partition("=")[0].split(".")
    if "/" in text:
        return (ROOT / text).exists()
    if first.startswith(PREFIX) and first.removeprefix(PREFIX).lower() in Config.model_fields:
        return True
    if not path or first not in contract():
        names = [first, *path]
        return all(name in contract() or name in plain_names() for name in names)
    message = contract()[first]
    for name in path:
        if message is None or name not in message.fields_by_name:
            return False
        message = message.fields_by_name[name].message_type
    return True


@EACH
def test_what_a_bullet_is_reached_by_is_there(row: tuple[str, list[str]]) -> None:
    named = [text for text in spans(row[1][2]) if not text.startswith("sizing ")]
    missing = [text for text in named if not is_there(text)]
    assert not missing


def test_what_is_not_there_is_seen() -> None:
    for text in (
        "SizingParameters.kelly",
        "Limits.joint.nothing",
        "SizeEverything",
        "SIZING_MAGIC",
    ):
        assert not is_there(text), text
    for text in ("Limits.joint.tails", "SIZING_AUTH=required", "SetLimits", "docs/stories.md"):
        assert is_there(text), text
