"""The kit that tries algorithms out, and the circuit that leaves failing ones alone."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.algorithms.breaker import FAILURES, REST_S, WITHIN_S, Breaker
from server.algorithms.conformance import Verdict, conformance
from server.algorithms.registry import Algorithms
from server.cli.algorithms import algorithm
from tests.server.algorithms.test_algorithms import EXAMPLES, python_table

HERE = Path(__file__).parents[1] / "support"


async def verdicts(tmp_path: Path, function: str, folder: Path = HERE, **numbers: float):
    settings = tmp_path / "algorithms.toml"
    settings.write_text(python_table("tried", function, folder))
    chosen = Algorithms.of(settings)
    return {item.name: item for item in await conformance("tried", chosen, numbers)}


async def test_the_example_does_what_it_has_to(tmp_path: Path) -> None:
    found = await verdicts(tmp_path, "inverse_volatility:size", EXAMPLES)
    assert Verdict.FAIL not in {item.verdict for item in found.values()}, found
    assert found["lines by themselves"].verdict is Verdict.WARN
    assert found["deterministic"].verdict is Verdict.PASS
    assert sum(name.startswith("odd input") for name in found) >= 10


@pytest.mark.parametrize(
    ("function", "numbers", "failed"),
    [
        ("hostile_algorithms:sleepy", {}, "deterministic"),
        ("hostile_algorithms:ordered", {}, "order of lines"),
        ("hostile_algorithms:size", {"mode": 1.0}, "answers"),
        ("hostile_algorithms:size", {"mode": 4.0}, "answers"),
        ("hostile_algorithms:size", {"mode": 8.0}, "sizes"),
    ],
)
async def test_what_is_wrong_is_found(
    tmp_path: Path, function: str, numbers: dict[str, float], failed: str
) -> None:
    found = await verdicts(tmp_path, function, **numbers)
    assert found[failed].verdict is Verdict.FAIL


def test_the_command_tells_and_fails(tmp_path: Path) -> None:
    settings = tmp_path / "algorithms.toml"
    settings.write_text(
        python_table("good", "inverse_volatility:size", EXAMPLES)
        + python_table("bad", "hostile_algorithms:ordered", HERE)
    )
    runner = CliRunner()
    good = runner.invoke(algorithm, ["test", "good", "--file", str(settings), "--set", "gross=0.5"])
    assert good.exit_code == 0, good.output
    assert "0.5 of equity in all" in " ".join(good.output.split())  # lines break where they may
    bad = runner.invoke(algorithm, ["test", "bad", "--file", str(settings)])
    assert bad.exit_code == 1
    assert "FAIL" in bad.output
    pinned = runner.invoke(
        algorithm, ["hash", "inverse_volatility:size", "--folder", str(EXAMPLES)]
    )
    assert pinned.output.strip() in (EXAMPLES / "algorithms.toml").read_text(), "pin it again"


def test_a_circuit_opens_rests_and_closes() -> None:
    breaker, now = Breaker(), 100.0
    for _ in range(FAILURES - 1):
        assert breaker.enter(now)
        breaker.failed(now)
    assert not breaker.is_open(now)
    assert breaker.enter(now)
    breaker.failed(now)
    assert not breaker.enter(now + REST_S - 0.1)
    assert breaker.enter(now + REST_S), "one is let through"
    assert not breaker.enter(now + REST_S), "and only one"
    breaker.failed(now + REST_S)
    assert not breaker.enter(now + 2 * REST_S - 0.1), "it rests anew"
    assert breaker.enter(now + 2 * REST_S)
    breaker.left()
    assert breaker.enter(now + 2 * REST_S), "a caller who went away leaves the right to others"
    breaker.succeeded()
    assert not breaker.is_open(now)


def test_rare_failures_open_nothing() -> None:
    breaker = Breaker()
    for turn in range(3 * FAILURES):
        breaker.failed(turn * WITHIN_S / (FAILURES - 2))
    assert not breaker.is_open(1e9)
    assert breaker.enter(1e9)
