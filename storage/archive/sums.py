"""Sums of lines: of each day by portfolio and strategy, written beside them, and added up again.

Sums of doubles are Kahan's (`fsum`): plain ones differ in their last digits from run to run, as
threads add in another order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage.archive.files import LINES, DayWriter

KEYS = ("portfolio_id", "strategy_id")
"""A decision has one of each, so that counts of decisions add up too."""
OF_FOLDERS = ("tenant_id", "day")
"""What every row of a day shares."""
CHANGE = "change_"


@dataclass(frozen=True)
class Sum:
    """A column of sums: how it is made of lines, and how such sums are added."""

    name: str
    of_lines: str
    add: str = "fsum"


TOTALS = (
    Sum("decisions", "count(DISTINCT decision_id)", "sum"),
    Sum("lines", "count(*)", "sum"),
    Sum("cut", "count_if(binding <> 'NONE')", "sum"),
    Sum("sized", f"count({CHANGE}raw_kelly)", "sum"),
    Sum("wanted", f"fsum({CHANGE}raw_kelly)"),
    Sum("decided", f"fsum(abs(weight)) FILTER ({CHANGE}raw_kelly IS NOT NULL)"),
    Sum("traded", "fsum(abs(trade_lots * lot_size * price))"),
    Sum("growth", "fsum(expected_growth) FILTER (isfinite(expected_growth))"),
    Sum("growths", "count(expected_growth) FILTER (isfinite(expected_growth))", "sum"),
)
"""wanted, decided: absolute weights of the lines that were sized; growths: lines with a growth."""


def of_stages(columns: Iterable[str]) -> list[Sum]:
    """For each stage among the columns the lines that it moved, and what it changed in all."""
    stages = [name.removeprefix(CHANGE) for name in columns if name.startswith(CHANGE)]
    moved = [Sum(f"moved_{stage}", f"count({CHANGE}{stage})", "sum") for stage in stages]
    return moved + [Sum(f"{CHANGE}{stage}", f"fsum({CHANGE}{stage})") for stage in stages]


def question(table: str, groups: Sequence[str], wanted: Sequence[Sum], condition: str) -> str:
    """SQL of sums by group, from the lines or from the sums of days."""
    made = [
        f"{item.of_lines if table == LINES else f'{item.add}({item.name})'} AS {item.name}"
        for item in wanted
    ]
    columns = ", ".join([*groups, *made])
    return f"SELECT {columns} FROM {table} WHERE {condition} GROUP BY ALL ORDER BY ALL"


def write(lines: DayWriter, sums: DayWriter, columns: Iterable[str]) -> None:
    """Adds the sums of a day's lines, whose columns are given, to the files of its sums."""
    import duckdb

    asked = question(LINES, KEYS, [*TOTALS, *of_stages(columns)], "true")
    with duckdb.connect() as connection:
        connection.read_parquet(lines.pattern).create_view(LINES)
        sums.add_file(lambda path: connection.sql(asked).write_parquet(path, compression="zstd"))
