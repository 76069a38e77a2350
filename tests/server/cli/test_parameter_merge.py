"""`sizing parameters set --merge`: what the file leaves out stays as the scope has it."""

import json
from pathlib import Path

from tests.server.cli.test_commands import Sizing, sizing
from tests.server.support.service_client import new_id

__all__ = ["sizing"]


async def test_a_merge_changes_what_the_file_says_and_nothing_else(
    sizing: Sizing, tmp_path: Path
) -> None:
    file, strategy = tmp_path / "parameters.toml", new_id("merged")

    async def put(content: str, *words: str) -> str:
        file.write_text(content)
        done = await sizing("parameters", "set", str(file), "--strategy", strategy, *words)
        assert done.code == 0, done.err
        return done.out

    async def versions() -> list[dict[str, object]]:
        asked = ("parameters", "history", "--strategy", strategy, "--json")
        found = json.loads((await sizing(*asked)).out)["versions"]
        return [item["parameters"] for item in found]

    first = await put("kelly_fraction = 0.4\n", "--merge")
    assert first.endswith(f"parameters of strategy {strategy} stored, version 1\n")
    tolerance = "[drawdown_tolerance]\nwealth_floor = 0.7\nprobability = 0.1\n"
    await put("volatility_target = 0.02\nkelly_fraction = 0.5\n" + tolerance)
    await put("kelly_fraction = 0.9\n", "--effective", "2999-01-01")
    await put(
        "kelly_fraction = 0.3\n[drawdown_tolerance]\nwealth_floor = 0.8\nprobability = 0.2\n",
        "--merge",
    )
    newest, coming, _, oldest = await versions()
    assert oldest == {"kelly_fraction": 0.4}
    assert coming == {"kelly_fraction": 0.9}
    assert newest == {
        "kelly_fraction": 0.3,
        "volatility_target": 0.02,
        "drawdown_tolerance": {"wealth_floor": 0.8, "probability": 0.2},
    }, "from what counts now, not from what comes; a group of fields is replaced whole"
    await put("trade_rate = 0.5\n", "--merge", "--effective", "2999-06-01")
    assert (await versions())[0] == {"kelly_fraction": 0.9, "trade_rate": 0.5}


async def test_without_a_scope_it_says_that_it_is_for_all(sizing: Sizing, tmp_path: Path) -> None:
    file = tmp_path / "parameters.toml"
    file.write_text("interval_probability = 0.95\n")
    done = await sizing("parameters", "set", str(file), "--effective", "2999-01-01")
    assert "parameters of all portfolios and strategies stored, version " in done.out
