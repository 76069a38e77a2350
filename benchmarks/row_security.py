"""F14: what the wall between tenants costs where decisions are committed.

    .venv/bin/python -m benchmarks.row_security [--commits 400] [--lines 50 1024]

Two databases of one embedded PostgreSQL: with row security as the service has it, and with it
switched off and no tenant set. Commits of the write path alternate between them, so that both see
the same machine; so do commits of two tenants by turns over one connection, which is told its
tenant each time. Beside the times stands the processor time of PostgreSQL's backends a commit.
"""

import argparse
import asyncio
import hashlib
import os
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import numpy as np

from storage import embedded
from storage.identifiers import uuid7
from storage.postgres import portfolios, tenants
from storage.postgres.commit import DecisionWrite, PortfolioWrite, commit_batch
from storage.postgres.decisions import Decision, Lines
from storage.postgres.migrations import migrate
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database, PoolOptions
from storage.postgres.requests import Request
from storage.postgres.reservations import NewReservation

TENANTS = ("bench", "rival")


@dataclass
class Side:
    """One database with what was measured on it."""

    name: str
    database: Database
    tenant_ids: tuple[str, ...]
    backends: list[int]
    seconds: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    version: int = 0

    async def commit(self, n_lines: int) -> None:
        """One commit, taken into the account."""
        tenant_id = self.tenant_ids[len(self.seconds) % len(self.tenant_ids)]
        self.version += len(self.seconds) % len(self.tenant_ids) == 0
        write = decision_write(tenant_id, self.version, n_lines)
        cpu_s, started = self._backends_s(), time.perf_counter()
        await commit_batch(self.database, [write], deadline_s=60.0)
        self.seconds.append(time.perf_counter() - started)
        self.cpu_s += self._backends_s() - cpu_s

    def _backends_s(self) -> float:
        total = 0
        for pid in self.backends:
            stat = Path(f"/proc/{pid}/schedstat").read_text().split()
            total += int(stat[0])
        return total / 1e9


def decision_write(tenant_id: str, version: int, n_lines: int) -> DecisionWrite:
    """A decision as the service writes it: request, lines, reservation, one event."""
    names = tuple(f"INS{i:06d}" for i in range(n_lines))
    ones, lots = np.ones(n_lines), np.arange(1, n_lines + 1)
    content = os.urandom(n_lines * 100)
    digest = hashlib.sha256(content).digest()
    request = Request(uuid.uuid4(), "SizePositions", digest, content, content)
    now = datetime.now(UTC)
    decision = Decision(
        decision_id=uuid7(),
        request_id=request.request_id,
        kind="SIZE",
        portfolio_id="book",
        strategy_id="trend",
        create_time=now,
        status="OPTIMAL",
        inputs=content,
        versions={"limits": 1},
        lines=Lines(names, lots, ones / 7, ones * 100.1, ones * 10.01, lots % 3),
    )
    reserved = NewReservation(names, lots, ones, ones, ones, now + timedelta(days=1))
    event = NewEvent("position-sized", "PositionSized", lambda _: content)
    part = PortfolioWrite(decision, version, reservation=reserved, events=[event])
    return DecisionWrite(tenant_id, request, (part,), expected_tenant_version=1)


async def side(server: embedded.EmbeddedServer, name: str, tenant_ids: tuple[str, ...]) -> Side:
    """A database of its own with a portfolio for each tenant."""
    admin = await asyncpg.connect(server.dsn_of("postgres"))
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {embedded.DATABASE}")
    await admin.close()
    dsn = server.dsn_of(name)
    if name == "without":
        admin = await asyncpg.connect(dsn)
        for row in await admin.fetch("SELECT relname FROM pg_class WHERE relrowsecurity"):
            await admin.execute(f"ALTER TABLE {row['relname']} DISABLE ROW LEVEL SECURITY")
        await admin.close()
    database = await Database.open(dsn, PoolOptions(n_connections=1))
    database.has_wall = database.has_wall and name != "without"
    for tenant_id in tenant_ids:
        async with database.transaction(tenant_id, deadline_s=60.0) as connection:
            await tenants.ensure(connection, tenant_id)
            await portfolios.create(
                connection,
                tenant_id,
                "book",
                display_name="",
                base_currency="USD",
                as_of_time=datetime.now(UTC),
            )
    admin = await asyncpg.connect(dsn)
    rows = await admin.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()", name
    )
    await admin.close()
    return Side(name, database, tenant_ids, [row["pid"] for row in rows])


async def measure(n_commits: int, lines: list[int]) -> None:
    """Prints a row of the table for each side and number of lines."""
    print("| lines | side | p50 ms | p99 ms | backend CPU ms a commit | ratio p50 | ratio CPU |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        server = embedded.start(folder)
        try:
            await migrate(server.dsn)
            for n_lines in lines:
                await _measure(server, n_commits, n_lines)
        finally:
            server.stop()


async def _measure(server: embedded.EmbeddedServer, n_commits: int, n_lines: int) -> None:
    sides = [
        await side(server, "without", TENANTS[:1]),
        await side(server, "walled", TENANTS[:1]),
        await side(server, "by_turns", TENANTS),
    ]
    for _ in range(50):  # plans, caches
        for one in sides:
            await one.commit(n_lines)
    for one in sides:
        one.seconds, one.cpu_s = [], 0.0
    for i in range(n_commits):
        for one in sides[i % 3 :] + sides[: i % 3]:
            await one.commit(n_lines)
    base = sides[0]
    for one in sides:
        p50, p99 = np.quantile(np.array(one.seconds) * 1e3, (0.5, 0.99))
        cpu = 1e3 * one.cpu_s / n_commits
        ratio = p50 / np.quantile(np.array(base.seconds) * 1e3, 0.5)
        print(
            f"| {n_lines} | {one.name} | {p50:.2f} | {p99:.2f} | {cpu:.3f} "
            f"| {ratio:.2f} | {one.cpu_s / base.cpu_s:.2f} |"
        )
        await one.database.aclose()
    admin = await asyncpg.connect(server.dsn_of("postgres"))
    for one in sides:
        await admin.execute(f"DROP DATABASE {one.name} WITH (FORCE)")
    await admin.close()


def main() -> None:
    """Runs the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=400)
    parser.add_argument("--lines", type=int, nargs="+", default=[1, 50, 1024])
    args = parser.parse_args()
    asyncio.run(measure(args.commits, args.lines))


if __name__ == "__main__":
    main()
