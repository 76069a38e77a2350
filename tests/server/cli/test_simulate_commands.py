"""`sizing backtest` and `sizing simulate` against a real service."""

import json
from pathlib import Path

import pytest
from positionsizing.v1 import simulation_service_pb2 as simulation
from test_commands import EXAMPLES, Sizing, sizing

from server.cli.errors import CommandError
from server.cli.simulate import add_beside, use_history
from server.cli.tune import OBJECTIONS, advice, is_proposed

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
    shown = await sizing("backtest", str(file), "--prices", str(prices), "--report", str(page))
    assert shown.code == 0, shown.err
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
    begun = await sizing("backtest", str(file), "--prices", str(prices), "--job")
    assert begun.code == 0, begun.err
    name = begun.out.split()[-1]
    assert f"sizing jobs watch {name}" in begun.err
    watched = await sizing("jobs", "watch", name)
    assert watched.code == 0, watched.err
    assert f"{name}: succeeded" in watched.out.splitlines()
    shown = await sizing("jobs", "result", name)
    assert "of 2 tried" in shown.out
    direct = await sizing("backtest", str(file), "--prices", str(prices))
    assert own_words(shown.out) == own_words(direct.out)
    listed = await sizing("jobs", "list")
    assert name[:8] in listed.out
    assert "backtest.toml" in listed.out
    over = await sizing("jobs", "cancel", name)
    assert f"{name}: succeeded" in over.out.splitlines()
    missing = await sizing("jobs", "result", "no-such-job")
    assert missing.code == 1
    assert "does not exist" in missing.err


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
    use_history(request, closes, "", "run through")
    add_beside(request.prices, "split", splits)
    add_beside(request.prices, "dividend", paid)
    assert list(request.prices.split) == [1.0, 1.0, 2.0, 1.0]
    assert list(request.prices.dividend) == [0.5, 0.0, 0.0, 0.25]
    for text, words in (
        ("date,A\n2020-01-04,2\n", "day '2020-01-04' is not in the file of closes"),
        ("date,C\n2020-01-03,2\n", "instrument 'C' is not in the file of closes"),
        ("date,A\n2020-01-03,0\n", "line 2: A is 0, not a price"),
    ):
        splits.write_text(text)
        with pytest.raises(CommandError, match=words):
            add_beside(request.prices, "split", splits)
    paid.write_text("date,A\n2020-01-03,-1\n")
    with pytest.raises(CommandError, match="line 2: A is -1; it must not be below 0"):
        add_beside(request.prices, "dividend", paid)
    with pytest.raises(CommandError, match="needs closes beside it"):
        add_beside(simulation.PriceTable(), "split", splits)


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


async def test_the_search_of_the_examples_ends_in_a_proposal_that_can_be_set(
    sizing: Sizing, tmp_path: Path
) -> None:
    proposal = tmp_path / "tuned.json"
    words = ("--prices", str(EXAMPLES / "prices.csv"), "--proposal", str(proposal))
    words = (*words, "--propose-anyway")
    shown = await sizing("tune", str(EXAMPLES / "tune.toml"), *words)
    assert shown.code == 0, shown.err
    for text in ("as it is", "walk-forward", "looked at once", "64 trials", "keep what you have"):
        assert text in shown.out
    kept = json.loads(proposal.read_text())
    assert 0.05 <= kept["kelly_fraction"] <= 1.0
    applied = await sizing("parameters", "set", str(proposal), "--strategy", "tuned")
    assert applied.code == 0, applied.err
