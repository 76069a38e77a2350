"""The write path: whole or not at all, once for a request id, never from a stale snapshot."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from typing import NamedTuple
from uuid import uuid4

import pytest
import pytest_asyncio

from storage.errors import (
    DeadlineExceeded,
    DuplicateEvent,
    InvalidContent,
    NotFound,
    RequestIdReused,
    Unavailable,
    VersionConflict,
)
from storage.postgres import decisions, groups, limits, outbox, portfolios, requests, reservations
from storage.postgres.commit import CommitResult, DecisionWrite
from storage.postgres.decisions import DecisionFilter
from storage.postgres.group_commit import GroupCommitter
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database
from storage.postgres.scopes import TENANT_SCOPE
from tests.fixtures_postgres import TENANT
from tests.storage.postgres.writes import (
    create_portfolio,
    instruments,
    make_event,
    make_part,
    make_request,
    make_write,
    make_write_of,
)

_names = (f"book{i}" for i in count())


@pytest_asyncio.fixture
async def committer(database: Database) -> AsyncIterator[GroupCommitter]:
    committer = GroupCommitter(database)
    yield committer
    await committer.aclose()


@pytest_asyncio.fixture
async def book(database: Database) -> str:
    return await create(database)


async def create(database: Database, group_id: str | None = None) -> str:
    name = next(_names)
    async with database.transaction(TENANT, deadline_s=5) as connection:
        await create_portfolio(connection, name, group_id)
    return name


async def portfolio(database: Database, portfolio_id: str) -> portfolios.Portfolio:
    async with database.connection(TENANT, deadline_s=5) as connection:
        return await portfolios.get(connection, TENANT, portfolio_id)


async def tenant_version(database: Database) -> int:
    async with database.connection(TENANT, deadline_s=5) as connection:
        return int(await connection.fetchval("SELECT version FROM tenant WHERE tenant_id='acme'"))


async def n_decisions(database: Database, *portfolio_ids: str) -> int:
    async with database.connection(TENANT, deadline_s=5) as connection:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM decision WHERE portfolio_id = ANY($1::text[])", portfolio_ids
            )
        )


async def commit(
    committer: GroupCommitter, *writes: DecisionWrite
) -> list[CommitResult | BaseException]:
    return await asyncio.gather(
        *(committer.commit(write, deadline_s=30) for write in writes), return_exceptions=True
    )


async def test_a_committed_decision_is_read_back_whole(
    database: Database, committer: GroupCommitter, book: str
) -> None:
    write = make_write(book, n_lines=5, n_events=2, inputs=bytes(range(256)))
    result = await committer.commit(write, deadline_s=5)
    assert result == CommitResult(write.request.response, is_replay=False)
    sent = write.portfolios[0].decision
    async with database.connection(TENANT, deadline_s=5) as connection:
        stored = await decisions.get(connection, TENANT, sent.decision_id)
        reserved = await reservations.get(connection, TENANT, sent.decision_id)
        request = await requests.get(connection, TENANT, write.request.request_id)
        lines = await connection.fetch(
            "SELECT * FROM decision_line WHERE decision_id = $1 ORDER BY number", sent.decision_id
        )
    assert request == write.request
    assert stored.portfolio_sequence == 2
    for name in ("kind", "portfolio_id", "strategy_id", "create_time", "status", "inputs"):
        assert getattr(stored, name) == getattr(sent, name), name
    assert stored.versions == sent.versions
    for name in ("lots", "weight", "notional", "price", "status"):
        assert getattr(stored.lines, name).tolist() == getattr(sent.lines, name).tolist(), name
    assert [line["instrument_id"] for line in lines] == list(instruments(5))
    assert [line["lots"] for line in lines] == [1, 2, 3, 4, 5]
    assert reserved.trade_lots_open.tolist() == [1, 2, 3, 4, 5]
    assert reserved.state == "OPEN"
    assert (await portfolio(database, book)).version == 2


async def test_events_are_numbered_without_a_gap_and_know_their_number(
    database: Database, committer: GroupCommitter, book: str
) -> None:
    for version, n_events in ((1, 2), (2, 0), (3, 3)):
        await committer.commit(make_write(book, version, n_events=n_events), deadline_s=5)
    async with database.connection(TENANT, deadline_s=5) as connection:
        events = [
            event
            for shard in range(outbox.N_SHARDS)
            for event in await outbox.oldest(connection, shard, limit=10_000)
            if event.portfolio_id == book
        ]
    assert [event.portfolio_sequence for event in events] == [1, 2, 3, 4, 5]
    assert [event.payload for event in events] == [b"event %d" % i for i in range(1, 6)]
    assert (await portfolio(database, book)).event_sequence == 5


async def test_64_identical_requests_make_one_decision_and_get_one_answer(
    database: Database, book: str
) -> None:
    request = make_request()
    committers = [GroupCommitter(database, n_batch_max=8) for _ in range(4)]  # as 4 replicas would
    results = await asyncio.gather(
        *(
            committers[i % 4].commit(make_write(book, request=request), deadline_s=30)
            for i in range(64)
        )
    )
    assert {result.response for result in results} == {request.response}
    assert sum(not result.is_replay for result in results) == 1
    assert await n_decisions(database, book) == 1


async def test_a_repeated_request_is_answered_although_its_snapshot_is_old(
    database: Database, committer: GroupCommitter, book: str
) -> None:
    write = make_write(book)
    await committer.commit(write, deadline_s=5)
    assert await committer.commit(write, deadline_s=5) == CommitResult(
        write.request.response, is_replay=True
    )


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_request_id_with_other_content_is_refused(
    database: Database, committer: GroupCommitter, book: str, at_once: bool
) -> None:
    first = make_request(b"one")
    other = make_request(b"two", first.request_id)
    writes = [make_write(book, request=first), make_write(book, request=other)]
    if at_once:
        done, refused = await commit(committer, *writes)
    else:
        [done], [refused] = [await commit(committer, write) for write in writes]
    assert done == CommitResult(first.response, is_replay=False)
    assert isinstance(refused, RequestIdReused)
    assert await n_decisions(database, book) == 1


async def test_of_two_writes_from_one_snapshot_one_conflicts_and_others_go_on(
    database: Database, committer: GroupCommitter, book: str
) -> None:
    other = await create(database)
    outcomes = await commit(committer, make_write(book), make_write(book), make_write(other))
    assert [type(outcome) for outcome in outcomes] == [CommitResult, VersionConflict, CommitResult]
    conflict = outcomes[1]
    assert isinstance(conflict, VersionConflict)
    assert (conflict.kind, conflict.expected, conflict.actual) == ("portfolio", 1, 2)
    assert committer.n_transactions == 1


async def test_no_two_processes_commit_from_the_same_version(database: Database) -> None:
    """40 writers on 4 portfolios, each retrying with what it then reads: all versions used once."""
    books = [await create(database) for _ in range(4)]
    committers = [GroupCommitter(database, n_batch_max=3) for _ in range(4)]
    used: list[tuple[str, int]] = []
    n_conflicts = 0

    async def writer(i: int) -> None:
        nonlocal n_conflicts
        book = books[i % 4]
        for _ in range(60):
            version = (await portfolio(database, book)).version
            try:
                await committers[i // 4 % 4].commit(make_write(book, version), deadline_s=30)
            except VersionConflict:
                n_conflicts += 1
            else:
                used.append((book, version))
                return
        raise AssertionError("never got through")

    await asyncio.gather(*(writer(i) for i in range(40)))
    assert sorted(used) == [(book, version) for book in sorted(books) for version in range(1, 11)]
    assert n_conflicts > 0, "the test was to be one of contention"
    assert [(await portfolio(database, book)).event_sequence for book in books] == [10] * 4
    assert await n_decisions(database, *books) == 40


async def test_members_of_a_group_cannot_spend_its_limit_from_the_same_version(
    database: Database, committer: GroupCommitter
) -> None:
    async with database.transaction(TENANT, deadline_s=5) as connection:
        await groups.create(connection, TENANT, "firm", "Firm")
    one, two = await create(database, "firm"), await create(database, "firm")
    outcomes = await commit(
        committer, make_write(one, group=("firm", 1)), make_write(two, group=("firm", 1))
    )
    assert [type(outcome) for outcome in outcomes] == [CommitResult, VersionConflict]
    [outcome] = await commit(committer, make_write(two, group=("firm", 2)))
    assert isinstance(outcome, CommitResult)
    [outcome] = await commit(committer, make_write(one, 2))
    assert isinstance(outcome, VersionConflict), "a write that ignores the group"
    async with database.connection(TENANT, deadline_s=5) as connection:
        assert (await groups.get(connection, TENANT, "firm")).version == 3


async def test_several_portfolios_of_a_request_are_committed_together_or_not_at_all(
    database: Database, committer: GroupCommitter
) -> None:
    one, two = await create(database), await create(database)
    request = make_request()
    parts = [make_part(request, one, 1), make_part(request, two, 99)]
    [outcome] = await commit(committer, make_write_of(request, parts))
    assert isinstance(outcome, VersionConflict)
    assert await n_decisions(database, one, two) == 0
    parts = [make_part(request, one, 1), make_part(request, two, 1)]
    [outcome] = await commit(committer, make_write_of(request, parts))
    assert isinstance(outcome, CommitResult)
    async with database.connection(TENANT, deadline_s=5) as connection:
        made = await decisions.of_request(connection, TENANT, request.request_id)
    assert [summary.portfolio_id for summary in made] == sorted([one, two])


async def test_a_change_of_the_tenants_limits_stops_what_was_computed_before(
    database: Database, committer: GroupCommitter, book: str
) -> None:
    async with database.transaction(TENANT, deadline_s=5) as connection:
        await limits.put(connection, TENANT, TENANT_SCOPE, {}, author="risk", reason="less")
    version = await tenant_version(database)
    stale, fresh = (make_write(book, tenant_version=v) for v in (version - 1, version))
    [outcome] = await commit(committer, stale)
    assert isinstance(outcome, VersionConflict)
    assert outcome.kind == "tenant"
    [outcome] = await commit(committer, fresh)
    assert isinstance(outcome, CommitResult)


async def test_a_write_the_database_cannot_hold_fails_alone(
    database: Database, committer: GroupCommitter, book: str
) -> None:
    version = await tenant_version(database)
    others = [await create(database) for _ in range(3)]

    def fails(sequence: int) -> bytes:
        raise RuntimeError("cannot build the payload")

    too_big = make_write(book, tenant_version=version)
    too_big.portfolios[0].decision.lines.status[1] = 2**15
    broken = make_write(await create(database), tenant_version=version)
    broken.portfolios[0].events.append(NewEvent("topic", "Type", fails))
    outcomes = await commit(
        committer,
        make_write(others[0], tenant_version=version),
        too_big,
        make_write(others[1], tenant_version=version),
        broken,
        make_write("nowhere", tenant_version=version),
        make_write(others[2], tenant_version=version),
    )
    assert [type(outcome) for outcome in outcomes] == [
        CommitResult,
        InvalidContent,
        CommitResult,
        RuntimeError,
        NotFound,
        CommitResult,
    ]
    assert await n_decisions(database, book) == 0
    assert await n_decisions(database, *others) == 3


async def test_a_cancelled_caller_harms_nobody_and_its_write_is_whole_or_absent(
    database: Database, committer: GroupCommitter
) -> None:
    version = await tenant_version(database)
    books = [await create(database) for _ in range(30)]
    writes = [make_write(book, tenant_version=version) for book in books]
    tasks = [asyncio.create_task(committer.commit(w, deadline_s=30)) for w in writes]
    for i, task in enumerate(tasks):
        if i % 3 == 0:
            await asyncio.sleep(0)
            task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for book, write, result in zip(books, writes, results, strict=True):
        whole = await n_decisions(database, book) == 1
        assert whole or isinstance(result, asyncio.CancelledError)
        row = await portfolio(database, book)
        assert (row.version, row.event_sequence) == ((2, 1) if whole else (1, 0))
        again = await committer.commit(write, deadline_s=5)
        assert again == CommitResult(write.request.response, is_replay=whole)


async def test_concurrent_writes_share_transactions(
    database: Database, committer: GroupCommitter
) -> None:
    version = await tenant_version(database)
    books = [await create(database) for _ in range(64)]
    outcomes = await commit(committer, *(make_write(b, tenant_version=version) for b in books))
    assert all(isinstance(outcome, CommitResult) for outcome in outcomes)
    assert committer.n_transactions == 1
    assert committer.n_waiting == 0


async def test_writes_that_share_a_transaction_share_its_flush_to_disk(
    database: Database, committer: GroupCommitter
) -> None:
    """Counted by the server itself: how often it has synced its log."""
    version = await tenant_version(database)
    books = [await create(database) for _ in range(64)]
    before = await n_flushes(database)
    while before.by_sessions != (now := await n_flushes(database)).by_sessions:
        before = now  # sessions still tell of the syncs of the 64 books
    await commit(committer, *(make_write(book, tenant_version=version) for book in books))
    middle = await n_flushes(database)
    for book in books:
        await committer.commit(make_write(book, 2, tenant_version=version), deadline_s=30)
    after = await n_flushes(database)
    together, alone = middle.by_sessions - before.by_sessions, after.by_all - middle.by_all
    assert alone >= 64
    assert together <= 8, f"64 writes at once took {together} flushes, one by one {alone}"


class Flushes(NamedTuple):
    """Syncs of the write-ahead log so far. The log's own writer syncs besides, by the clock."""

    by_sessions: int
    by_all: int


