"""`sizing backtest` and `sizing simulate` against a real service."""

import json
from pathlib import Path

from test_commands import EXAMPLES, Sizing, sizing

__all__ = ["sizing"]

SHORT = """
[[settings]]
name = "half"
mean_return = { sessions = 40 }
limits = { weight_max = 0.1, leverage_max = 1.0 }
[[settings]]
name = "quarter"
mean_return = { sessions = 40 }
parameters = { kelly_fraction = 0.25 }
limits = { weight_max = 0.1, leverage_max = 1.0 }
"""


async def test_a_backtest_is_shown_by_stage_and_reported_in_a_page(
    sizing: Sizing, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.csv"
    lines = (EXAMPLES / "prices.csv").read_text().splitlines()
    prices.write_text("\n".join(lines[:140]) + "\n")
    file, page = tmp_path / "backtest.toml", tmp_path / "report.html"
    file.write_text(SHORT)
    shown = await sizing("backtest", str(file), "--prices", str(prices), "--report", str(page))
    assert shown.code == 0, shown.err
    for words in ("half", "quarter", "raw Kelly", "execution", "total", "of 2 tried"):
        assert words in shown.out
    html = page.read_text()
    assert "Fall from the peak" in html
    assert "<script src=" not in html, "the page opens without a network"
    printed = await sizing("backtest", str(file), "--prices", str(prices), "--json")
    assert [item["name"] for item in json.loads(printed.out)["results"]] == ["half", "quarter"]


async def test_a_backtest_without_prices_says_what_to_add(sizing: Sizing, tmp_path: Path) -> None:
    file = tmp_path / "backtest.toml"
    file.write_text(SHORT)
    refused = await sizing("backtest", str(file))
    assert refused.code == 1
    assert "--prices" in refused.err


async def test_futures_are_a_row_a_fraction(sizing: Sizing) -> None:
    words = ("--fraction", "1.1", "--fraction", "2.2", "--mean", "0.05", "--volatility", "0.15")
    shown = await sizing("simulate", *words, "--level", "0.7", "--paths", "500")
    assert shown.code == 0, shown.err
    assert "1.1" in shown.out
    assert "2.2" in shown.out
    assert "ever 0.7" in shown.out


async def test_the_search_of_the_examples_ends_in_a_proposal_that_can_be_set(
    sizing: Sizing, tmp_path: Path
) -> None:
    proposal = tmp_path / "tuned.json"
    words = ("--prices", str(EXAMPLES / "prices.csv"), "--proposal", str(proposal))
    shown = await sizing("tune", str(EXAMPLES / "tune.toml"), *words)
    assert shown.code == 0, shown.err
    for text in ("as it is", "walk-forward", "looked at once", "64 trials"):
        assert text in shown.out
    kept = json.loads(proposal.read_text())
    assert 0.05 <= kept["kelly_fraction"] <= 1.0
    applied = await sizing("parameters", "set", str(proposal), "--strategy", "tuned")
    assert applied.code == 0, applied.err
