"""Jumps and cash by currency, from the command line."""

from pathlib import Path

import pytest
from test_commands import Sizing, sizing

__all__ = ["sizing"]


def market(folder: Path, *prices: float) -> str:
    file = folder / "market.csv"
    lines = [f"CLI{i},{price}" for i, price in enumerate(prices)]
    file.write_text("\n".join(["instrument_id,price", *lines]))
    return str(file)


async def test_a_jump_is_said_and_confirmed(sizing: Sizing, tmp_path: Path) -> None:
    first = await sizing("market", "load", market(tmp_path, 100.0, 10.0), "--confirm-prices")
    assert "jump" not in first.out
    said = await sizing("market", "load", market(tmp_path, 40.0, 10.0), "--id", "cli-jump")
    assert "CLI0: 40 after 100 (-60%)" in said.out
    assert "sizing market confirm cli-jump" in said.out
    done = await sizing("market", "confirm", "cli-jump")
    assert "1 price accepted" in done.out
    assert "CLI0: 40 after 100" in done.out
    assert "0 prices accepted" in (await sizing("market", "confirm", "cli-jump")).out


async def test_accounts_are_opened_shown_and_moved(sizing: Sizing) -> None:
    made = await sizing("portfolio", "create", "cli-cash", "--cash", "1000", "--cash-in", "EUR=500")
    assert "cash in EUR: 500" in made.out
    words = ("portfolio", "cash", "cli-cash", "EUR=900", "USD=-1000")
    moved = await sizing(*words, "--kind", "conversion", "--json")
    assert moved.json["cash_balances"] == [{"currency": "EUR", "amount": 1400.0}]
    refused = await sizing(*words, "--kind", "gift")
    assert refused.code == 1
    assert "payment, income, conversion" in refused.err
    assert (
        "no amount of cash"
        in (await sizing("portfolio", "cash", "cli-cash", "EUR", "--kind", "income")).err
    )
    books = ("portfolio", "set-holdings", "cli-cash", "--cash", "1", "--confirm-equity")
    assert "EUR" not in (await sizing(*books)).out


async def test_confirming_an_equity_needs_a_reason(sizing: Sizing) -> None:
    await sizing("portfolio", "create", "cli-equity", "--cash", "1000")
    said = await sizing("portfolio", "confirm-equity", "cli-equity", "--reason", "a deposit")
    assert "of cli-equity is accepted; before: none" in said.out


@pytest.mark.parametrize("words", [("--reason", " ")])
async def test_an_empty_reason_is_none(sizing: Sizing, words: tuple[str, ...]) -> None:
    await sizing("portfolio", "create", "cli-equity", "--cash", "1000")
    said = await sizing("portfolio", "confirm-equity", "cli-equity", *words)
    assert said.code == 1
    assert "reason" in said.err