async def n_flushes(database: Database) -> Flushes:
    """Waits for the sessions to have told of theirs."""
    async with database.connection(TENANT, deadline_s=30) as connection:
        await asyncio.sleep(1.5)
        if await connection.fetchval("SHOW server_version_num") < "180000":
            every = int(await connection.fetchval("SELECT wal_sync FROM pg_stat_wal"))
            return Flushes(every, every)
        row = await connection.fetchrow(
            """SELECT sum(fsyncs) FILTER (WHERE backend_type = 'client backend') AS by_sessions,
                sum(fsyncs) AS by_all FROM pg_stat_io WHERE object = 'wal'"""
        )
        return Flushes(int(row["by_sessions"]), int(row["by_all"]))


async def test_an_event_asks_once_whoever_brings_it_again(
    database: Database, committer: GroupCommitter
) -> None:
    """In one batch or another, by the same request or another; what it did is not done again."""
    version = await tenant_version(database)
    books = [await create(database) for _ in range(3)]
    event = ("signals", str(uuid4()))
    writes = [make_write(book, tenant_version=version) for book in books]
    asked = [replace(write, event=event) for write in writes[:2]]
    outcomes = await commit(committer, *asked, writes[2])
    kinds = [type(outcome) for outcome in outcomes]
    assert sorted(kinds[:2], key=str) == sorted([CommitResult, DuplicateEvent], key=str)
    assert kinds[2] is CommitResult
    done = asked[kinds.index(CommitResult)]
    assert await n_decisions(database, *books[:2]) == 1

    (again,) = await commit(committer, done)
    assert again == CommitResult(done.request.response, is_replay=True)
    name = done.portfolios[0].decision.portfolio_id
    other = replace(make_write(name, 2, tenant_version=version), event=event)
    (refused,) = await commit(committer, other)
    assert isinstance(refused, DuplicateEvent)
    assert await n_decisions(database, *books[:2]) == 1
    stale = make_write(name, 1, tenant_version=version)
    (conflict,) = await commit(committer, replace(stale, event=("signals", str(uuid4()))))
    assert isinstance(conflict, VersionConflict)
    async with database.connection(TENANT, deadline_s=5) as connection:
        n_received = await connection.fetchval("SELECT count(*) FROM inbox")
    assert n_received == 1, "an event whose write conflicts has not been taken in"


