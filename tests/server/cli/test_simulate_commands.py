"""`sizing backtest` and `sizing simulate` against a real service."""

import json
from pathlib import Path

import pytest
from positionsizing.v1 import simulation_service_pb2 as simulation

from server.cli.errors import CommandError
from server.cli.past import Past
from server.cli.tune import is_proposed
from server.cli.tuned import OBJECTIONS, advice, not_unseen
from tests.server.cli.test_commands import EXAMPLES, Sizing, sizing
from tests.server.support.service_client import new_id

__all__ = ["sizing"]

SHORT = """
[[settings]]
name = "half"
mean_return = { sessions = 40 }
limits = { weight_max = 0.1, leverage_max = 1.0 }
[[settings]]
name = "quarter"
mean_return = { sessions = 40 }
parameters = { kelly_fraction = 0.25 }
limits = { weight_max = 0.1, leverage_max = 1.0 }
"""


async def test_a_backtest_is_shown_by_stage_and_reported_in_a_page(
    sizing: Sizing, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.csv"
    lines = (EXAMPLES / "prices.csv").read_text().splitlines()
    prices.write_text("\n".join(lines[:140]) + "\n")
    file, page = tmp_path / "backtest.toml", tmp_path / "report.html"
    file.write_text(SHORT)
    named = ("--experiment", "by-stage")
    folder = tmp_path / "tables"
    pages = ("--report", str(page), "--tables", str(folder), "--benchmark", "KO")
    shown = await sizing("backtest", str(file), "--prices", str(prices), *pages, *named)
    assert shown.code == 0, shown.err
    for words in ("KO, held", "half less KO", "no better than KO", f"tables: {folder}"):
        assert words in shown.out
    assert (folder / "monthly_returns.csv").read_text().startswith("series,year,month,value,label")
    assert (folder / "wealth.parquet").exists()
    # So few sessions for a mean return give stakes that lose all until a limit holds them.
    ledger = ("before these", "ruin", "instrument", "exposure", "lots", "execution", "total")
    for words in ("half", "quarter", *ledger, "of 2 tried"):
        assert words in shown.out
    html = page.read_text()
    assert "Fall from the peak" in html
    assert "<script src=" not in html, "the page opens without a network"
    assert "backtest: begins when it is its turn" in shown.err
    assert "begins" not in shown.out
    printed = await sizing("backtest", str(file), "--prices", str(prices), "--json")
    assert [item["name"] for item in json.loads(printed.out)["results"]] == ["half", "quarter"]


def own_words(text: str) -> list[str]:
    """What a command says, without the log of the service, which runs in the same process."""
    return [line for line in text.splitlines() if "[info" not in line]


async def test_a_backtest_may_be_a_job(sizing: Sizing, tmp_path: Path) -> None:
    prices, file = tmp_path / "prices.csv", tmp_path / "backtest.toml"
    lines = (EXAMPLES / "prices.csv").read_text().splitlines()
    prices.write_text("\n".join(lines[:60]) + "\n")
    file.write_text(SHORT)
    named = ("backtest", str(file), "--prices", str(prices), "--experiment", "by-a-job")
    begun = await sizing(*named, "--job")
    assert begun.code == 0, begun.err
    name = begun.out.split()[-1]
    assert f"sizing jobs watch {name}" in begun.err
    watched = await sizing("jobs", "watch", name)
    assert watched.code == 0, watched.err
    assert f"{name}: succeeded" in watched.out.splitlines()
    shown = await sizing("jobs", "result", name)
    assert "of 2 tried" in shown.out
    direct = await sizing(*named)
    assert own_words(shown.out) == own_words(direct.out)
    listed = await sizing("jobs", "list")
    assert name[:8] in listed.out
    assert "backtest.toml" in listed.out
    over = await sizing("jobs", "cancel", name)
    assert f"{name}: succeeded" in over.out.splitlines()
    assert f"{name}: succeeded" in (await sizing("jobs", "resume", name)).out.splitlines()
    missing = await sizing("jobs", "result", "no-such-job")
    assert missing.code == 1
    assert "does not exist" in missing.err
    assert "sizing jobs list" in missing.err


async def test_a_job_that_was_cancelled_is_resumed(sizing: Sizing, tmp_path: Path) -> None:
    file = tmp_path / "backtest.toml"
    file.write_text(SHORT)
    words = ("backtest", str(file), "--prices", str(EXAMPLES / "prices.csv"), "--job")
    first, name = [(await sizing(*words)).out.split()[-1] for _ in range(2)]
    await sizing("jobs", "cancel", name)
    await sizing("jobs", "cancel", first)
    await sizing("jobs", "watch", name)
    none = await sizing("jobs", "result", name)
    assert none.code == 1
    assert f"sizing jobs resume {name}" in none.err
    resumed = await sizing("jobs", "resume", name)
    assert resumed.code == 0, resumed.err
    assert f"{name}: queued" in resumed.out
    assert f"sizing jobs watch {name}" in resumed.err
    await sizing("jobs", "cancel", name)


async def test_a_backtest_without_prices_says_what_to_add(sizing: Sizing, tmp_path: Path) -> None:
    file = tmp_path / "backtest.toml"
    file.write_text(SHORT)
    refused = await sizing("backtest", str(file))
    assert refused.code == 1
    assert "--prices" in refused.err


def test_files_beside_the_closes_fill_their_columns(tmp_path: Path) -> None:
    closes, splits, paid = (tmp_path / f"{name}.csv" for name in ("closes", "splits", "paid"))
    closes.write_text("date,A,B\n2020-01-02,4,5\n2020-01-03,2,6\n")
    splits.write_text("date,A\n2020-01-03,2\n")
    paid.write_text("date,B,A\n2020-01-02,0,0.5\n2020-01-03,0.25,\n")
    request = simulation.RunBacktestRequest()
    Past(closes, splits=splits, dividends=paid).put_into(request, "run through")
    assert list(request.prices.split) == [1.0, 1.0, 2.0, 1.0]
    assert list(request.prices.dividend) == [0.5, 0.0, 0.0, 0.25]
    for text, words in (
        ("date,A\n2020-01-04,2\n", "day '2020-01-04' is not in the file of closes"),
        ("date,C\n2020-01-03,2\n", "instrument 'C' is not in the file of closes"),
        ("date,A\n2020-01-03,0\n", "line 2: A is 0; it must be above 0"),
    ):
        splits.write_text(text)
        with pytest.raises(CommandError, match=words):
            Past(closes, splits=splits).put_into(request, "run through")
    paid.write_text("date,A\n2020-01-03,-1\n")
    with pytest.raises(CommandError, match="line 2: A is -1; it must not be below 0"):
        Past(closes, dividends=paid).put_into(request, "run through")
    with pytest.raises(CommandError, match="needs closes beside it"):
        Past(universe="stored", splits=splits).put_into(request, "run through")


def test_lines_of_delistings_are_read_or_refused_by_their_line(tmp_path: Path) -> None:
    closes, ends = tmp_path / "closes.csv", tmp_path / "ends.csv"
    closes.write_text("date,A,B\n2020-01-02,4,5\n2020-01-03,,6\n2020-01-06,,\n")
    request = simulation.RunBacktestRequest()
    ends.write_text("date,instrument_id,price,return\n2020-01-03,A,0,\n2020-01-06,B,,-0.5\n")
    past = Past(closes, delistings=ends, delisting_return=-0.3)
    past.put_into(request, "run through")
    assert request.delisting_return == -0.3
    told = [
        (item.instrument_id, item.date, item.WhichOneof("value")) for item in request.delistings
    ]
    assert told == [("A", "2020-01-03", "price"), ("B", "2020-01-06", "delisting_return")]
    assert (request.delistings[0].price, request.delistings[1].delisting_return) == (0.0, -0.5)
    for text, words in (
        ("2020-01-04,A,1,", "line 2: day '2020-01-04' is not in the file of closes"),
        ("2020-01-03,C,1,", "line 2: instrument 'C' is not in the file of closes"),
        ("2020-01-03,A,-1,", "line 2: price is -1; it must not be below 0"),
        ("2020-01-03,A,,-1.1", "line 2: return is -1.1; it must not be below -1"),
        ("2020-01-03,A,x,", "line 2: price is 'x', not a number"),
        ("2020-01-03,A,,", "line 2: give either a price or a return"),
        ("2020-01-03,A,1,0.1", "line 2: give either a price or a return"),
        ("2020-01-03,,1,", "line 2: instrument_id is empty"),
    ):
        ends.write_text(f"date,instrument_id,price,return\n{text}\n")
        with pytest.raises(CommandError, match=words):
            past.put_into(simulation.RunBacktestRequest(), "run through")


async def test_a_name_that_ends_is_refused_or_closed_as_its_line_says(
    sizing: Sizing, tmp_path: Path
) -> None:
    prices, file, ends = (tmp_path / name for name in ("prices.csv", "b.toml", "ends.csv"))
    head, *rows = (EXAMPLES / "prices.csv").read_text().splitlines()[:71]
    cells = [row.split(",") for row in rows]
    for row in cells[60:]:
        row[1] = ""
    prices.write_text("\n".join([head, *(",".join(row) for row in cells)]) + "\n")
    file.write_text(SHORT)
    name, day = head.split(",")[1], cells[60][0]
    words = ("backtest", str(file), "--prices", str(prices))
    refused = await sizing(*words)
    assert refused.code == 1
    for part in (name, cells[59][0], "delistings", "delisting_return"):
        assert part in refused.err
    ends.write_text(f"date,instrument_id,price\n{day},{name},1.5\n")
    closed = await sizing(*words, "--delistings", str(ends))
    assert closed.code == 0, closed.err
    assert f"{name}: delisted on {day} at 1.5, as given" in closed.out
    second = head.split(",")[2]
    ends.write_text(f"date,instrument_id,price\n{day},{name},1.5\n{day},{second},2\n")
    wrong = await sizing(*words, "--delistings", str(ends))
    assert wrong.code == 1
    assert f"{ends}, line 3, date" in wrong.err.replace("\n", " ")
    assert "delistings[" not in wrong.err
    default = await sizing(*words, "--delisting-return", "-1")
    assert default.code == 0, default.err
    assert f"{name}: delisted on {day} at 0, by --delisting-return" in default.out


async def test_dividends_of_a_file_are_paid(sizing: Sizing, tmp_path: Path) -> None:
    prices, file, paid = (tmp_path / name for name in ("prices.csv", "b.toml", "paid.csv"))
    lines = (EXAMPLES / "prices.csv").read_text().splitlines()
    prices.write_text("\n".join(lines[:70]) + "\n")
    file.write_text(SHORT)
    names = lines[0].split(",")[1:]
    day = lines[65].split(",")[0]
    paid.write_text(f"date,{','.join(names)}\n{day}{',0.5' * len(names)}\n")
    words = ("backtest", str(file), "--prices", str(prices), "--dividends", str(paid), "--json")
    shown = await sizing(*words)
    assert shown.code == 0, shown.err
    told = json.loads(shown.out[shown.out.index("{\n") :])
    assert all(item["account"]["dividends"] > 0.0 for item in told["results"])


async def test_futures_are_a_row_a_fraction(sizing: Sizing, tmp_path: Path) -> None:
    words = ("--fraction", "1.1", "--fraction", "2.2", "--mean", "0.05", "--volatility", "0.15")
    page = tmp_path / "fan.html"
    more = ("--level", "0.7", "--paths", "500", "--report", str(page))
    shown = await sizing("simulate", *words, *more)
    assert shown.code == 0, shown.err
    assert f"report: {page}" in shown.out
    assert "fraction 2.2" in page.read_text()
    assert "1.1" in shown.out
    assert "2.2" in shown.out
    assert "ever 0.7" in shown.out


def test_what_its_own_evidence_speaks_against_is_not_proposed() -> None:
    answer = simulation.TuneParametersResponse(
        chosen=3,
        objections=[
            simulation.TUNE_OBJECTION_WALK_FORWARD,
            simulation.TUNE_OBJECTION_NOT_SUPERIOR,
        ],
    )
    assert advice(answer).startswith("keep what you have: walk-forward")
    assert "above 0.1" in advice(answer)
    assert not is_proposed(answer, anyway=False)
    assert is_proposed(answer, anyway=True)
    assert is_proposed(
        simulation.TuneParametersResponse(chosen=3, is_recommended=True), anyway=False
    )
    assert not is_proposed(simulation.TuneParametersResponse(), anyway=True)
    for name in simulation.TuneObjection.keys()[1:]:
        assert name.removeprefix("TUNE_OBJECTION_") in OBJECTIONS


def test_locked_sessions_that_were_seen_are_told_in_words() -> None:
    unseen = simulation.TuneParametersResponse()
    assert not_unseen(unseen) == []
    seen = simulation.TuneParametersResponse(locked_openings_before=2, locked_trials_before=5)
    seen.locked_opened_last.author = "ann"
    seen.locked_opened_last.open_time.FromJsonString("2026-03-02T10:30:00Z")
    assert not_unseen(seen) == [
        "they are no longer unseen: searches have opened them 2 times before, last ann, "
        "2026-03-02 10:30 UTC",
        "they are no longer unseen: 5 settings were run over them before",
    ]


async def test_a_split_that_nobody_announced_is_refused_or_confirmed(
    sizing: Sizing, tmp_path: Path
) -> None:
    prices, file, splits = (tmp_path / name for name in ("prices.csv", "b.toml", "splits.csv"))
    head, *rows = (EXAMPLES / "prices.csv").read_text().splitlines()[:40]
    cells = [row.split(",") for row in rows]
    for row in cells[20:]:
        row[1] = f"{float(row[1]) / 2.0}"
    prices.write_text("\n".join([head, *(",".join(row) for row in cells)]) + "\n")
    file.write_text(SHORT)
    words = ("backtest", str(file), "--prices", str(prices))
    refused = await sizing(*words)
    assert refused.code == 1
    place = f"{prices}, {cells[20][0]}, {head.split(',')[1]}: the close"
    for part in (place, cells[19][0], "--splits FILE"):
        assert part in refused.err
    confirmed = await sizing(*words, "--confirm-prices")
    assert confirmed.code == 0, confirmed.err
    splits.write_text(f"date,{head.split(',')[1]}\n{cells[20][0]},2\n")
    announced = await sizing(*words, "--splits", str(splits))
    assert announced.code == 0, announced.err


async def test_the_search_of_the_examples_ends_in_a_proposal_that_can_be_set(
    sizing: Sizing, tmp_path: Path
) -> None:
    proposal = tmp_path / "tuned.json"
    name = new_id("experiment")
    words = (
        *("--prices", str(EXAMPLES / "prices.csv"), "--proposal", str(proposal)),
        *("--propose-anyway", "--experiment", name),
    )
    shown = await sizing("tune", str(EXAMPLES / "tune.toml"), *words)
    assert shown.code == 0, shown.err
    for text in ("as it is", "walk-forward", "looked at once", "64 trials", "keep what you have"):
        assert text in shown.out
    assert f"tried so far: 64 distinct settings (sizing trials {name})" in shown.out
    listed = await sizing("trials", name)
    assert f"64 settings tried in {name}, the newest 20" in listed.out
    assert listed.out.count("looked at by") == 1
    kept = json.loads(proposal.read_text())
    assert 0.05 <= kept["kelly_fraction"] <= 1.0
    assert f"sizing parameters set {proposal} --merge --strategy STRATEGY" in shown.out
    assert "in no file of parameters: limits.weight_max 0." in shown.out
    before = tmp_path / "before.json"
    before.write_text(json.dumps({"volatility_target": 0.02, "kelly_fraction": 0.5}))
    scope = ("--strategy", "tuned")
    await sizing("parameters", "set", str(before), *scope)
    applied = await sizing("parameters", "set", str(proposal), "--merge", *scope)
    assert applied.code == 0, applied.err
    told = json.loads((await sizing("parameters", "show", *scope, "--json")).out)["parameters"]
    assert told["kelly_fraction"] == kept["kelly_fraction"]
    assert told["volatility_target"] == 0.02, "what the search didn't look at stays"


async def test_futures_are_of_one_source_and_of_no_split_unconfirmed(
    sizing: Sizing, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.csv"
    days = [f"2024-01-{day:02d}" for day in range(1, 31)]
    closes = [100.0 + day % 3 for day in range(15)] + [50.0 + day % 3 for day in range(15)]
    rows = [f"{day},{close}" for day, close in zip(days, closes, strict=True)]
    prices.write_text("\n".join(["date,A", *rows]) + "\n")
    drawn = ("simulate", "--fraction", "1", "--prices", str(prices), "--instrument", "A")
    jumped = await sizing(*drawn)
    assert jumped.code == 1
    assert f"{prices}, 2024-01-16, A: the close is 50, the one before 102" in jumped.err
    assert (await sizing(*drawn, "--confirm-prices", "--paths", "100")).code == 0
    both = await sizing(*drawn, "--mean", "0.1", "--volatility", "0.2")
    assert (both.code, "not both" in both.err) == (1, True)
    none = await sizing("simulate", "--fraction", "1", "--instrument", "A", "--volatility", "0.2")
    assert (none.code, "no returns to draw" in none.err) == (1, True)
