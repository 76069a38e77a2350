"""The tables that a replay reads, dumped from and loaded into a database."""

import gzip
import io
from pathlib import Path

import asyncpg

TABLES = (
    "tenant",
    "tenant_stream",
    "portfolio_group",
    "portfolio",
    "holding",
    "trading_state",
    "limit_set",
    "parameter_set",
    "market_snapshot",
    "market_matrix",
    "request",
    "decision",
)
"""In the order of their foreign keys."""


async def dump(dsn: str, folder: Path) -> None:
    """Writes each table as PostgreSQL's COPY text, after a line with its columns, compressed.

    The folder has to be there.
    """
    connection = await asyncpg.connect(dsn)
    try:
        for table in TABLES:
            columns = await connection.fetch(
                "SELECT column_name FROM information_schema.columns WHERE table_name = $1"
                " AND is_generated = 'NEVER' ORDER BY ordinal_position",
                table,
            )
            names = [row["column_name"] for row in columns]
            out = io.BytesIO()
            await connection.copy_from_table(table, output=out, columns=names)
            text = ",".join(names).encode() + b"\n" + out.getvalue()
            (folder / f"{table}.copy.gz").write_bytes(gzip.compress(text, mtime=0))
    finally:
        await connection.close()


async def load(dsn: str, folder: Path) -> None:
    """Loads what `dump` wrote into a database of the same schema version."""
    connection = await asyncpg.connect(dsn)
    try:
        for table in TABLES:
            text = gzip.decompress((folder / f"{table}.copy.gz").read_bytes())
            names, _, rows = text.partition(b"\n")
            await connection.copy_to_table(
                table, source=io.BytesIO(rows), columns=names.decode().split(",")
            )
    finally:
        await connection.close()
