"""Jumps and cash by currency, from the command line."""

from pathlib import Path

import pytest

from tests.server.cli.test_commands import Sizing, sizing

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


async def test_a_market_in_several_currencies_is_loaded_from_a_table(
    sizing: Sizing, tmp_path: Path
) -> None:
    file = tmp_path / "market.csv"
    file.write_text("instrument_id,price,currency\nSAP-CLI,200,EUR\nSONY-CLI,3000,JPY\n")
    rates = ("--rate", "EUR/USD=1.08", "--rate", "usd/jpy=150")
    await sizing("market", "load", str(file), "--id", "cli-rates", *rates)
    shown = (await sizing("market", "show", "cli-rates", "--json")).json["snapshot"]
    assert [(r["from_currency"], r["to_currency"], r["rate"]) for r in shown["exchange_rates"]] == [
        ("EUR", "USD", 1.08),
        ("USD", "JPY", 150.0),
    ]
    holdings = tmp_path / "holdings.csv"
    holdings.write_text("instrument_id,quantity\nSONY-CLI,12345678.5\n")
    words = ("--cash", "1000", "--holdings", str(holdings))
    made = await sizing("portfolio", "create", "cli-rates", *words)
    assert "12,345,678.5" in made.out
    for wrong in ("EUR/USD", "EUR=1.08", "EUR/USD=1,08"):
        assert (await sizing("market", "load", str(file), "--rate", wrong)).code == 1


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


async def test_markets_loaded_within_a_second_are_two(sizing: Sizing, tmp_path: Path) -> None:
    loads = [
        await sizing("market", "load", market(tmp_path, price), "--confirm-prices", "--json")
        for price in (100.0, 101.0)
    ]
    assert [load.code for load in loads] == [0, 0]
    first, second = (load.json["snapshot_id"] for load in loads)
    assert first != second


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


async def test_what_was_split_is_settled_in_new_lots(sizing: Sizing, tmp_path: Path) -> None:
    await sizing("market", "load", market(tmp_path, 100.0, 10.0), "--confirm-prices")
    await sizing("portfolio", "create", "cli-new-lots", "--cash", "100000")
    limits = tmp_path / "limits.toml"
    limits.write_text("weight_max = 0.1")
    await sizing("portfolio", "limits", "cli-new-lots", "--set", str(limits))
    signals = tmp_path / "signals.csv"
    columns = "instrument_id,side,win_probability,payoff,loss_fraction"
    signals.write_text(f"{columns}\nCLI0,long,0.9,1,0.5\nCLI1,long,0.9,1,0.5")
    words = ("size", str(signals), "--portfolio", "cli-new-lots", "--json")
    decision = (await sizing(*words)).json["decision_id"]
    assert (await sizing("action", "split", "CLI0", "2:1")).code == 0
    assert (await sizing("action", "lot", "CLI1", "50")).code == 0
    filled = await sizing("settle", decision, "--fill", "CLI1=500@10")
    assert filled.code == 0, filled.err
    assert "still open: CLI1 +10 lots" in filled.out
    rest = await sizing("settle", decision, "--filled")
    assert "filled" in rest.out, rest.err
    held = (await sizing("portfolio", "show", "cli-new-lots", "--json")).json
    assert held["cash"] == 80_000.0
    assert held["holdings"]["quantity"] == [200.0, 1000.0]


async def test_fills_of_an_inverse_future_are_worth_what_their_price_together_is(
    sizing: Sizing, tmp_path: Path
) -> None:
    """Gains go by 1 / price, and so do parts of a fill."""
    contract = tmp_path / "contract.csv"
    header = "instrument_id,price,currency,contract_kind,multiplier,margin_rate_long"
    contract.write_text(f"{header}\nINV-CLI,60000,BTC,inverse_future,100,0.1\n")
    of = ("--universe", "inverse-cli")
    await sizing("market", "load", str(contract), "--rate", "BTC/USD=60000", *of)
    await sizing("portfolio", "create", "cli-inverse", "--cash", "100000", *of)
    limits = tmp_path / "limits.toml"
    limits.write_text("notional_max = 4000")
    await sizing("portfolio", "limits", "cli-inverse", "--set", str(limits))
    signals = tmp_path / "signals.csv"
    signals.write_text(
        "instrument_id,side,win_probability,payoff,loss_fraction\nINV-CLI,long,0.9,1,0.5"
    )
    sized = await sizing("size", str(signals), "--portfolio", "cli-inverse", "--json")
    fills = ("--fill", "INV-CLI=10@50000", "--fill", "INV-CLI=30@60000")
    settled = await sizing("settle", sized.json["decision_id"], *fills)
    assert settled.code == 0, settled.err
    held = (await sizing("portfolio", "show", "cli-inverse", "--json")).json["holdings"]
    assert held["quantity"] == [40.0]
    assert 40.0 / held["average_price"][0] == pytest.approx(10 / 50_000 + 30 / 60_000, rel=1e-12)


