"""The script of `examples/size.py` runs, and its sizes are those of a hand computation."""

import runpy
from pathlib import Path

import pytest

from tests.fixtures_kernels import kept_programs

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "size.py"


def test_a_script_sizes_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    with kept_programs():
        runpy.run_path(str(SCRIPT))
    # Half Kelly of even money is p - 1/2: 10 % and 5 % of 100,000. A limit leaves 8 % of the first,
    # 40 units at 200; 5 % are 12.5 units at 400, and whole ones are traded.
    assert capsys.readouterr().out.splitlines() == [
        "AAPL 40 units, 8.00% of equity",
        "MSFT 12 units, 4.80% of equity",
    ]
