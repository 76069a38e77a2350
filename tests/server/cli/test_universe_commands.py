"""Feeds of several universes from the command line: two desks, each at its own prices."""

import csv
from pathlib import Path

from tests.server.cli.test_commands import Sizing, sizing
from tests.server.support.service_client import new_id

__all__ = ["sizing"]


def prices(folder: Path, name: str, price: float) -> str:
    file = folder / f"{name}-{price}.csv"
    file.write_text(f"instrument_id,price\n{name},{price}\n")
    return str(file)


def asked(folder: Path, name: str) -> str:
    file = folder / f"{name}-signals.csv"
    file.write_text(
        f"instrument_id,side,win_probability,payoff,loss_fraction\n{name},long,0.99,1,0.01\n"
    )
    return str(file)


async def test_two_feeds_and_two_desks(sizing: Sizing, tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text("weight_max = 0.9")
    stock, coin = new_id("stock"), new_id("coin")
    desks = {new_id("desk"): (stock, 100.0, new_id("u")), new_id("desk"): (coin, 20.0, new_id("u"))}
    for desk, (name, price, universe) in desks.items():
        of = ("--universe", universe)
        loaded = await sizing("market", "load", prices(tmp_path, name, price), "--id", desk, *of)
        assert f"market snapshot {desk} of universe {universe}: 1 instruments" in loaded.out
        held = tmp_path / f"{name}.csv"
        held.write_text(f"instrument_id,quantity\n{name},100\n")
        made = ("--cash", "10000", "--holdings", str(held), *of)
        shown = await sizing("portfolio", "create", desk, *made)
        assert f"universe {universe}" in shown.out
        set_to = ("portfolio", "limits", desk, "--set", str(limits), "--reason", "test")
        assert (await sizing(*set_to)).code == 0
    for desk, (name, price, universe) in desks.items():
        sized = await sizing("size", asked(tmp_path, name), "--portfolio", desk, "--json")
        assert sized.json["versions"]["market_snapshot_id"] == desk
        assert sized.json["summary"]["equity"] == 10_000.0 + 100.0 * price
        shown = await sizing("market", "show", "--universe", universe)
        assert f"Market snapshot {desk} of universe {universe}" in shown.out
        listed = await sizing("market", "list", "--universe", universe, "--json")
        assert [item["snapshot_id"] for item in listed.json["snapshots"]] == [desk]
        both = await sizing("market", "show", desk, "--universe", universe)
        assert both.code != 0
        assert "universe_id" in both.err
    assert "universe" in (await sizing("market", "list")).out
    first, second = desks
    assert desks[first][2] in (await sizing("portfolio", "list")).out

    universe = desks[second][2]
    moved = ("portfolio", "universe", first, universe, "--reason", "one feed for both", "--json")
    assert (await sizing(*moved)).json["universe_id"] == universe
    refused = await sizing("size", asked(tmp_path, stock), "--portfolio", first)
    assert refused.code != 0
    assert f"the newest of universe '{universe}'" in refused.err


async def test_orders_are_filled_at_the_newest_price_of_the_own_feed_after_a_split(
    sizing: Sizing, tmp_path: Path
) -> None:
    name, desk, own, other = new_id("stock"), new_id("desk"), new_id("u"), new_id("u")
    limits = tmp_path / "limits.toml"
    limits.write_text("weight_max = 0.5")
    assert (
        await sizing("market", "load", prices(tmp_path, name, 100.0), "--universe", own)
    ).code == 0
    assert (
        await sizing("portfolio", "create", desk, "--cash", "10000", "--universe", own)
    ).code == 0
    set_to = ("portfolio", "limits", desk, "--set", str(limits), "--reason", "test")
    assert (await sizing(*set_to)).code == 0
    sized = await sizing("size", asked(tmp_path, name), "--portfolio", desk, "--json")
    assert sized.json["sizes"]["trade_lots"] == ["50"]
    assert (
        await sizing("market", "load", prices(tmp_path, name, 7.0), "--universe", other)
    ).code == 0
    split = await sizing("action", "split", name, "2:1")
    assert split.out.count("newest market: ") == 2
    filled = await sizing("settle", sized.json["decision_id"], "--filled")
    assert filled.code == 0, filled.err
    held = (await sizing("portfolio", "show", desk, "--json")).json
    assert (held["holdings"]["quantity"], held["cash"]) == ([100.0], 5_000.0)


async def test_a_volatility_model_is_put_for_a_universe(sizing: Sizing, tmp_path: Path) -> None:
    own, model_id = new_id("u"), new_id("model")
    file = tmp_path / "model.toml"
    file.write_text(f'model_id = "{model_id}"\nuniverse_id = "another"')
    assert (await sizing("volatility", "put", str(file), "--universe", own)).code == 0
    listed = (await sizing("volatility", "list", "--json")).json["models"]
    (model,) = [item["model"] for item in listed if item["model"]["model_id"] == model_id]
    assert model["universe_id"] == own
    assert own in (await sizing("volatility", "list")).out


async def test_a_file_in_the_folder_of_a_universe_is_of_it(sizing: Sizing, tmp_path: Path) -> None:
    name, universe = new_id("stock"), new_id("u")
    folder = tmp_path / "watched"
    for place in ("prices", f"prices/{universe}", f"prices/{universe}/deeper"):
        (folder / place).mkdir(parents=True)
        prices(folder / place, name, 100.0)
    wrong = folder / "prices" / universe / "other.json"
    wrong.write_text(
        f'{{"instrument_ids": ["{name}"], "price": [1.0], "universe_id": "elsewhere"}}'
    )
    ran = await sizing("watch", str(folder), "--once", "--settle-s", "0")
    assert ran.code == 1
    listed = await sizing("market", "list", "--universe", universe, "--json")
    assert len(listed.json["snapshots"]) == 1
    told = {}
    for path in (folder / "failed").rglob("*.error.csv"):
        with path.open(newline="") as opened:
            (row,) = csv.DictReader(opened)
        told[path.name.removesuffix(".error.csv")] = (row["column"], row["reason"])
    assert told == {
        f"{name}-100.0.csv": ("", "BAD_FORMAT"),
        "other.json": ("universe_id", "CONTRADICTORY"),
    }