async def test_books_are_shown_to_the_cent_with_what_was_paid(
    sizing: Sizing, tmp_path: Path
) -> None:
    holdings = tmp_path / "holdings.csv"
    holdings.write_text("instrument_id,quantity,average_price\nBUND-CLI,-3,131.25\nX-CLI,2,\n")
    accounts = ("--cash-in", "EUR=400000.25", "--cash-in", "BTC=1.00000001")
    words = ("--cash", "3000000.07", *accounts, "--holdings", str(holdings))
    made = await sizing("portfolio", "create", "cli-cents", *words)
    for shown in ("3,000,000.07 USD", "EUR: 400,000.25", "BTC: 1.00000001", "131.25"):
        assert shown in made.out
    assert "3,000,000.07 USD" in (await sizing("portfolio", "list")).out


async def test_a_bad_day_is_shown(sizing: Sizing, tmp_path: Path) -> None:
    await sizing("market", "load", market(tmp_path, 100.0, 10.0), "--confirm-prices")
    zoned = ("--cash", "1000", "--time-zone", "Europe/Zurich")
    await sizing("portfolio", "create", "cli-day", *zoned)
    limits = tmp_path / "limits.toml"
    limits.write_text("weight_max = 0.1\nday_loss_max = 0.05")
    await sizing("portfolio", "limits", "cli-day", "--set", str(limits))
    lost = ("portfolio", "set-holdings", "cli-day", "--cash", "900", "--payment", "0")
    assert "reducing" in (await sizing(*lost)).out
    said = (await sizing("portfolio", "show", "cli-day")).out
    assert "(Europe/Zurich): -10.00% of 1,000.00, day_loss_max passed" in said
    moved = await sizing("portfolio", "time-zone", "cli-day", "Asia/Tokyo", "--json")
    assert moved.json["time_zone"] == "Asia/Tokyo"


async def test_fees_and_prices_of_fills_have_currencies_and_rates(
    sizing: Sizing, tmp_path: Path
) -> None:
    """A euro share of a dollar book, its fee in pounds: money by hand."""
    market, limits, signals = (tmp_path / name for name in ("m.csv", "l.toml", "s.csv"))
    market.write_text("instrument_id,price,currency\nEU-CLI,50,EUR\n")
    limits.write_text("weight_max = 0.5")
    signals.write_text("instrument_id,side,win_probability,payoff\nEU-CLI,long,0.9,1")
    of = ("--universe", "euros-cli")
    rates = ("--rate", "EUR/USD=1.10", "--rate", "GBP/USD=1.25")
    loaded = await sizing("market", "load", str(market), *rates, *of)
    assert loaded.code == 0, loaded.err
    await sizing("portfolio", "create", "cli-euros", "--cash", "100000", *of)
    await sizing("portfolio", "limits", "cli-euros", "--set", str(limits))

    async def decided() -> str:
        sized = await sizing("size", str(signals), "--portfolio", "cli-euros", "--json")
        return str(sized.json["decision_id"])

    async def cash() -> float:
        return float((await sizing("portfolio", "show", "cli-euros", "--json")).json["cash"])

    first, before = await decided(), await cash()
    terms = "fee=8,fee_currency=GBP,currency=EUR,exchange_rate=1.2"
    settled = await sizing("settle", first, "--fill", f"EU-CLI=100@51,{terms}", "--cancel")
    assert settled.code == 0, settled.err
    spent = 100 * 51 * 1.2 + 8 * 1.25
    assert await cash() == pytest.approx(before - spent, abs=1e-6)

    second, before = await decided(), await cash()
    names = "execution_id,decision_id,instrument_id,quantity,price,fee,fee_currency,exchange_rate"
    executed = tmp_path / "fills.csv"
    executed.write_text(f"{names}\ne1,{second},EU-CLI,10,50,4,GBP,1.2\n")
    booked = await sizing("import", "fills", str(executed))
    assert booked.code == 0, booked.err
    assert await cash() == pytest.approx(before - 10 * 50 * 1.2 - 4 * 1.25, abs=1e-6)
    differs = ("--fill", "EU-CLI=10@50,fee=1", "--fill", "EU-CLI=10@50,fee=1,fee_currency=GBP")
    refused = await sizing("settle", second, *differs)
    assert refused.code == 1
    assert "fills of EU-CLI differ" in refused.err
    far = await sizing("settle", second, "--fill", "EU-CLI=10@90")
    assert far.code == 1
    sure = await sizing("settle", second, "--fill", "EU-CLI=10@90", "--confirm-prices", "--cancel")
    assert sure.code == 0, sure.err
