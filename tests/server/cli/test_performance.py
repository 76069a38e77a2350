"""`sizing performance` of the example book, a day later."""

import csv
from pathlib import Path

from tests.server.cli.test_commands import EXAMPLES, Sizing, book, signals, sizing

__all__ = ["sizing"]


async def test_a_benchmark_splits_the_difference_by_sector(sizing: Sizing, tmp_path: Path) -> None:
    await book(sizing, "earned")
    await sizing("portfolio", "limits", "earned", "--set", str(EXAMPLES / "limits.toml"))
    assert (await sizing(*signals("earned"))).code == 0
    with (EXAMPLES / "market.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    later = tmp_path / "later.csv"
    with later.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"price": f"{1.01 * float(row['price']):.4f}"} for row in rows)
    load = ("market", "load", str(later), "--id", "cli-earned", "--as-of", "2022-12-29T21:00Z")
    assert (await sizing(*load)).code == 0
    weights = tmp_path / "benchmark.csv"
    weights.write_text("instrument_id,weight\nKO,0.5\nXOM,0.3\n")
    words = ("--end", "cli-earned", "--benchmark", str(weights))
    shown = await sizing("performance", "earned", *words)
    assert shown.code == 0, shown.err
    for text in ("+0.80% of the benchmark", "Energy", "cash", "allocation", "selection"):
        assert text in shown.out
    page = tmp_path / "performance.html"
    assert (
        f"report: {page}"
        in (await sizing("performance", "earned", *words, "--report", str(page))).out
    )
    html = page.read_text()
    assert "<script src=" not in html, "the page opens without a network"
    for text in ("Log growth by stage", "half Kelly", "Energy", "not filled"):
        assert text in html
    exposures = tmp_path / "exposures.csv"
    exposures.write_text("instrument_id,KO,XOM\nKO,1,0\nXOM,0,1\nAAPL,0.4,0.1\n")
    last = ("performance", "earned", "--end", "cli-earned", "--factors", str(exposures))
    by_factor = (await sizing(*last)).out
    for text in ("by factor", "specific", "unclassified"):
        assert text in by_factor
    parts = (await sizing(*last, "--json")).json["factor_attribution"]
    whole = sum(item.get("effect", 0.0) for item in parts["effects"])
    assert abs(whole - parts["portfolio_return"]) < 1e-12
    exposures.write_text("instrument_id,KO\nKO,much\n")
    wrong = await sizing(*last)
    assert wrong.code == 1
    assert "line 2" in wrong.err
    told = (await sizing("performance", "earned", *words, "--json")).json["attribution"]
    effects = sum(g.get("allocation", 0.0) + g.get("selection", 0.0) for g in told["groups"])
    assert abs(effects - (told["portfolio_return"] - told["benchmark_return"])) < 1e-12
