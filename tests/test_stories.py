"""Each bullet of the backlog says how it is reached, and names a test that is there."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
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


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


def test_every_bullet_of_every_story_is_there() -> None:
    assert len(rows()) == BULLETS
    assert len({story for story, _ in rows()}) == STORIES


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}: {row[1][0]}")
def test_a_bullet_names_a_test_that_exists_or_says_that_it_is_absent(
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
    path, _, name = proof.strip("`").partition("::")
    assert name in functions_of(path)