async def test_a_locked_portfolio_delays_only_its_own_writes(
    database: Database, committer: GroupCommitter, book: str
) -> None:
    version = await tenant_version(database)
    other = await create(database)
    async with database.transaction(TENANT, deadline_s=10) as connection:
        await connection.execute("SELECT 1 FROM portfolio WHERE portfolio_id=$1 FOR UPDATE", book)
        blocked = asyncio.create_task(
            committer.commit(make_write(book, tenant_version=version), deadline_s=10)
        )
        await asyncio.sleep(0.05)
        [done] = await commit(committer, make_write(other, tenant_version=version))
        assert isinstance(done, CommitResult)
        with pytest.raises(Unavailable, match="lock timeout"):
            await blocked


async def test_a_deadline_ends_the_wait_and_a_repetition_finds_the_answer(
    database: Database, committer: GroupCommitter, book: str
) -> None:
    write = make_write(book, tenant_version=await tenant_version(database))
    async with database.transaction(TENANT, deadline_s=10) as connection:
        await connection.execute("SELECT 1 FROM portfolio WHERE portfolio_id=$1 FOR UPDATE", book)
        with pytest.raises(DeadlineExceeded):
            await committer.commit(write, deadline_s=0.05)
    # The first may be written after its caller has gone, or not at all: dropped, or out of locks.
    again = await committer.commit(write, deadline_s=5)
    assert again.response == write.request.response
    assert await n_decisions(database, book) == 1
    assert await committer.commit(write, deadline_s=5) == replace(again, is_replay=True)


