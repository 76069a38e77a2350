"""`sizing learn` against a real service: from closes to a model, and what its record allows."""

import csv
import json
from pathlib import Path

import numpy as np
import polars
import pytest
from scipy.special import expit

from tests.server.cli.test_commands import EXAMPLES, Sizing, sizing

__all__ = ["sizing"]


def short_prices(folder: Path, sessions: int = 420, names: int = 3) -> Path:
    path = folder / "prices.csv"
    lines = (EXAMPLES / "prices.csv").read_text().splitlines()[: sessions + 1]
    path.write_text("\n".join(",".join(line.split(",")[: names + 1]) for line in lines) + "\n")
    return path


def known_bets(path: Path, n: int = 400) -> Path:
    """Bets that `trend` knows something of."""
    random = np.random.default_rng(1)
    x = random.normal(size=n)
    won = random.random(n) < expit(1.5 * x)
    days = np.datetime64("2020-01-01") + np.arange(n + 1)
    rows = zip(days[:-1], days[1:], won.astype(int), x, strict=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["start_time", "end_time", "won", "trend"], *rows])
    return path


async def test_closes_become_bets_and_a_model_that_noise_does_not_promote(
    sizing: Sizing, tmp_path: Path
) -> None:
    bets, signals = tmp_path / "bets.csv", tmp_path / "signals.csv"
    words = ("--out", str(bets), "--signals", str(signals))
    made = await sizing("learn", "bets", str(short_prices(tmp_path)), *words)
    assert made.code == 0, made.err
    assert "3 signals" in made.out
    trained = await sizing("learn", "train", str(bets), "--id", "closes", "--embargo", "1")
    assert trained.code == 0, trained.err
    for words_ in ("climatology", "the odds", "miscalibration", "out of sample"):
        assert words_ in trained.out
    listed = await sizing("learn", "list")
    assert "closes" in listed.out
    moved = await sizing("learn", "promote", "closes", "--to", "shadow", "--reason", "to watch")
    assert "model closes is shadow" in moved.out
    record = (await sizing("learn", "show", "closes", "--json")).json["model"]["report"]
    live = await sizing("learn", "promote", "closes", "--to", "live", "--reason", "hope")
    if record.get("is_proven"):
        assert live.code == 0
    else:
        assert live.code == 1
        assert "has not beaten the bars" in live.err


async def test_what_has_stopped_trading_is_neither_bet_on_nor_signalled(
    sizing: Sizing, tmp_path: Path
) -> None:
    path = short_prices(tmp_path)
    lines = [line.split(",") for line in path.read_text().splitlines()]
    gone, last = lines[0][2], 390
    for line in lines[last + 1 :]:
        line[2] = ""
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")
    bets, signals = tmp_path / "bets.csv", tmp_path / "signals.csv"
    made = await sizing("learn", "bets", str(path), "--out", str(bets), "--signals", str(signals))
    assert made.code == 0, made.err
    taken = [
        row for row in csv.DictReader(bets.read_text().splitlines()) if row["instrument_id"] == gone
    ]
    assert taken
    assert max(row["end_time"] for row in taken)[:10] <= lines[last][0]
    assert {row["instrument_id"] for row in csv.DictReader(signals.read_text().splitlines())} == {
        lines[0][1],
        lines[0][3],
    }


async def test_training_may_be_a_job(sizing: Sizing, tmp_path: Path) -> None:
    file = known_bets(tmp_path / "bets.csv")
    begun = await sizing("learn", "train", str(file), "--id", "by-a-job", "--job")
    assert begun.code == 0, begun.err
    name = begun.out.split()[-1]
    watched = await sizing("jobs", "watch", name)
    assert watched.code == 0, watched.err
    shown = await sizing("jobs", "result", name)
    assert "out of sample" in shown.out
    assert (await sizing("learn", "show", "by-a-job")).out.startswith(shown.out[:40])


