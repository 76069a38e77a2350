"""Parquet files by table, tenant and day.

    ROOT/lines/tenant_id=default/day=2026-11-27/part-0000.parquet

A day appears with all of its files at once: they are written beside it and the folder is renamed.
What a crash leaves half written begins with a dot, is read by nobody and replaced by the next run.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

LINES, FILLS, SUMS, RECORDS = "lines", "fills", "sums", "records"
TABLES = (LINES, FILLS, SUMS)
"""What is asked questions; records are kept beside them (`records.py`)."""
_DAY = "day="


def day_folder(root: Path, table: str, tenant_id: str, day: date) -> Path:
    """Where the files of a day are."""
    return _tenant_folder(root, table, tenant_id) / f"{_DAY}{day.isoformat()}"


def _tenant_folder(root: Path, table: str, tenant_id: str) -> Path:
    return root / table / f"tenant_id={quote(tenant_id, safe='')}"


def days(root: Path, table: str, tenant_id: str) -> list[date]:
    """The days that are archived, rising."""
    found = _tenant_folder(root, table, tenant_id).glob(f"{_DAY}*")
    return sorted(date.fromisoformat(path.name.removeprefix(_DAY)) for path in found)


class DayWriter:
    """Writes the files of one table and day; the day is there once `finish` returns."""

    def __init__(self, root: Path, table: str, tenant_id: str, day: date) -> None:
        self._final = day_folder(root, table, tenant_id, day)
        self._partial = self._final.with_name(f".{self._final.name}-{os.getpid()}")
        self._parts = 0
        self.rows = 0
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)

    @property
    def paths(self) -> list[Path]:
        """The files so far."""
        return sorted(self._partial.glob("part-*.parquet"))

    @property
    def pattern(self) -> str:
        """The files so far, as DuckDB names many."""
        return f"{self._partial}/part-*.parquet"

    def add_file(self, write: Callable[[str], None]) -> None:
        """One more file, made by `write` at the path that it is told."""
        write(str(self._partial / f"part-{self._parts:04}.parquet"))
        self._parts += 1

    def add(self, columns: Mapping[str, Any], types: Mapping[str, Any]) -> None:
        """One more file of these columns, all of one length; `types` are those of Polars."""
        import polars

        frame = polars.DataFrame(dict(columns), schema=dict(types))
        # Row groups of this size let two of DuckDB's threads share even a small day.
        self.add_file(
            lambda path: frame.write_parquet(path, compression="zstd", row_group_size=262_144)
        )
        self.rows += frame.height

    def finish(self) -> None:
        """Makes the day appear, in the place of an older one."""
        for path in self._partial.iterdir():
            _flush(path)
        _flush(self._partial)
        shutil.rmtree(self._final, ignore_errors=True)
        self._partial.replace(self._final)
        _flush(self._final.parent)


def has_sums(root: Path) -> bool:
    """Whether every day of lines has its sums: those of older releases have none."""
    days_of = [
        {path.relative_to(root / table) for path in (root / table).glob("tenant_id=*/day=*")}
        for table in (LINES, SUMS)
    ]
    return days_of[0] <= days_of[1]


def parts(root: Path, table: str) -> list[Path]:
    """All files of a table."""
    return sorted((root / table).glob("tenant_id=*/day=*/part-*.parquet"))


def files_of(root: Path, table: str, day: date) -> list[Path]:
    """All files of a table and a day, of every tenant."""
    return sorted((root / table).glob(f"tenant_id=*/{_DAY}{day.isoformat()}/part-*.parquet"))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
