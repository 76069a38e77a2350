"""The limits that a book is beyond, from the command line."""

from pathlib import Path

from tests.server.cli.test_commands import Sizing, sizing

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
    limits.write_text(f"weight_max = 0.299996\nleverage_max = 1.0\n{clusters}")
    assert (await sizing(*set_limits)).code == 0
    near = (await sizing("portfolio", "breaches", "cli-breaches")).out
    assert "at most 29.9996% of equity in one instrument" in near
    assert "30.0000%" in near
    limits.write_text(f"weight_max = 0.25\nleverage_max = 1.0\n{clusters}")
    assert (await sizing(*set_limits)).code == 0
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


async def test_a_decision_says_which_limit_it_leaves_exceeded_and_by_how_much(
    sizing: Sizing, tmp_path: Path
) -> None:
    market, held = tmp_path / "market.csv", tmp_path / "holdings.csv"
    market.write_text("instrument_id,price\nEXC0,10\nEXC1,20\n")
    held.write_text("instrument_id,quantity\nEXC0,30\n")
    limits, signals = tmp_path / "limits.toml", tmp_path / "bets.csv"
    limits.write_text("weight_max = 0.2\nleverage_max = 1.0\nturnover_max = 0.04\n")
    signals.write_text(
        "instrument_id,side,win_probability,payoff,loss_fraction\nEXC0,long,0.6,0.1,0.1\n"
    )
    assert (await sizing("market", "load", str(market), "--id", "cli-exceeded")).code == 0
    for name in ("cli-exceeded", "cli-inside"):
        words = ("portfolio", "create", name, "--cash", "700", "--holdings", str(held))
        assert (await sizing(*words)).code == 0
        set_limits = ("portfolio", "limits", name, "--set", str(limits))
        assert (await sizing(*set_limits)).code == 0
        assert (await sizing("size", str(signals), "--portfolio", name)).code == 0
        limits.write_text("weight_max = 0.35\nleverage_max = 1.0\n")
    asked = ("explain", "--portfolio", "cli-exceeded")
    beyond = "limit exceeded: at most 20.00% of equity in one instrument (EXC0); it is 26.00%"
    assert beyond in (await sizing(*asked)).out
    assert "limit exceeded:" not in (await sizing("explain")).out  # the newest of all
    decided = ("decisions", "--portfolio", "cli-exceeded", "--ids")
    (decision_id,) = (await sizing(*decided)).out.split()
    assert decision_id in (await sizing("replay", "--portfolio", "cli-exceeded")).out
    both = await sizing("replay", decision_id, "--portfolio", "cli-exceeded")
    assert (both.code, "--portfolio" in both.err) == (2, True)
    none = await sizing("explain", "--portfolio", "cli-none")
    assert (none.code, "no decision of 'cli-none'" in none.err) == (1, True)
