"""`sizing diff` and `sizing explain --why-not-larger` against a real service."""

from tests.server.cli.test_commands import EXAMPLES, Sizing, book, signals, sizing

__all__ = ["sizing"]


async def test_two_decisions_and_a_ladder_are_shown(sizing: Sizing) -> None:
    await book(sizing, "diff")
    await sizing("portfolio", "limits", "diff", "--set", str(EXAMPLES / "limits.toml"))
    await sizing(*signals("diff"))
    await sizing(*signals("diff"))
    listed = (await sizing("decisions", "--portfolio", "diff", "--ids")).out.split()
    second, first = listed[:2]
    shown = await sizing("diff", first, second)
    assert shown.code == 0, shown.err
    for words in ("Positions in units", "holdings", "Inputs that differ", "open_buy of"):
        assert words in shown.out
    answer = (await sizing("diff", first, second, "--json")).json
    assert answer["groups"] == ["INPUT_GROUP_HOLDINGS"]
    same = await sizing("diff", first, first)
    assert "the same inputs" in same.out
    ladder = await sizing("explain", first, "--why-not-larger", "--instrument", "RRC")
    assert ladder.code == 0, ladder.err
    assert "RRC: what holds it" in ladder.out
    assert "trade at most 1.00% of the daily volume" in ladder.out
    assert "Kelly fraction" in ladder.out
    printed = await sizing("explain", first, "--why-not-larger", "--instrument", "RRC", "--json")
    rungs = printed.json["RRC"]["rungs"]
    assert "LIMIT_KIND_ADV_TRADE_MAX" in [rung["limit"] for rung in rungs]
