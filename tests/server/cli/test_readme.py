"""What README and docs tell people to type: the way runs, every command and option exists, every
link leads somewhere.
"""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from compute.shapes import KernelRegistry
from server.cli import app as cli
from storage.embedded import EmbeddedServer
from tests.server.support.service_client import started

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
MENTIONS = sorted(
    {line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines()}
    | set(re.findall(r"`(sizing [^`]+)`", TEXT.replace("\n", " ")))
)
COMMANDS = [text for text in MENTIONS if re.match(r"sizing\s", text)]


def the_block(part: str) -> str:
    (found,) = (block for block in BLOCKS if part in block)
    return found


async def test_the_way_from_prices_to_sizes_runs_word_for_word(
    postgres_server: EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    """The block as it is; only `sizing` is this tree's, and talks to the server of these tests."""
    block = the_block("sizing market load")
    assert block.startswith("alias sizing=.venv/bin/sizing ")
    python = f"{sys.executable} -m server.cli"
    script = f'set -e\nsizing() {{ {python} "$@"; }}\n' + block.partition("\n")[2]

    def run(address: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", script],
            cwd=ROOT,
            env={**os.environ, "SIZING_ADDRESS": address},
            capture_output=True,
            text=True,
            check=False,
        )

    # A service of its own: the newest snapshot and decision are those of the block.
    async with started(postgres_server, kernels, tmp_path) as app:
        done = await asyncio.to_thread(run, f"127.0.0.1:{app.port}")
    assert done.returncode == 0, done.stderr
    assert "20 instruments" in done.stdout
    assert "the same lots" in done.stdout
    assert done.stdout.rstrip().endswith("filled")


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("text", COMMANDS)
def test_every_command_and_option_of_the_docs_exists(text: str) -> None:
    command: Any = typer.main.get_command(cli)
    words = [word.rstrip(";") for word in text.split()[1:] if word != "..."]
    everywhere = {"--help", "--timeout", "--trace", "--version", "--install-completion"}
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    is_group = hasattr(command, "commands")
    known = everywhere | {option for item in command.params for option in item.opts}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known
    plain = [word for word in words if not word.startswith("-")]
    assert not is_group or not plain or plain[0] == "COMMAND"


def anchors(page: Path) -> set[str]:
    """The names GitHub gives to the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
