"""How far something long is: a bar with the time left, or plain lines without a terminal."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Tell = Callable[[str, int, int], None]
"""Called with what is done, how many are done and how many there are in all (0: not known)."""

_LINE_EVERY_S = 10.0


@contextlib.contextmanager
def progress(
    out: "Console", clock: Callable[[], float] = time.monotonic, *, is_percent: bool = False
) -> Iterator[Tell]:
    """What the block tells is shown; the bar goes away at its end, lines stay.

    is_percent: what is told are percent, of 100.
    """
    if not out.is_terminal:
        yield _lines(out, clock, is_percent=is_percent)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    described = TextColumn("{task.description}", markup=False)
    counted = (
        BarColumn(bar_width=20),
        TaskProgressColumn() if is_percent else MofNCompleteColumn(),
    )
    timed = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(described, *counted, *timed, console=out, transient=True) as shown:
        task = shown.add_task("", total=None)

        def tell(what: str, done: int, total: int) -> None:
            shown.update(task, description=what, completed=done, total=total or None)

        yield tell


def _lines(out: "Console", clock: Callable[[], float], *, is_percent: bool) -> Tell:
    """A line when something new begins, at its end, and every 10 s between where it went on."""
    said: tuple[str, int] = ("", -1)
    began = said_at = clock()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal said, began, said_at
        now = clock()
        is_new = what != said[0]
        if is_new:
            began = now
        went_on = done != said[1]
        if not (is_new or (went_on and (done == total or now - said_at >= _LINE_EVERY_S))):
            return
        said, said_at = (what, done), now
        much = f"{done} %" if is_percent else f"{done} of {total}"
        line = f"{what}: {much}" if total else what
        if 0 < done < total and now > began:
            line += f", about {(now - began) * (total - done) / done:.0f} s left"
        out.print(line)

    return tell
