"""What an error, the help and the version cost: no numerical library is imported for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CODE = """
import sys
from server.cli import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    code = end.code or 0
heavy = [m for m in ("jax", "scipy", "numpy", "polars", "sqlalchemy") if m in sys.modules]
print("code", code, "heavy", heavy)
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--help",), 0),
        (("--version",), 0),
        (("size", "--help"), 0),
        (("settle",), 2),
        (("no-such-command",), 2),
        (("size", "no-such-file.csv"), 2),
        (("portfolio", "list", "--address", "127.0.0.1:1"), 1),
        (("portfolio", "list", "--address", "127.0.0.1:1", "--timeout", "3"), 1),
        (("portfolio", "list", "--timeout", "soon"), 2),
        (("size", "examples/signals.csv", "--portfolio", "x", "--address", "127.0.0.1:1"), 1),
        (("market", "load", "README.md", "--address", "127.0.0.1:1"), 1),
    ],
)
def test_words_cost_no_mathematics(words: tuple[str, ...], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == f"code {code} heavy []", done.stderr
