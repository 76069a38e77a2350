"""`sizing performance` of the example book, a day later."""

import csv
from pathlib import Path

from test_commands import EXAMPLES, Sizing, book, signals, sizing

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
    told = (await sizing("performance", "earned", *words, "--json")).json["attribution"]
    effects = sum(g.get("allocation", 0.0) + g.get("selection", 0.0) for g in told["groups"])
    assert abs(effects - (told["portfolio_return"] - told["benchmark_return"])) < 1e-12
