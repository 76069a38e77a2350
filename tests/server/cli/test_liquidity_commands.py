"""`sizing risk liquidity` and `execution`, and what a reader may choose of a risk report."""

import json
from pathlib import Path

import pytest

from tests.server.cli.test_commands import EXAMPLES, Sizing, sizing

__all__ = ["sizing"]


async def test_how_liquid_names_were(sizing: Sizing, tmp_path: Path) -> None:
    closes, volumes = tmp_path / "closes.csv", tmp_path / "volumes.csv"
    closes.write_text("date,BIG,SMALL\n2024-03-01,100,10\n2024-03-04,101,10.5\n2024-03-05,100,10\n")
    volumes.write_text(
        "date,BIG,SMALL\n2024-03-01,1e6,1000\n2024-03-04,1e6,1000\n2024-03-05,1e6,0\n"
    )
    asked = ("risk", "liquidity", str(closes), "--volumes", str(volumes))
    shown = await sizing(*asked)
    assert shown.code == 0, shown.err
    assert shown.out.index("BIG") < shown.out.index("SMALL")
    found = json.loads((await sizing(*asked, "--json")).out)
    assert found["rank"] == [1, 2]
    assert found["left_out_count"] == [0, 1]
    assert found["illiquidity"][1] == pytest.approx(0.05 / 10_500)
    wrong = await sizing(
        "risk", "liquidity", str(closes), "--volumes", str(EXAMPLES / "prices.csv")
    )
    assert wrong.code == 1
    assert "has not the columns of" in wrong.err
    assert "add BIG, SMALL" in wrong.err
    volumes.write_text("date,BIG,SMALL\n2024-03-01,1e6,1000\n2024-03-05,1e6,0\n")
    short = await sizing(*asked)
    assert "has not the days of" in short.err
    assert "add 2024-03-04" in short.err


async def test_how_fast_to_trade(sizing: Sizing, tmp_path: Path) -> None:
    market, trades = tmp_path / "market.csv", tmp_path / "trades.csv"
    market.write_text(
        "instrument_id,price,volatility,average_daily_volume,spread,lot_size\n"
        "EXEC,50,0.301615649,5e6,0.0025,1\n"
    )
    trades.write_text("instrument_id,quantity\nEXEC,-1e6\n")
    loaded = await sizing("market", "load", str(market), "--id", "cli-execution")
    assert loaded.code == 0, loaded.err
    await sizing("portfolio", "create", "cli-execution", "--cash", "1e6")
    asked = ("risk", "execution", str(trades), "--portfolio", "cli-execution")
    asked += ("--snapshot", "cli-execution", "--days", "5", "--periods", "5")
    shown = await sizing(*asked, "--aversion", "1e-6")
    assert shown.code == 0, shown.err
    assert "911,227" in shown.out
    assert "662,500" in shown.out
    found = json.loads((await sizing(*asked, "--json")).out)
    assert found["risk_aversion"] == pytest.approx(1e-6), "half of Kelly of a million"
    assert found["schedules"][0]["left"][0] == -1e6
    trades.write_text("instrument_id,quantity\nNOWHERE,1\n")
    wrong = await sizing(*asked)
    assert wrong.code == 1
    assert "NOWHERE" in wrong.err


async def test_a_basket_is_traded_together(sizing: Sizing, tmp_path: Path) -> None:
    await sizing("history", "load", str(EXAMPLES / "prices.csv"), "--universe", "cli-basket")
    made = await sizing("correlation", "estimate", "cli-basket", "--id", "cli-basket")
    assert made.code == 0, made.err
    market, trades = tmp_path / "market.csv", tmp_path / "trades.csv"
    market.write_text(
        "instrument_id,price,average_daily_volume,spread,lot_size\n"
        "XOM,100,5e6,0.002,1\nCVX,150,4e6,0.002,1\n"
    )
    trades.write_text("instrument_id,quantity\nXOM,3e5\nCVX,-2e5\n")
    loaded = await sizing("market", "load", str(market), "--id", "cli-basket")
    assert loaded.code == 0, loaded.err
    await sizing("portfolio", "create", "cli-basket", "--cash", "1e8")
    asked = ("risk", "execution", str(trades), "--portfolio", "cli-basket", "--days", "5")
    asked += ("--snapshot", "cli-basket", "--covariance", "cli-basket", "--aversion", "1e-6")
    shown = await sizing(*asked)
    assert shown.code == 0, shown.err
    assert "the basket together:" in shown.out
    assert "each as if alone:" in shown.out
    basket = json.loads((await sizing(*asked, "--json")).out)["basket"]
    assert basket["expected_cost"] < basket["apart_cost"], "the one hedges the other: slowly"


async def test_choices_of_a_risk_report_and_its_backtest(sizing: Sizing, tmp_path: Path) -> None:
    await sizing("history", "load", str(EXAMPLES / "prices.csv"), "--universe", "cli-choices")
    book = tmp_path / "book.csv"
    book.write_text("instrument_id,weight\nXOM,0.5\nKO,0.5\n")
    report = ("risk", "report", str(book), "--universe", "cli-choices")
    choices = ("--tail-fraction", "0.2", "--degrees", "4", "--aversion", "5")
    shown = await sizing(*report, *choices)
    assert shown.code == 0, shown.err
    assert "max drawdown" in shown.out
    assert "the 2 instruments are worth" in shown.out
    found = json.loads((await sizing(*report, *choices, "--json")).out)["after"]
    assert found["student_degrees"] == 4.0
    assert found["pareto"]["exceedances"] == 150
    plain = json.loads((await sizing(*report, "--json")).out)["after"]
    assert plain["pareto"]["exceedances"] == 75
    assert plain["spectral_risk"] > found["spectral_risk"]
    tested = await sizing(
        *("risk", "backtest", str(book), "--universe", "cli-choices"),
        *("--method", "student", "--null-degrees", "4"),
    )
    assert tested.code == 0, tested.err
    assert ", p " in tested.out


async def test_stakes_of_who_trades_for_ever(sizing: Sizing) -> None:
    asset = ("kelly", "--mean", "0.05", "--volatility", "0.4", "--fraction", "1")
    shown = await sizing(*asset, "--spread", "0.01")
    assert shown.code == 0, shown.err
    assert "24.30% to 38.20%" in shown.out
    assert "0.743%" in shown.out
    assert "not traded between" not in (await sizing(*asset)).out
