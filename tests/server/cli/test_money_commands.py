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


async def test_a_split_is_tried_applied_and_listed(sizing: Sizing, tmp_path: Path) -> None:
    await sizing("market", "load", market(tmp_path, 100.0, 10.0), "--confirm-prices")
    file = tmp_path / "holdings.csv"
    file.write_text("instrument_id,quantity\nCLI0,10")
    await sizing("portfolio", "create", "cli-split", "--cash", "1", "--holdings", str(file))
    words = ("action", "split", "CLI0", "3:2")
    tried = await sizing(*words, "--dry-run")
    assert "split 3:2 would be applied" in tried.out
    done = await sizing(*words, "--reason", "three for two")
    assert "cli-split" in done.out
    assert "newest market: " in done.out
    assert "three for two" in (await sizing("action", "list", "CLI0")).out
    refused = await sizing("action", "split", "CLI0", "1:2")
    assert refused.code == 1
    assert "fraction_policy" in refused.err
    paid = await sizing("action", "split", "CLI0", "1:2", "--fractions", "pay", "--json")
    assert paid.json["effects"][0]["quantity_after"] == 7.0
    assert (await sizing("action", "dividend", "CLI0", "1.5")).code == 0
    assert "write NEW:OLD" in (await sizing("action", "split", "CLI0", "2")).err