async def test_a_model_sizes_signals_of_a_file(sizing: Sizing, tmp_path: Path) -> None:
    bets = known_bets(tmp_path / "bets.csv")
    parquet = tmp_path / "bets.parquet"
    polars.read_csv(bets, try_parse_dates=False).write_parquet(parquet)
    trained = await sizing("learn", "train", str(parquet), "--id", "known")
    assert "may go live" in trained.out, trained.err
    for stage in ("shadow", "live"):
        moved = await sizing("learn", "promote", "known", "--to", stage, "--reason", "proven")
        assert moved.code == 0, moved.err
    shown = await sizing("learn", "show", "known")
    assert "live" in shown.out
    assert "proven" in shown.out
    holdings = ("--currency", "USD", "--cash", "1000000")
    await sizing("portfolio", "create", "models", *holdings)
    await sizing("market", "load", str(EXAMPLES / "market.csv"), "--id", "models-close")
    await sizing("portfolio", "limits", "models", "--set", str(EXAMPLES / "limits.toml"))
    signals = tmp_path / "signals.csv"
    signals.write_text(
        "instrument_id,side,edge_source,payoff,feature_trend\n"
        "AAPL,long,model,1,1.2\nKO,long,model,1,-1.5\n"
    )
    words = ("--portfolio", "models", "--snapshot", "models-close", "--model", "known", "--json")
    decision = (await sizing("size", str(signals), *words)).json
    (said,) = decision["predictions"]
    assert said["model_id"] == "known"
    assert said["win_probability"][0] > 0.6 > 0.5 > said["win_probability"][1]
    lots = [int(item) for item in decision["sizes"]["lots"]]
    assert lots[0] > 0 == lots[1]
    more = tmp_path / "more.csv"
    more.write_text(
        "start_time,end_time,won,trend\n2022-01-03,2022-01-04,yes,1.1\n"
        "2022-01-04,2022-01-05,no,-0.9\n"
    )
    scored = await sizing("learn", "score", "known", str(more))
    assert "on 2 bets" in scored.out, scored.err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("2020-01-01,2020-01-02,maybe,0.5", ("line 2", "won is 'maybe'")),
        ("2020-01-01,soon,1,0.5", ("line 2", "end_time is 'soon'")),
        ("2020-01-01,2020-01-02,1,", ("line 2", "trend", "empty")),
        ("2020-01-01,2020-01-02,1,much", ("line 2", "trend is 'much'")),
    ],
)
async def test_a_wrong_cell_is_told_by_file_row_and_column(
    sizing: Sizing, tmp_path: Path, line: str, told: tuple[str, ...]
) -> None:
    file = tmp_path / "wrong.csv"
    file.write_text(f"start_time,end_time,won,trend\n{line}\n")
    refused = await sizing("learn", "train", str(file), "--id", "wrong")
    assert refused.code == 1
    for words in ("wrong.csv", *told):
        assert words in refused.err
    bare = tmp_path / "bare.csv"
    bare.write_text("start_time,end_time,won\n2020-01-01,2020-01-02,1\n")
    assert "no features" in (await sizing("learn", "train", str(bare), "--id", "bare")).err


async def test_json_of_a_list_is_the_answer(sizing: Sizing) -> None:
    printed = await sizing("learn", "list", "--json")
    assert isinstance(json.loads(printed.out), dict)
    wrong = await sizing("learn", "promote", "nobody", "--to", "moon", "--reason", "x")
    assert wrong.code == 2
    assert "must be one of" in wrong.err


async def test_trees_of_a_file_are_trained_no_more_but_judged(
    sizing: Sizing, tmp_path: Path
) -> None:
    bets, trees = known_bets(tmp_path / "bets.csv"), tmp_path / "trees.json"
    columns = {"feature": [0, -1, -1], "threshold": [0.0, 0, 0], "left": [1, 0, 0]}
    columns |= {"right": [2, 0, 0], "missing_left": [0, 0, 0], "value": [0, -2.0, 2.0]}
    trees.write_text(json.dumps({"base": 0.0, "trees": [columns]}))
    words = ["learn", "train", str(bets), "--id", "theirs", "--kind", "boosted-trees"]
    words += ["--calibration", "venn-abers", "--refuse-unbounded", "--trees", str(trees)]
    undated = await sizing(*words)
    assert undated.code == 1
    assert "trained_until_time" in undated.err
    trained = await sizing(*words, "--trees-until", "2019-12-31")
    assert trained.code == 0, trained.err
    assert "calibration venn abers" in trained.out
    assert "90 % intervals for the win rate" in trained.out
    assert "may go live" in trained.out
    one = ["--member", "trend", "--member", "boosted-trees:trend"]
    both = await sizing("learn", "train", str(bets), "--id", "both", "--kind", "log-pool", *one)
    assert both.code == 0, both.err
    assert "members logistic, boosted trees" in both.out


