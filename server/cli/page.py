"""Plots as one HTML page that opens without a network, and as tables of what is drawn.

Needs the extra `reports`. A page says of each of its plots what table it is (`Plot`); the tables
are read off the figure, so that they hold the numbers that are drawn and no page makes its own.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from server.cli.errors import CommandError
from server.cli.page_tables import Plot, write_tables

_PLOTS = "plots"
"""Id of the element that they are drawn in; plotly's own would be another each time."""


@dataclass(frozen=True)
class Output:
    """Where a page goes: into an HTML file, into a folder of tables, or both; None: not there."""

    page: Path | None = None
    tables: Path | None = None

    def __bool__(self) -> bool:
        """Whether it goes anywhere."""
        return self.page is not None or self.tables is not None

    def lines(self) -> list[str]:
        """What was written, to be told."""
        told = [] if self.page is None else [f"report: {self.page}"]
        return told if self.tables is None else [*told, f"tables: {self.tables}"]


def check_installed() -> None:
    """Raises `CommandError` where the package that draws is missing."""
    if find_spec("plotly") is None:
        hint = "make setup in the project, or there: pip install '.[reports]'"
        raise CommandError("reports need the package plotly, which make setup installs", hint)


def subplots(plots: Sequence[Plot], **options: Any) -> Any:
    """A figure with a row for each plot."""
    check_installed()
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=len(plots),
        cols=1,
        subplot_titles=[plot.title for plot in plots],
        vertical_spacing=0.18 / max(len(plots), 3),
        **options,
    )
    figure.update_layout(meta={"plots": [asdict(plot) for plot in plots]})
    return figure


def write_page(output: Output, figure: Any) -> None:
    """The page of a figure, with the script of the plots inside it, and its tables.

    The same figure gives the same bytes.
    """
    if output.page is not None:
        html = figure.to_html(include_plotlyjs=True, full_html=True, div_id=_PLOTS)
        output.page.write_text(html)
    if output.tables is not None:
        write_tables(output.tables, figure, [Plot(**item) for item in figure.layout.meta["plots"]])
