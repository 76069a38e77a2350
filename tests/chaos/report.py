"""What a run of the chaos tests found: figures by goal, and what became of every request."""

import os
import time
from collections.abc import Callable

from tests.chaos.accounts import COLUMNS, Counts

Figure = Callable[[str, str], None]

_PAGE = """# What `make chaos` found

Written by the run itself: {date} UTC, {minutes:.0f} minutes on {cores} cores, outcome {outcome}.
Real server processes, PostgreSQL and Pulsar (`tests/chaos`).

{figures}

"wire x2" are events that are on a topic twice, which the contract allows; "duplicate" is what an
idempotent consumer sees twice. The last three columns have to be 0.

{table}
"""


class Report:
    """Collects while the tests run."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._figures: list[tuple[str, str]] = []
        self._counts: dict[str, Counts] = {}

    @property
    def is_empty(self) -> bool:
        return not (self._figures or self._counts)

    def count(self, counts: Counts) -> None:
        """Adds a round to its line of the table."""
        known = self._counts.get(counts.name)
        self._counts[counts.name] = counts if known is None else known + counts

    def note(self, goal: str, text: str) -> None:
        """Adds a figure."""
        self._figures.append((goal, text))

    def lines(self) -> list[str]:
        """For a terminal."""
        header = f"{'':<34}" + "".join(f"{name:>10}" for name in COLUMNS)
        rows = [
            f"{counts.name:<34}" + "".join(f"{number:>10}" for number in counts.numbers)
            for counts in self._counts.values()
        ]
        figures = [f"{goal:<4}{text}" for goal, text in sorted(self._figures)]
        return [*figures, "", header, *rows]

    def page(self, outcome: str) -> str:
        """As Markdown."""
        head = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
        rows = [
            f"| {counts.name} | " + " | ".join(map(str, counts.numbers)) + " |"
            for counts in self._counts.values()
        ]
        return _PAGE.format(
            date=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
            minutes=(time.monotonic() - self._started) / 60,
            cores=os.cpu_count(),
            outcome=outcome,
            figures="\n".join(f"- {goal}: {text}" for goal, text in sorted(self._figures)),
            table="\n".join(head + rows),
        )
