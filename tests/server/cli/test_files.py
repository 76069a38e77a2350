"""Files that people write become messages, or are refused with the line that is wrong."""

import json
from pathlib import Path

import pytest
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    sizing_pb2,
)

from server.cli import files
from server.cli.errors import CommandError

EXAMPLES = Path(__file__).parents[3] / "examples"


def written(tmp_path: Path, text: str, name: str = "signals.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_moments_become_columns(tmp_path: Path) -> None:
    text = "instrument_id,side,expected_return,volatility\nA,long,0.001,0.02\nB,SHORT,0.002,0.03\n"
    signals = files.read_request(written(tmp_path, text)).signals
    assert list(signals.instrument_ids) == ["A", "B"]
    assert list(signals.side) == [1, 2]
    assert list(signals.edge_source) == [sizing_pb2.EDGE_SOURCE_RETURN_VOLATILITY] * 2
    assert list(signals.expected_return) == [0.001, 0.002]
    assert list(signals.volatility) == [0.02, 0.03]
    assert len(signals.win_probability) == 0


def test_lines_may_say_their_edge_in_different_ways(tmp_path: Path) -> None:
    text = (
        "instrument_id,side,win_probability,payoff,loss_fraction,expected_return,volatility,"
        "history_outcome,stop_price\n"
        "A,long,0.6,1.5,,,,,95\n"
        "B,buy,,,,0.001,0.02,,\n"
        "C,sell,,,,,,0.01 -0.02;0.03,\n"
        "D,long,,,,,,,\n"
    )
    signals = files.read_request(written(tmp_path, text)).signals
    assert list(signals.edge_source) == [1, 2, 4, 0]
    assert list(signals.loss_fraction) == []
    assert list(signals.win_probability) == [0.6, 0.0, 0.0, 0.0]
    assert list(signals.history_outcome) == [0.01, -0.02, 0.03]
    assert list(signals.history_length) == [0, 0, 3, 0]
    assert list(signals.stop_price) == [95.0, 0.0, 0.0, 0.0]


def test_an_empty_loss_is_the_whole_stake(tmp_path: Path) -> None:
    text = "instrument_id,side,win_probability,payoff,loss_fraction\nA,long,.6,1,\nB,long,.6,1,.5\n"
    signals = files.read_request(written(tmp_path, text)).signals
    assert list(signals.loss_fraction) == [1.0, 0.5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("instrument_id,side\n", "no lines"),
        ("instrument_id,win_probability\nA,0.5\n", "'side' is missing"),
        ("instrument_id,side,colour\nA,long,red\n", "'colour' is not known"),
        ("instrument_id,side,payoff\nA,up,1\n", "line 2: side is 'up'"),
        ("instrument_id,side,win_probability,payoff\nA,long,60%,1\n", "'60%', not a number"),
        ("instrument_id,side,win_probability,payoff\nA,long,0.6,\n", "payoff is needed"),
        ("instrument_id,side,expected_return\nA,long,0.6\n", "volatility is needed"),
        ("instrument_id,side\nA,long\nB\n", "line 3: has not the 2 cells"),
        ("instrument_id,side\nA,long,1\n", "line 2: has not the 2 cells"),
        ("instrument_id,side,edge_source\nA,long,tea\n", "edge_source is 'tea'"),
        ("instrument_id;side\nA;long\n", "by semicolons"),
        ("instrument_id,side,side\nA,long,short\n", "'side' is there twice"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(CommandError, match=says.replace("(", r"\(")):
        files.read_request(written(tmp_path, text))


def test_headers_may_have_capitals(tmp_path: Path) -> None:
    text = "Instrument_ID, Side,Win_Probability,Payoff\nBRK.b,Long,0.6,1.5\n"
    signals = files.read_request(written(tmp_path, text)).signals
    assert list(signals.instrument_ids) == ["BRK.b"]
    assert list(signals.payoff) == [1.5]


def test_a_list_of_numbers_is_no_signals(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="list of objects"):
        files.read_request(written(tmp_path, "[1, 2]", "signals.json"))


def test_a_matrix_keeps_the_names_of_its_header(tmp_path: Path) -> None:
    path = written(tmp_path, "BRK.b, KO\n0.01,-0.02\n0.03,0.04\n-0.01,0\n")
    matrix = files.read_matrix(path, "scenarios")
    assert matrix.kind == market_service_pb2.MATRIX_KIND_SCENARIOS
    assert list(matrix.instrument_ids) == ["BRK.b", "KO"]
    assert list(matrix.dense.values) == [0.01, -0.02, 0.03, 0.04, -0.01, 0.0]
    for text, says in (("A,B\n1\n", "line 2"), ("A,A\n1,2\n", "twice"), ("A\nx\n", "'x'")):
        with pytest.raises(CommandError, match=says):
            files.read_matrix(written(tmp_path, text), "covariance")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "signals.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(CommandError, match="UTF-16"):
        files.read_request(path)


def test_json_is_a_list_or_a_batch_or_a_request(tmp_path: Path) -> None:
    line = {"instrument_id": "A", "side": "long", "win_probability": 0.6, "payoff": 1.5}
    batch = {"instrument_ids": ["A"], "side": ["SIDE_LONG"], "win_probability": [0.6]}
    for document in ([line], batch, {"signals": batch, "portfolio_id": "p"}):
        path = written(tmp_path, json.dumps(document), "signals.json")
        request = files.read_request(path)
        assert list(request.signals.instrument_ids) == ["A"]
        assert list(request.signals.win_probability) == [0.6]
    assert request.portfolio_id == "p"


def test_unknown_keys_of_a_message_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "weigth_max = 0.1\n", "limits.toml")
    with pytest.raises(CommandError, match="weigth_max") as caught:
        files.read_message(path, limits_pb2.Limits())
    assert "weight_max" in caught.value.hint


def test_a_broken_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"is not \.toml"):
        files.read_message(written(tmp_path, "a = = 1", "x.toml"), limits_pb2.Limits())


def test_market_and_holdings(tmp_path: Path) -> None:
    text = "instrument_id,price,stop_price,sector\nA,10.5,,Energy\nB,20,18,\n"
    snapshot = files.read_market(written(tmp_path, text))
    assert list(snapshot.price) == [10.5, 20.0]
    assert list(snapshot.stop_price) == [0.0, 18.0]
    assert list(snapshot.sector) == ["Energy", ""]
    assert len(snapshot.lot_size) == 0
    held = files.read_holdings(written(tmp_path, "instrument_id,quantity\nA,-5\n"))
    assert list(held.quantity) == [-5.0]
    assert len(held.average_price) == 0
    paid = "instrument_id,quantity,average_price\nA,-5,101.5\nB,2,\n"
    assert list(files.read_holdings(written(tmp_path, paid)).average_price) == [101.5, 0.0]
    with pytest.raises(CommandError, match="'average_price' is not known"):
        files.read_quantities(written(tmp_path, paid))
    with pytest.raises(CommandError, match="line 2: price is ''"):
        files.read_market(written(tmp_path, "instrument_id,price\nA,\n"))


def test_a_market_of_contracts(tmp_path: Path) -> None:
    header = "instrument_id,price,contract_kind,multiplier,initial_margin_long,halted\n"
    text = f"{header}ES,4000,Future,50,12000,no\nAAPL,200,,1,0,yes\nBTC,60000,inverse_future,1,0,\n"
    found = files.read_market(written(tmp_path, text))
    assert list(found.contract_kind) == [
        market_service_pb2.CONTRACT_KIND_FUTURE,
        market_service_pb2.CONTRACT_KIND_CASH,
        market_service_pb2.CONTRACT_KIND_INVERSE_FUTURE,
    ]
    assert (list(found.multiplier), list(found.initial_margin_long)) == ([50, 1, 1], [12000, 0, 0])
    assert list(found.halted) == [False, True, False]
    for column, cell in (("contract_kind", "forward"), ("halted", "maybe")):
        wrong = f"instrument_id,price,{column}\nES,4000,{cell}\n"
        with pytest.raises(CommandError, match=f"line 2: {column} is '{cell}'"):
            files.read_market(written(tmp_path, wrong))


def test_the_examples_are_read() -> None:
    assert len(files.read_request(EXAMPLES / "signals.csv").signals.instrument_ids) == 20
    bets = files.read_request(EXAMPLES / "bets.csv").signals
    assert set(bets.edge_source) == {sizing_pb2.EDGE_SOURCE_WIN_LOSS}
    market = files.read_market(EXAMPLES / "market.csv")
    held = files.read_holdings(EXAMPLES / "holdings.csv")
    assert set(held.instrument_ids) <= set(market.instrument_ids)
    limits = files.read_message(EXAMPLES / "limits.toml", limits_pb2.Limits())
    assert {group.sector for group in limits.groups} <= set(market.sector)
    parameters = files.read_message(
        EXAMPLES / "parameters.toml", parameter_service_pb2.SizingParameters()
    )
    assert parameters.reservation_ttl.seconds == 900


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[condition_rules]]\nname = "storm"\n', "[[condition_rules.rules]]"),
        ('[[schedule]]\nname = "close"\n', "[[schedule.rows]]"),
        ("drawdown_tolerance = [0.7, 0.1]\n", "drawdown_tolerance is a list; it must be one table"),
    ],
)
def test_a_list_where_a_table_belongs_is_told_by_its_name(
    tmp_path: Path, text: str, said: str
) -> None:
    path = written(tmp_path, text, "p.toml")
    with pytest.raises(CommandError) as refused:
        files.read_message(path, parameter_service_pb2.SizingParameters())
    assert said in str(refused.value)
    assert "unhashable" not in str(refused.value)
