"""What commands on a history say of the past: all of them the same."""

from dataclasses import fields
from pathlib import Path

import pytest
import typer
from positionsizing.v1 import simulation_service_pb2 as pb

from server.cli import simulate, tune
from server.cli.errors import CommandError, Problem
from server.cli.past import Past

CLOSES = "date,A,B\n2024-01-02,100,50\n2024-01-03,101,49\n2024-01-04,51,48\n"
BESIDE = {
    "opens": "date,A,B\n2024-01-03,100.5,\n2024-01-04,50.5,48.5\n",
    "dividends": "date,B\n2024-01-03,0.5\n",
    "splits": "date,A\n2024-01-04,2\n",
    "volumes": "date,A,B\n2024-01-02,1000,2000\n",
    "sectors": "instrument_id,sector,lot_size\nB,Energy,1\nA,Tech,1\nC,Tech,1\n",
    "delistings": "date,instrument_id,return\n2024-01-04,B,-0.5\n",
}


@pytest.mark.parametrize("command", [simulate.backtest, tune.tune])
def test_a_command_on_a_history_takes_all_that_is_said_of_the_past(command: object) -> None:
    app = typer.Typer()
    app.command()(command)  # type: ignore[type-var]
    taken = {parameter.name for parameter in typer.main.get_command(app).params}
    assert {item.name for item in fields(Past)} < taken
    assert "past" not in taken


@pytest.mark.parametrize("request_", [pb.RunBacktestRequest(), pb.TuneParametersRequest()])
def test_files_beside_the_closes_are_columns_of_the_request(
    request_: pb.RunBacktestRequest | pb.TuneParametersRequest, tmp_path: Path
) -> None:
    paths = {name: tmp_path / f"{name}.csv" for name in ("prices", *BESIDE)}
    for name, path in paths.items():
        path.write_text(BESIDE.get(name, CLOSES))
    past = Past(**paths, delisting_return=-0.3, experiment="one")  # type: ignore[arg-type]
    past.put_into(request_, "search on")
    table = request_.prices
    assert list(table.close) == [100.0, 50.0, 101.0, 49.0, 51.0, 48.0]
    assert list(table.open) == [0.0, 0.0, 100.5, 0.0, 50.5, 48.5]
    assert list(table.dividend) == [0.0, 0.0, 0.0, 0.5, 0.0, 0.0]
    assert list(table.split) == [1.0, 1.0, 1.0, 1.0, 2.0, 1.0]
    assert list(table.volume) == [1000.0, 2000.0, 0.0, 0.0, 0.0, 0.0]
    assert list(table.sectors) == ["Tech", "Energy"]
    (gone,) = request_.delistings
    assert (gone.instrument_id, gone.date, gone.delisting_return) == ("B", "2024-01-04", -0.5)
    assert (request_.delisting_return, request_.experiment) == (-0.3, "one")


def test_what_is_wrong_is_told_with_its_file(tmp_path: Path) -> None:
    prices, other = tmp_path / "prices.csv", tmp_path / "other.csv"
    prices.write_text(CLOSES)
    for name, text, told in (
        ("opens", "date,C\n2024-01-03,1\n", "'C' is not in the file of closes"),
        ("splits", "date,A\n2025-01-03,2\n", "'2025-01-03' is not in the file of closes"),
        ("sectors", "instrument_id,sector\nA,Tech\n", "no sector of 'B'"),
        ("sectors", "instrument_id,kind\nA,Tech\n", "no column sector"),
        ("sectors", "instrument_id,sector\nA,x\nA,y\nB,x\n", "line 3: A is in 'x' above"),
        ("splits", "date,A\n2024-01-04,0\n", "line 2: A is 0; it must be above 0"),
        ("opens", "date,A\n2024-01-03T09:30,1\n2024-01-03T15:00,1\n", "2024-01-03 has two rows"),
    ):
        other.write_text(text)
        with pytest.raises(CommandError, match=told):
            Past(prices=prices, **{name: other}).put_into(pb.TuneParametersRequest(), "search on")  # type: ignore[arg-type]
        alone = Past(universe="stored", **{name: other})  # type: ignore[arg-type]
        with pytest.raises(CommandError, match="needs closes beside it"):
            alone.put_into(pb.TuneParametersRequest(), "search on")
    with pytest.raises(CommandError, match="no prices to search on"):
        Past().put_into(pb.TuneParametersRequest(), "search on")


def test_what_the_service_refuses_is_told_with_file_row_and_column(tmp_path: Path) -> None:
    prices, splits = tmp_path / "prices.csv", tmp_path / "splits.csv"
    prices.write_text(CLOSES)
    splits.write_text("date,A\n2024-01-04,1e9\n")
    past = Past(prices=prices, splits=splits)
    jump = past.told(Problem("prices.close[4]: is 51", "PRICE_JUMP", "INVALID_ARGUMENT"))
    assert jump.message == f"{prices}, 2024-01-04, A: is 51"
    assert "--splits" in jump.hint
    large = past.told(Problem("prices.split[4]: is 1e9", "OUT_OF_RANGE", "INVALID_ARGUMENT"))
    assert large.message == f"{splits}, 2024-01-04, A: is 1e9"
    never = past.told(Problem("prices.instrument_ids[1]: has no close", "MISSING"))
    assert never.message == f"{prices}, column B: has no close"
    two = [{"field": f"prices.close[{i}]", "reason": "PRICE_JUMP"} for i in (1, 4)]
    (first, second) = past.told(Problem("two fields are wrong", fields=two)).fields
    assert (first["field"], first["place"]) == ("prices.close[1]", f"{prices}, 2024-01-02, B")
    assert second["place"] == f"{prices}, 2024-01-04, A"
    kept = Problem("settings[0].cash: is 0", "OUT_OF_RANGE", "INVALID_ARGUMENT")
    assert past.told(kept) == Past(universe="stored").told(kept) == kept
