"""The limits that a book is beyond, from the command line."""

from pathlib import Path

from test_commands import Sizing, sizing

__all__ = ["sizing"]


async def test_what_a_book_is_beyond_is_shown(sizing: Sizing, tmp_path: Path) -> None:
    market, held = tmp_path / "market.csv", tmp_path / "holdings.csv"
    market.write_text("instrument_id,price\nBRC0,10\nBRC1,20\n")
    held.write_text("instrument_id,quantity\nBRC0,30\nBRC1,5\n")
    assert (await sizing("market", "load", str(market), "--id", "cli-breaches")).code == 0
    words = ("portfolio", "create", "cli-breaches", "--cash", "600", "--holdings", str(held))
    assert (await sizing(*words)).code == 0
    limits = tmp_path / "limits.toml"
    set_limits = ("portfolio", "limits", "cli-breaches", "--set", str(limits))
    limits.write_text("weight_max = 0.5\nleverage_max = 1.0\n")
    assert (await sizing(*set_limits)).code == 0
    assert "inside all limits" in (await sizing("portfolio", "breaches", "cli-breaches")).out
    clusters = (
        '[[clusters]]\nname = "alike"\nlinkage = "LINKAGE_SINGLE"\ndistance_max = 0.4\n'
        "gross_weight_max = 0.2\n"
    )
    limits.write_text(f"weight_max = 0.25\nleverage_max = 1.0\n{clusters}")
    assert (await sizing(*set_limits)).code == 0
    shown = await sizing("portfolio", "breaches", "cli-breaches")
    assert "at most 25.00% of equity in one instrument" in shown.out
    assert "BRC0" in shown.out
    assert "30.00%" in shown.out
    assert "not looked at: limits on clusters ('alike') need correlations" in shown.out
    market.write_text("instrument_id,price\nBRC1,20\n")
    assert (await sizing("market", "load", str(market), "--id", "cli-breaches-part")).code == 0
    blind = await sizing("portfolio", "breaches", "cli-breaches")
    assert "'BRC0'" in blind.err
    assert "--snapshot" in blind.err
    named = await sizing("portfolio", "breaches", "cli-breaches", "--snapshot", "cli-breaches")
    assert named.out == shown.out
    again = ("market", "load", str(tmp_path / "whole.csv"), "--id", "cli-breaches-whole")
    (tmp_path / "whole.csv").write_text("instrument_id,price\nBRC0,10\nBRC1,20\n")
    assert (await sizing(*again)).code == 0
    found = (await sizing("portfolio", "breaches", "cli-breaches", "--json")).json
    assert [(b["limit"], b["bound"], b["value"]) for b in found["breaches"]] == [
        ("BRC0", 0.25, 0.3)
    ]
