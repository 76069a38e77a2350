"""Records in an archive: decisions and settlements whole, byte for byte, with their digests.

    ROOT/records/tenant_id=default/day=2026-11-27/part-0000.parquet

From them a decision can be read when it is no longer in the database, and proven to be what was
recorded: its digest is in `archived_record` there, under a seal of the chain of changes.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from storage.archive.files import RECORDS, DayWriter, day_folder, files_of, parts
from storage.postgres.records import COLUMNS, Digest, record_digest

BYTES_IN_A_FILE = 64 * 2**20
_BINARY = ("inputs", "request_hash", "request", "response", "digest")


class RecordError(Exception):
    """Records in an archive that are not what was written, in words."""


def types() -> dict[str, Any]:
    """The columns and their types in Polars."""
    import polars

    found: dict[str, Any] = dict.fromkeys((*COLUMNS, "digest"), polars.String)
    found |= dict.fromkeys(_BINARY, polars.Binary)
    return found | {"create_time": polars.Datetime("us", "UTC")}


def add(writer: DayWriter, rows: list[tuple[Any, ...]]) -> None:
    """One more file of `COLUMNS` with the digest; `rows` is emptied."""
    if rows:
        names = (*COLUMNS, "digest")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        for name in ("record_id", "decision_id", "request_id"):
            columns[name] = list(map(str, columns[name]))
        writer.add(columns, types())
        rows.clear()


def size(row: tuple[Any, ...]) -> int:
    """About how many bytes a row has."""
    return sum(len(value) for value in row if isinstance(value, bytes | str))


def verified(paths: Iterator[Path]) -> Iterator[Digest]:
    """Of each record in these files, recomputed from what it says. Errors: `RecordError`."""
    import polars

    for path in paths:
        try:
            frame = polars.read_parquet(path)
            rows = frame.select(*COLUMNS, "digest").iter_rows(named=True)
        except (OSError, polars.exceptions.PolarsError) as error:
            raise RecordError(f"{path} can't be read: {error}") from error
        for row in rows:
            digest = record_digest(row)
            if digest != row["digest"]:
                raise RecordError(f"{path}: record {row['record_id']} is not as it was written")
            yield Digest(row["create_time"], UUID(row["record_id"]), digest)


def of_day(root: Path, tenant_id: str, day: date) -> dict[UUID, bytes]:
    """Digests of the records of a day by their ids, recomputed. Errors: `RecordError`."""
    folder = day_folder(root, RECORDS, tenant_id, day)
    paths = sorted(folder.glob("part-*.parquet"))
    return {item.record_id: item.digest for item in verified(iter(paths))}


def find(root: Path, decision_id: UUID) -> dict[str, Any] | None:
    """The record of a decision of any tenant, None where there is none. Errors: `RecordError`.

    The day is in the id, which is a UUIDv7, or beside it; where it is not, all files are searched.
    """
    import polars

    for path in (*_likely(root, decision_id), *parts(root, RECORDS)):
        wanted = polars.col("record_id") == str(decision_id)
        for row in polars.scan_parquet(path).filter(wanted).collect().iter_rows(named=True):
            if record_digest(row) != row["digest"]:
                raise RecordError(f"{path}: {decision_id} is not as it was written")
            return dict(row)
    return None


def _likely(root: Path, decision_id: UUID) -> list[Path]:
    """Files of the days within an hour of the time in an id."""
    try:
        moment = datetime.fromtimestamp((decision_id.int >> 80) / 1000, UTC)
        days = {(moment + timedelta(hours=h)).date() for h in (-1, 0, 1)}
    except (ValueError, OverflowError):  # another kind of id
        return []
    return [path for day in sorted(days) for path in files_of(root, RECORDS, day)]
