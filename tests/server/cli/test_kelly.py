"""`sizing kelly`."""

import json

import pytest

from tests.server.cli.test_commands import Sizing, sizing

__all__ = ["sizing"]


async def test_a_bet_and_an_asset(sizing: Sizing) -> None:
    shown = await sizing("kelly", "--win-probability", "0.6", "--payoff", "1", "--outcomes", "50")
    assert shown.code == 0, shown.err
    assert "full Kelly 20.00%, from -7.77% to 44.83%" in shown.out
    assert "doubles first" in shown.out
    asked = ("kelly", "--mean", "0.08", "--volatility", "0.2", "--fraction", "0.5", "--json")
    found = json.loads((await sizing(*asked)).out)
    assert found["kelly"] == pytest.approx(2.0)
    assert [row["kelly_fraction"] for row in found["rows"]] == [0.5]
    none = await sizing("kelly", "--win-probability", "0.4", "--payoff", "1")
    assert "no bet" in none.out
    both = await sizing("kelly", "--win-probability", "0.6", "--mean", "0.1")
    assert both.code == 1
    assert "either what a bet pays or how an asset moves" in both.err
    wrong = await sizing("kelly", "--win-probability", "60", "--payoff", "1")
    assert wrong.code == 1
    assert "bet.win_probability" in wrong.err


async def test_the_growth_that_is_kept(sizing: Sizing) -> None:
    asset = ("kelly", "--mean", "0.01", "--volatility", "0.05", "--fraction", "0.25")
    kept = ("--guarantee-periods", "120", "--guarantee-probability", "0.05")
    shown = await sizing(*asset, *kept)
    assert "most growth is kept at a stake of 0.00%" in shown.out
    assert "-3.474%" in shown.out
    assert "growth kept" not in (await sizing(*asset)).out
    half = await sizing(*asset, *kept[:2])
    assert (half.code, "go together" in half.err) == (1, True)
