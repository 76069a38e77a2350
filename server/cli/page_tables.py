"""What a page draws as tables, each a CSV and a Parquet file of the same name in one folder.

A row is a point: `series`, then the columns across and up as the plot names them; `low` and `high`
where it has an interval, `value` where its colour is one, `label` where it has words of its own. A
heat map is a row a cell. What is not drawn, as it is not defined, is an empty cell (null).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.cli.errors import CommandError

Row = dict[str, Any]


@dataclass(frozen=True)
class Plot:
    """One plot of a page: its title, and the table that it is: file, column across, column up."""

    title: str
    table: str
    x: str
    y: str


def write_tables(folder: Path, figure: Any, plots: Sequence[Plot]) -> None:
    """A table for each plot that has anything in it; older files of the same names are replaced."""
    import polars

    if folder.exists() and not folder.is_dir():
        raise CommandError(f"{folder} is a file", "name a folder for --tables")
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables_of(figure, plots).items():
        frame = polars.DataFrame(rows, infer_schema_length=None)
        frame.write_csv(folder / f"{name}.csv")
        frame.write_parquet(folder / f"{name}.parquet")


def tables_of(figure: Any, plots: Sequence[Plot]) -> dict[str, list[Row]]:
    """Rows by table; plots of the same table follow each other in it."""
    found: dict[str, list[Row]] = {}
    for trace in figure.data:
        if trace.type == "table":  # words; the rows that they are made of are beside them
            found.setdefault(trace.name, []).extend(map(dict, trace.customdata))
            continue
        plot = plots[_number(trace.xaxis) - 1]
        found.setdefault(plot.table, []).extend(_rows(trace, plot, figure))
    return {name: _filled(rows) for name, rows in found.items() if rows}


def _filled(rows: list[Row]) -> list[Row]:
    """All with the same columns, and each column of one kind: numbers, or texts."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    texts = {name for name in names if any(isinstance(row.get(name), str) for row in rows)}
    return [{name: _cell(row.get(name), is_text=name in texts) for name in names} for row in rows]


def _cell(value: Any, *, is_text: bool) -> Any:
    if value is None or is_text:
        return None if value is None else str(value)
    return None if value != value else float(value)


def _rows(trace: Any, plot: Plot, figure: Any) -> Iterator[Row]:
    if trace.type == "heatmap":
        yield from _cells(trace, plot, figure)
        return
    words = trace.text if _is_list(trace.text) else None
    spread = getattr(trace, "error_y", None)
    colour: Any = getattr(getattr(trace, "marker", None), "color", None)  # waterfalls have none
    for place, (x, y) in enumerate(zip(trace.x, trace.y, strict=True)):
        row = {"series": trace.name or "", plot.x: x, plot.y: y}
        if spread is not None and _is_list(spread.array):
            below, above = spread.arrayminus[place], spread.array[place]
            row["low"] = None if below is None else y - below
            row["high"] = None if above is None else y + above
        if _is_list(colour):
            row["value"] = colour[place]
        if words is not None:
            row["label"] = words[place]
        yield row


def _cells(trace: Any, plot: Plot, figure: Any) -> Iterator[Row]:
    """A row a cell; rows and columns by the names that their axes show."""
    across, down = (_names(figure, axis) for axis in (f"x{trace.xaxis[1:]}", f"y{trace.yaxis[1:]}"))
    for i, y in enumerate(trace.y):
        for j, x in enumerate(trace.x):
            row = {"series": trace.name or "", plot.y: down.get(y, y), plot.x: across.get(x, x)}
            row["value"] = trace.z[i][j]
            yield row | {"label": trace.text[i][j]} if _is_list(trace.text) else row


def _names(figure: Any, axis: str) -> dict[Any, str]:
    """What an axis writes at its values, where it writes something else."""
    found = figure.layout[f"{axis[0]}axis{axis[1:]}"]
    if found.tickvals is None or found.ticktext is None:
        return {}
    return dict(zip(found.tickvals, found.ticktext, strict=True))


def _number(axis: str) -> int:
    return int(axis[1:] or 1)


def _is_list(value: Any) -> bool:
    return value is not None and not isinstance(value, str)
