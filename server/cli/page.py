"""Plots as one HTML page that opens without a network; needs the extra `reports`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server.cli.errors import CommandError


def subplots(titles: Sequence[str]) -> Any:
    """A figure with a row for each title."""
    try:
        from plotly.subplots import make_subplots
    except ImportError as error:
        hint = "make setup in the project, or there: pip install '.[reports]'"
        raise CommandError(
            "reports need the package plotly, which make setup installs", hint
        ) from error
    return make_subplots(
        rows=len(titles), cols=1, subplot_titles=titles, vertical_spacing=0.18 / max(len(titles), 3)
    )


def write_page(path: Path, figure: Any) -> None:
    """The page of a figure; the script of the plots is inside it."""
    path.write_text(figure.to_html(include_plotlyjs=True, full_html=True))
