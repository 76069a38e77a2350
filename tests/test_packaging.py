"""The image and the composition, as far as they can be checked without a container runtime."""

import re
import tomllib
from pathlib import Path

import pytest

from server.cli import app as cli
from server.config import PREFIX, Config

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "compose.yaml").read_text()
IGNORE = (ROOT / ".dockerignore").read_text().split()

COPIED = [
    source
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    for source in line.split()[:-1]
]


@pytest.mark.parametrize("source", COPIED)
def test_what_the_image_copies_is_there_and_sent(source: str) -> None:
    assert (ROOT / source).exists()
    assert IGNORE[0] == "*"
    assert f"!{source}" in IGNORE


def locked(name: str) -> dict[str, str]:
    """Packages of a lock and their versions."""
    lines = re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE)
    return dict(lines)


def test_an_image_with_extras_has_what_the_plain_one_has_and_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"]) - {"build", "dev", "bench", "cluster"}
    wanted = {
        re.split(r"[^a-z0-9-]", package)[0]
        for extra in extras
        for package in project["optional-dependencies"][extra]
    }
    (default,) = re.findall(r"^ARG REQUIREMENTS=(\S+)", DOCKERFILE, re.MULTILINE)
    all_of_it, plain = locked("requirements-extras.txt"), locked(default)
    assert "requirements-extras.txt" in COPIED
    assert plain.items() <= all_of_it.items()
    assert wanted <= set(all_of_it)


@pytest.mark.parametrize("text", [DOCKERFILE, COMPOSE], ids=["image", "compose"])
def test_settings_have_the_names_of_the_configuration(text: str) -> None:
    names = set(re.findall(rf"\b({PREFIX}[A-Z_]+)[=:]", text))
    assert names
    assert names <= {f"{PREFIX}{name.upper()}" for name in Config.model_fields}


def test_the_image_runs_commands_that_exist_as_another_user_than_root() -> None:
    commands = {item.callback.__name__ for item in cli.registered_commands if item.callback}
    assert 'ENTRYPOINT ["sizing"]' in DOCKERFILE
    (default,) = re.findall(r'^CMD \["(\w+)"\]$', DOCKERFILE, re.MULTILINE)
    (health,) = re.findall(r'CMD \["sizing", "(\w+)"\]', DOCKERFILE)
    assert {default, health} <= commands
    assert re.search(r"^USER sizing$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^ARG PYTHON=python:3\.11\.\d+-slim", DOCKERFILE, re.MULTILINE)


def test_the_broker_tells_clients_an_address_they_can_reach() -> None:
    """A standalone broker says localhost if it isn't told better, which is another container."""
    (host,) = re.findall(r"SIZING_PULSAR_URL: pulsar://(\w+):6650", COMPOSE)
    assert f"--advertised-address, {host}]" in COMPOSE
    assert re.search(rf"^  {host}:$", COMPOSE, re.MULTILINE)
