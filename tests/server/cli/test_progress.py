"""Progress where there is no terminal: plain lines, few of them, with the time left."""

import io

from rich.console import Console

from server.cli.progress import progress


def test_lines_say_what_how_many_and_how_long() -> None:
    now = [0.0]
    out = Console(file=io.StringIO(), width=200)
    with progress(out, lambda: now[0]) as tell:
        tell("starting", 0, 0)
        tell("starting", 0, 0)
        for done in range(101):
            now[0] += 1.0
            tell("compiling", done, 100)
    file = out.file
    assert isinstance(file, io.StringIO)
    lines = file.getvalue().splitlines()
    assert lines[:2] == ["starting", "compiling: 0 of 100"]
    assert lines[2] == "compiling: 10 of 100, about 90 s left"
    assert lines[-1] == "compiling: 100 of 100"
    assert len(lines) == 2 + 10


def test_parts_are_told_in_percent() -> None:
    now = [0.0]
    out = Console(file=io.StringIO(), width=200)
    with progress(out, lambda: now[0], is_percent=True) as tell:
        for done in (0, 20, 100):
            now[0] += 12.0
            tell("backtest", done, 100)
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().splitlines()
    assert lines == ["backtest: 0 %", "backtest: 20 %, about 48 s left", "backtest: 100 %"]
    bar = io.StringIO()
    shown = Console(file=bar, width=100, force_terminal=True)
    with progress(shown, is_percent=True) as tell:
        tell("backtest", 5, 100)
    assert "5%" in bar.getvalue()


def test_a_terminal_gets_a_bar() -> None:
    file = io.StringIO()
    with progress(Console(file=file, width=100, force_terminal=True)) as tell:
        tell("[compiling]", 5, 10)
    assert "[compiling]" in file.getvalue()
    assert "5/10" in file.getvalue()