async def test_a_closed_committer_finishes_what_waits_and_takes_no_more(
    database: Database, book: str
) -> None:
    committer = GroupCommitter(database)
    write = make_write(book, tenant_version=await tenant_version(database))
    task = asyncio.create_task(committer.commit(write, deadline_s=5))
    await asyncio.sleep(0)
    await committer.aclose()
    assert not (await task).is_replay
    with pytest.raises(Unavailable, match="shutting down"):
        await committer.commit(make_write(book), deadline_s=5)


async def test_a_write_that_makes_no_sense_is_refused_at_once() -> None:
    request = make_request()
    part = make_part(request, "book")
    with pytest.raises(ValueError, match="one decision for each"):
        make_write_of(request, [part, part])
    with pytest.raises(ValueError, match="names another request"):
        make_write_of(make_request(), [part])


async def test_decisions_are_listed_newest_first_page_by_page(
    database: Database, committer: GroupCommitter, book: str
) -> None:
    version = await tenant_version(database)
    writes = [make_write(book, i, tenant_version=version) for i in range(1, 8)]
    for write in writes:
        await committer.commit(write, deadline_s=5)
    ids = [write.portfolios[0].decision.decision_id for write in writes][::-1]
    where = DecisionFilter(portfolio_id=book, strategy_id="trend", status="OPTIMAL")
    async with database.connection(TENANT, deadline_s=5) as connection:
        seen, after = [], None
        while page := await decisions.list_page(connection, TENANT, where, after=after, limit=3):
            seen += page
            after = (page[-1].create_time, page[-1].decision_id)
        oldest = writes[0].portfolios[0].decision.create_time
        at_start = DecisionFilter(portfolio_id=book, start_time=oldest)
        before = DecisionFilter(portfolio_id=book, end_time=oldest)
        assert len(await decisions.list_page(connection, TENANT, at_start)) == 7
        assert await decisions.list_page(connection, TENANT, before) == []
        with pytest.raises(NotFound):
            await decisions.get(connection, TENANT, uuid4())
        with pytest.raises(NotFound):
            await decisions.get(connection, "rival", ids[0])
    assert [summary.decision_id for summary in seen] == ids
    assert {summary.n_lines for summary in seen} == {3}


async def test_events_outside_decisions_go_on_from_the_same_numbers(
    database: Database, committer: GroupCommitter, book: str
) -> None:
    version = await tenant_version(database)
    await committer.commit(make_write(book, tenant_version=version, n_events=2), deadline_s=5)
    async with database.transaction(TENANT, deadline_s=5) as connection:
        await outbox.append(connection, TENANT, book, [make_event(), make_event()])
        await outbox.append(connection, TENANT, "", [make_event()])
        await outbox.append(connection, TENANT, "", [make_event()])
        with pytest.raises(NotFound):
            await outbox.append(connection, TENANT, "nowhere", [make_event()])
        sequences = await connection.fetch(
            """SELECT portfolio_id, array_agg(portfolio_sequence ORDER BY position) AS sequence
            FROM outbox WHERE portfolio_id IN ('', $1) GROUP BY 1 ORDER BY 1""",
            book,
        )
    assert [row["sequence"] for row in sequences] == [[1, 2], [1, 2, 3, 4]]
