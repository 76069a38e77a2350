"""`sizing kelly`."""

import json

import pytest
from test_commands import Sizing, sizing

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
