"""kill -9 in the middle of a commit: the decision is there as a whole, or not at all."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage.postgres import decisions, outbox, portfolios, reservations
from storage.postgres.commit import CommitResult
from storage.postgres.group_commit import GroupCommitter
from storage.postgres.pool import Database
from tests.fixtures_postgres import TENANT
from tests.storage.postgres.writes import create_portfolio, make_request, make_write

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

_COMMIT = """
import asyncio, sys
from uuid import UUID
from storage.postgres.group_commit import GroupCommitter
from storage.postgres.pool import Database
from writes import make_request, make_write

async def main(dsn, book, request_id):
    database = await Database.open(dsn)
    request = make_request(request_id=UUID(request_id))
    await GroupCommitter(database).commit(make_write(book, request=request), deadline_s=10)
    print("answered")

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("point", "is_committed"),
    [("claim", False), ("before_commit", False), ("after_commit", True), ("", True)],
)
async def test_a_killed_commit_is_whole_or_absent_and_its_repetition_is_answered(
    database: Database, postgres_dsn: str, point: str, is_committed: bool
) -> None:
    book = f"killed-{point}"
    async with database.transaction(TENANT, deadline_s=5) as connection:
        await create_portfolio(connection, book)
    request = make_request()
    path = os.pathsep.join(str(folder) for folder in (ROOT, HERE, ROOT / "tests"))
    environment = {**os.environ, "PYTHONPATH": path}
    environment |= {"SIZING_CRASH_POINT": point} if point else {}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _COMMIT, postgres_dsn, book, str(request.request_id)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if point:
        assert (done.returncode, done.stdout) == (-signal.SIGKILL, ""), done.stderr
    else:
        assert (done.returncode, done.stdout) == (0, "answered\n"), done.stderr

    assert await rows(database, book, request.request_id) == (
        [1, 1, 1] if is_committed else [0] * 3
    )
    committer = GroupCommitter(database)
    again = await committer.commit(make_write(book, request=request), deadline_s=5)
    assert again == CommitResult(request.response, is_replay=is_committed)
    assert await rows(database, book, request.request_id) == [1, 1, 1]


async def rows(database: Database, book: str, request_id: object) -> list[int]:
    async with database.connection(TENANT, deadline_s=5) as connection:
        made = await decisions.of_request(connection, TENANT, request_id)
        reserved = await reservations.list_open(connection, TENANT, book)
        portfolio = await portfolios.get(connection, TENANT, book)
        events = [
            event
            for shard in range(outbox.N_SHARDS)
            for event in await outbox.oldest(connection, shard, limit=1000)
            if event.portfolio_id == book
        ]
    assert (portfolio.version - 1, portfolio.event_sequence) == (len(made), len(events))
    return [len(made), len(reserved), len(events)]
