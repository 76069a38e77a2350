"""Whatever file is given to a command that reads one: rows, or one line that says what is wrong."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest
from positionsizing.v1 import limits_pb2, optimization_service_pb2, sizing_pb2

from server.cli import files, prices
from server.cli.errors import CommandError, report

READERS: dict[str, Callable[[Path], Any]] = {
    "signals": files.read_request,
    "market": files.read_market,
    "holdings": files.read_holdings,
    "matrix": lambda path: files.read_matrix(path, "scenarios"),
    "prices": prices.read_returns,
}
TABLES = {
    "signals": "instrument_id,side,win_probability,payoff\nA,long,0.6,1\nB,short,0.55,2\n",
    "market": "instrument_id,price,sector\nA,10.5,Energy\nB,20,Food\n",
    "holdings": "instrument_id,quantity\nA,100\nB,-5.5\n",
    "matrix": "A,B\n0.01,-0.02\n-0.03,0.04\n0.05,-0.01\n",
    "prices": "date,A,B\n2022-12-27,10,20\n2022-12-28,11,19\n2022-12-29,12,18\n",
}
each_reader = pytest.mark.parametrize("kind", READERS)


def problem(read: Callable[[Path], Any], path: Path) -> str:
    with pytest.raises(CommandError) as caught:
        read(path)
    said = str(caught.value)
    assert str(path) in said
    assert "\n" not in said
    return said


@each_reader
@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"\n\n", "is empty"),
        ("x.csv", b"\xef\xbb\xbf", ""),
        ("x.json", b"", "is empty"),
        ("x.json", b"null", "null"),
        ("x.json", b"3", "int '3'"),
        ("x.json", b'"text"', "str"),
        ("x.json", b"[3]", "entry 1 is 3"),
        ("x.json", b"{", "is not .json"),
        ("x.json", b"[]", "no"),
        ("x.json", b"[" * 100_000, "nested too deeply"),
        ("x.csv", b"\x00\x01\x02\x03", "zero byte"),
        ("x.csv", b"PK\x03\x04workbook", "a workbook"),
        ("x.csv", b"\xff\xfea\x00", "UTF-16"),
        ("x.csv", "a,b\n1,2\né,2\n".encode("latin-1"), "line 3: byte 0xe9 at column 1"),
        ("x.csv.gz", gzip.compress(b"a,b\n1,2\n" * 50, mtime=0)[:30], "broken gzip"),
        ("x.parquet", b"PAR1 and no more", "broken Parquet"),
        ("x.arrow", b"ARROW1 and no more", "broken Arrow"),
        ("x.csv", b"A,a ,A\n1,2,3\n", "twice"),
        ("x.csv", b"A,\n1,2\n", "column 2 of the header has no name"),
        ("x.csv", b"A,B\n1,2\n1\n", "line 3: has not the 2 cells"),
        ("x.csv", b"A,B\n\n1,2,3\n", "line 3: has not the 2 cells"),
        ("x.csv", b'A,B\n"1,2\n', "line 2"),
        ("x.csv", b"A;B\n1;2\n", "semicolons"),
        ("x.csv", b"A\tB\n1\t2\n", "tabs"),
    ],
)
def test_what_is_no_table_is_said_in_one_line(
    tmp_path: Path, kind: str, name: str, data: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert says in problem(READERS[kind], path)


@each_reader
def test_a_folder_is_no_file(tmp_path: Path, kind: str) -> None:
    assert "is a folder" in problem(READERS[kind], tmp_path)


@each_reader
def test_csv_gzip_parquet_arrow_and_json_say_the_same(tmp_path: Path, kind: str) -> None:
    text = TABLES[kind]
    (tmp_path / "x.csv").write_text(text)
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(text.encode()))
    frame = polars.read_csv(text.encode(), try_parse_dates=True)
    frame.write_parquet(tmp_path / "x.parquet")
    frame.write_ipc(tmp_path / "x.arrow")
    rows = polars.read_csv(text.encode()).to_dicts()
    (tmp_path / "x.json").write_text(json.dumps(rows))
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "crlf.csv").write_bytes(text.replace("\n", "\r\n").encode())
    read = READERS[kind]
    expected = str(read(tmp_path / "x.csv"))
    for name in ("x.csv.gz", "x.parquet", "x.arrow", "x.json", "bom.csv", "crlf.csv"):
        assert str(read(tmp_path / name)) == expected, name


@pytest.mark.parametrize("cell", ["nan", "inf", "1_000", "5%", '"1,000"', "", "x", "1e999"])
def test_a_number_is_finite_and_plain(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"instrument_id,quantity\nA,1\n\nB,{cell}\n")
    assert "line 4: quantity is" in problem(files.read_holdings, path)


def test_json_takes_what_csv_takes(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    batch = {"instrument_ids": ["A", "B"], "side": ["long", "SELL"], "win_probability": [0.6, 0.6]}
    path.write_text(json.dumps(batch))
    assert list(files.read_request(path).signals.side) == [1, 2]
    path.write_text(json.dumps({"portfolio_id": "p", "signals": batch, "method": "closed-form"}))
    request = files.read_request(path)
    assert list(request.signals.side) == [1, 2]
    assert request.method == 1
    rows = [{"instrument_id": "A", "side": "long", "history_outcome": [0.01, -0.02]}]
    path.write_text(json.dumps(rows))
    signals = files.read_request(path).signals
    assert list(signals.history_outcome) == [0.01, -0.02]
    assert signals.edge_source[0] == sizing_pb2.EDGE_SOURCE_HISTORY
    path.write_text('{"objective": {"kind": "min_cvar"}}')
    read = files.read_message(path, optimization_service_pb2.OptimizationProblem())
    assert read.objective.kind == optimization_service_pb2.OBJECTIVE_KIND_MIN_CVAR


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"weight_max": 0.1, "weight_max": 0.2}', "'weight_max' is there twice"),
        ('{"weight_max": NaN}', "NaN is not a number"),
        ("null", "it holds null"),
        ("3", "it holds int '3'"),
        ("[]", "it holds list"),
    ],
)
def test_messages_are_checked_alike(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "limits.json"
    path.write_text(text)
    assert says in problem(lambda path: files.read_message(path, limits_pb2.Limits()), path)


def test_an_error_shows_names_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    report(CommandError("no \x1b[31mred\u202e name"), as_json=False)
    assert r"no \x1b[31mred\u202e name" in capsys.readouterr().err