async def test_features_are_stored_trained_from_and_shown(sizing: Sizing, tmp_path: Path) -> None:
    with known_bets(tmp_path / "whole.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    values, bets = tmp_path / "values.csv", tmp_path / "bets.csv"
    with values.open("w", newline="") as file:
        head = ["instrument_id", "as_of_time", "known_time", "trend"]
        nights = [(f"{row['start_time']}T03:00Z", f"{row['start_time']}T04:00Z") for row in rows]
        told = zip(nights, rows, strict=True)
        csv.writer(file).writerows(
            [head, *(["I0", as_of, known, row["trend"]] for (as_of, known), row in told)]
        )
    with bets.open("w", newline="") as file:
        head = ["instrument_id", "start_time", "end_time", "won"]
        csv.writer(file).writerows([head, *(["I0", *(row[h] for h in head[1:])] for row in rows)])
    declared = await sizing("features", "set", "daily", "--feature", "trend", "--age-max", "48")
    assert declared.code == 0, declared.err
    for words in (f"{len(rows)} rows are new", "0 rows are new"):
        put = await sizing("features", "put", "daily", str(values))
        assert words in put.out, put.err
    assert "48 h" in (await sizing("features", "list")).out
    night = await sizing("features", "show", "daily", "I0", "I7", "--at", "2020-01-05T03:30:00Z")
    assert "2020-01-04 03:00:00" in night.out  # the next is known at four
    assert "nothing known" in night.out
    words = ["learn", "train", str(bets), "--id", "of-stored", "--feature-set", "daily"]
    trained = await sizing(*words, "--stored", "trend")
    assert trained.code == 0, trained.err
    assert "reads what it isn't given from set daily" in trained.out
    assert "may go live" in trained.out
    for stage in ("shadow", "live"):
        moved = await sizing("learn", "promote", "of-stored", "--to", stage, "--reason", "proven")
        assert moved.code == 0, moved.err


async def test_strategies_of_a_file_are_mixed(sizing: Sizing, tmp_path: Path) -> None:
    file = tmp_path / "returns.csv"
    rows = "\n".join(f"2022-01-{day + 1:02d},{1.0 if day % 2 == 0 else -0.5}" for day in range(20))
    file.write_text(f"date,stock\n{rows}\n")
    mixed = await sizing("learn", "mix", str(file), "--kind", "universal", "--cost", "0.01")
    assert mixed.code == 0, mixed.err
    assert "cash" in mixed.out
    assert "with 50.0% of stock, 50.0% of cash: regret 0.4957 of at most 2.2154" in mixed.out


async def test_claims_of_a_file_are_calibrated(sizing: Sizing, tmp_path: Path) -> None:
    """Claims of 0.8 and 0.2 of which 0.6 and 0.4 won: half the log odds, about."""
    file = tmp_path / "claims.csv"
    won = [1, 0, 1, 0, 1] * 60
    rows = [f"{0.8 if k % 2 else 0.2},{w if k % 2 else 1 - w}" for k, w in enumerate(won)]
    file.write_text("win_probability,won\n" + "\n".join(rows) + "\n")
    asked = ("learn", "calibrate", str(file), "--kind", "platt", "--ask", "0.8", "--ask", "0.5")
    shown = await sizing(*asked)
    assert shown.code == 0, shown.err
    assert "300 bets, platt" in shown.out
    found = (await sizing(*asked, "--json")).json
    assert found["win_probability"] == pytest.approx([0.6, 0.5], abs=0.01)
    assert found["forward"]["log_loss_calibrated"] < found["forward"]["log_loss_claimed"]
    assert "the map gains +" in shown.out
    file.write_text("win_probability,won\n0.8,perhaps\n")
    wrong = await sizing(*asked)
    assert wrong.code == 1
    assert "won is 'perhaps'" in wrong.err
