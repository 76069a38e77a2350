"""Sums over archived days, by DuckDB straight from the Parquet files.

What is asked by portfolio, strategy or day is answered from the sums of days, which are a thousand
times fewer rows than the lines; all else from the lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.archive import sums
from storage.archive.files import LINES, SUMS, TABLES, has_sums, parts

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


class ArchiveError(Exception):
    """A question that the archive can't answer, in words."""


_MEASURES = ("decisions", "lines", "cut", "wanted", "decided", "traded", "growth")


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
    table = _table_that_knows(root, columns)
    with _opened(root, [table]) as connection:
        question = sums.question(table, columns, sums.TOTALS, period.condition)
        found = connection.execute(question).fetchall()
    rows = []
    for group in found:
        total = dict(zip((item.name for item in sums.TOTALS), group[len(columns) :], strict=True))
        means = [_mean(total["wanted"], total["sized"]), _mean(total["decided"], total["sized"])]
        counts = [int(total[name]) for name in ("decisions", "lines", "cut")]
        growth = _mean(total["growth"], total["growths"])
        rows.append((*group[: len(columns)], *counts, *means, total["traded"], growth))
    return Answer((*columns, *_MEASURES), rows)


def by_stage(root: Path, names: Sequence[str], period: Period = Period()) -> Answer:
    """What each stage of the waterfall did to the absolute weights, by group and stage.

    moved: lines whose weight it changed. change: its sum over the lines, of absolute weights;
    after: mean absolute weight after it. The changes of all stages add up to the weights decided.
    """
    columns = _columns(names)
    table = _table_that_knows(root, columns)
    with _opened(root, [table]) as connection:
        known = [row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall()]
        wanted = sums.of_stages(known)
        question = sums.question(table, columns, wanted, period.condition)
        found = connection.execute(question).fetchall()
    rows, n, stages = list[tuple[Any, ...]](), len(columns), len(wanted) // 2
    for group in found:
        counts, changes = group[n : n + stages], group[n + stages :]
        after = 0.0
        for item, moved, change in zip(wanted[stages:], counts, changes, strict=True):
            after += change or 0.0
            if moved:
                stage = item.name.removeprefix(sums.CHANGE).upper()
                rows.append((*group[:n], stage, int(moved), change, after / int(counts[0])))
    return Answer((*columns, "stage", "moved", "change", "after"), rows)


def _table_that_knows(root: Path, columns: Sequence[str]) -> str:
    """The sums of days where these can be grouped so, else the lines."""
    is_known = set(columns) <= {*sums.KEYS, *sums.OF_FOLDERS}
    return SUMS if is_known and has_sums(root) else LINES


def _mean(total: float | None, count: float) -> float | None:
    return total / float(count) if count and total is not None else None


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


def _opened(root: Path, tables: Sequence[str] = TABLES) -> "duckdb.DuckDBPyConnection":
    """A database in memory with views of tables; it can read the archive and nothing else.

    A view reads the columns of each of its files, so that unneeded ones take seconds.
    """
    import duckdb

    if not parts(root, LINES):
        raise ArchiveError(f"{root} has no archived days; `sizing archive {root}` writes them")
    connection, folder = duckdb.connect(), str(root.resolve()).replace("'", "''")
    connection.execute(f"SET allowed_directories = ['{folder}']")
    for table in tables:
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
