"""Sums over archived days, by DuckDB straight from the Parquet files.

Sums of doubles are Kahan's (`fsum`): plain ones differ in their last digits from run to run, as
threads add in another order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.archive.files import LINES, TABLES, parts

if TYPE_CHECKING:
    import duckdb

DIMENSIONS = {
    "tenant": "tenant_id",
    "strategy": "strategy_id",
    "portfolio": "portfolio_id",
    "instrument": "instrument_id",
    "day": "day",
    "method": "method",
    "status": "status",
    "line-status": "line_status",
    "binding": "binding",
}
"""What lines can be grouped by, and the column of each."""

_CHANGE = "change_"


class ArchiveError(Exception):
    """A question that the archive can't answer, in words."""


@dataclass(frozen=True)
class Answer:
    """Rows under the names of their columns."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True)
class Period:
    """Days from `first` to `last`, both included; None: no bound."""

    first: date | None = None
    last: date | None = None

    @property
    def condition(self) -> str:
        """As SQL. Dates have no quotes to escape."""
        bounds = [f"day >= '{self.first}'" if self.first else ""]
        bounds += [f"day <= '{self.last}'" if self.last else ""]
        return " AND ".join(filter(None, bounds)) or "true"


def by_dimensions(root: Path, names: Sequence[str], period: Period = Period()) -> Answer:
    """Decisions, lines, what was wanted and what limits and lots left, traded money, by group.

    wanted: mean absolute weight of the raw Kelly stakes; decided: that of the final lots, over the
    lines that were sized. growth: mean expected log growth of the lines, a period.
    """
    columns = _columns(names)
    first = f"{_CHANGE}raw_kelly"
    return _asked(
        root,
        f"""SELECT {", ".join([*columns, ""])} count(DISTINCT decision_id) AS decisions,
            count(*) AS lines,
            count_if(binding <> 'NONE') AS cut,
            favg(abs({first})) AS wanted,
            favg(abs(weight)) FILTER ({first} IS NOT NULL) AS decided,
            fsum(abs(trade_lots * lot_size * price)) AS traded,
            favg(expected_growth) FILTER (isfinite(expected_growth)) AS growth
        FROM {LINES} WHERE {period.condition} GROUP BY ALL ORDER BY ALL""",
    )


def by_stage(root: Path, names: Sequence[str], period: Period = Period()) -> Answer:
    """What each stage of the waterfall did to the absolute weights, by group and stage.

    moved: lines whose weight it changed. change: its sum over the lines, of absolute weights;
    after: mean absolute weight after it. The changes of all stages add up to the weights decided.
    """
    columns = _columns(names)
    with _opened(root) as connection:
        known = [row[0] for row in connection.execute(f"DESCRIBE {LINES}").fetchall()]
        stages = [name for name in known if name.startswith(_CHANGE)]
        sums = [f"fsum({name})" for name in stages]
        counts = [f"count({name})" for name in stages]
        found = connection.execute(
            f"""SELECT {", ".join([*columns, "count(change_raw_kelly)", *sums, *counts])}
            FROM {LINES} WHERE {period.condition} GROUP BY ALL ORDER BY ALL"""
        ).fetchall()
    rows, n = list[tuple[Any, ...]](), len(columns)
    for group in found:
        lines, after = group[n], 0.0
        for place, name in enumerate(stages):
            change = group[n + 1 + place] or 0.0
            moved = group[n + 1 + len(stages) + place]
            after += change
            if moved:
                stage = name.removeprefix(_CHANGE).upper()
                rows.append((*group[:n], stage, moved, change, after / lines))
    return Answer((*columns, "stage", "moved", "change", "after"), rows)


def query(root: Path, sql: str) -> Answer:
    """Any question in SQL of the views `lines` and `fills`."""
    return _asked(root, sql)


def _columns(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in DIMENSIONS:
            known = ", ".join(DIMENSIONS)
            raise ArchiveError(f"nothing is grouped by {name!r}; there are {known}, and stage")
    return [DIMENSIONS[name] for name in dict.fromkeys(names)]


def _asked(root: Path, sql: str) -> Answer:
    import duckdb

    with _opened(root) as connection:
        try:
            found = connection.execute(sql)
        except duckdb.Error as error:
            raise ArchiveError(str(error)) from error
        columns = tuple(item[0] for item in found.description or ())
        return Answer(columns, found.fetchall())


def _opened(root: Path) -> "duckdb.DuckDBPyConnection":
    """A database in memory with a view for each table; it can read the archive and nothing else."""
    import duckdb

    if not parts(root, LINES):
        raise ArchiveError(f"{root} has no archived days; `sizing archive {root}` writes them")
    connection, folder = duckdb.connect(), str(root.resolve()).replace("'", "''")
    connection.execute(f"SET allowed_directories = ['{folder}']")
    for table in TABLES:
        if parts(root, table):
            pattern = f"{folder}/{table}/tenant_id=*/day=*/part-*.parquet"
            # Days of older releases lack the columns of stages that were added since.
            connection.execute(
                f"""CREATE VIEW {table} AS SELECT * FROM read_parquet('{pattern}',
                union_by_name = true, hive_partitioning = true,
                hive_types = {{'day': DATE, 'tenant_id': VARCHAR}})"""
            )
    connection.execute("SET enable_external_access = false; SET lock_configuration = true")
    return connection
