"""One transaction of the write path: decisions, reservations and events, durable together.

Within the transaction
1. lock the tenant shared (`tenant_lock.py`, in the message that begins it), then groups, then
   portfolios, in sorted order (`locks.py`);
2. compare the versions the decisions were computed from: a stale write conflicts, alone, and one
   that only others' changes have passed does not (`changes.py`);
3. take in the events that ask, each once;
4. claim the request ids, raise the versions and write the numbered events
   (`portfolio_updates.py`): an id that is taken answers with the stored response, byte for byte;
5. insert decisions and reservations.

Callers go through `group_commit.GroupCommitter`, which lets concurrent writes share a transaction.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from storage.crash import crash_point
from storage.errors import DuplicateEvent, NotFound, StorageError, VersionConflict
from storage.postgres import (
    breaches,
    changes,
    decisions,
    high_water_marks,
    inbox,
    locks,
    portfolio_updates,
    requests,
    tenant_lock,
)
from storage.postgres.breaches import NO_CHANGE, BreachChange
from storage.postgres.changes import Since, Subject
from storage.postgres.decisions import Decision
from storage.postgres.locks import Key, LockedPortfolio
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database
from storage.postgres.portfolio_updates import PortfolioUpdate
from storage.postgres.requests import Request, RequestKey
from storage.postgres.reservations import NewReservation


@dataclass(frozen=True, eq=False, slots=True)
class PortfolioWrite:
    """What a request decided for one portfolio, and the versions it was computed from.

    `group_id` and `expected_group_version` are of the group the portfolio is in, None outside one.
    """

    decision: Decision
    expected_version: int
    group_id: str | None = None
    expected_group_version: int | None = None
    reservation: NewReservation | None = None
    events: Sequence[NewEvent] = ()
    breaches: BreachChange = NO_CHANGE
    equity: float | None = None
    """What the decision was computed at, from then on the accepted one; None: that stays."""
    high_water_mark: float | None = None
    """Where equity is above all before; None: the mark stays."""


@dataclass(frozen=True, eq=False, slots=True)
class DecisionWrite:
    """One request with everything it decided: committed as a whole or not at all.

    `expected_tenant_version` covers what changes for more than one portfolio, such as limits of a
    strategy. A later change is a conflict where its subject is among what `reads` says, which is
    asked only then; None: whatever it is.
    `event` is the topic and the id of the event that asks, None for a call.
    """

    tenant_id: str
    request: Request
    portfolios: tuple[PortfolioWrite, ...]
    expected_tenant_version: int
    event: tuple[str, str] | None = None
    reads: Callable[[], Collection[Subject]] | None = None

    def __post_init__(self) -> None:
        ids = [write.decision.portfolio_id for write in self.portfolios]
        if not ids or len(set(ids)) != len(ids):
            raise ValueError(f"one decision for each of one or more portfolios, not {ids}")
        if any(w.decision.request_id != self.request.request_id for w in self.portfolios):
            raise ValueError("a decision names another request")
        if any((w.group_id is None) != (w.expected_group_version is None) for w in self.portfolios):
            raise ValueError("a group and its version come together")

    @property
    def key(self) -> RequestKey:
        """What no two committed writes have in common."""
        return self.tenant_id, self.request.request_id


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The answer to give. `is_replay`: the request was committed before, and nothing new is now."""

    response: bytes
    is_replay: bool


@dataclass(frozen=True, slots=True)
class _Locked:
    groups: Mapping[Key, int]
    portfolios: Mapping[Key, LockedPortfolio]
    since: Since
    """What has changed for the tenant since the oldest of the writes was computed."""


Outcome = CommitResult | StorageError


async def commit_batch(
    database: Database, batch: Sequence[DecisionWrite], *, deadline_s: float
) -> list[Outcome]:
    """Commit writes of a tenant's different requests in one transaction; an outcome each, in order.

    Errors: whatever fails the transaction as a whole; then nothing has been written, except that
    after `Unavailable` one doesn't know.
    """
    tenant_id = batch[0].tenant_id
    if any(write.tenant_id != tenant_id for write in batch):
        raise ValueError("writes of several tenants in one transaction")
    async with database.transaction(
        tenant_id, deadline_s=deadline_s, first_sql=tenant_lock.shared_sql(tenant_id)
    ) as connection:
        locked = await _lock(connection, batch)
        outcomes: dict[RequestKey, Outcome] = {}
        fresh = _check_versions(batch, locked, outcomes)
        crash_point("claim")
        fresh = await _take_in(connection, fresh, outcomes)
        claimed = await _claim_and_move(connection, fresh, locked)
        await _answer_known(connection, [w for w in batch if w.key not in claimed], outcomes)
        await _insert(connection, [w for w in fresh if w.key in claimed], locked)
        crash_point("before_commit")
    crash_point("after_commit")
    return [
        CommitResult(write.request.response, False) if write.key in claimed else outcomes[write.key]
        for write in batch
    ]


async def _lock(connection: asyncpg.Connection, batch: Sequence[DecisionWrite]) -> _Locked:
    writes = [(write.tenant_id, part) for write in batch for part in write.portfolios]
    groups = {(tenant, part.group_id) for tenant, part in writes if part.group_id is not None}
    locked_groups = await locks.lock_groups(connection, groups)
    portfolios = await locks.lock_portfolios(
        connection, {(t, part.decision.portfolio_id) for t, part in writes}
    )
    oldest = min(write.expected_tenant_version for write in batch)
    newest = max((row.tenant_version for row in portfolios.values()), default=oldest)
    since = await changes.since(connection, batch[0].tenant_id, oldest, newest)
    return _Locked(locked_groups, portfolios, since)


def _check_versions(
    batch: Sequence[DecisionWrite], locked: _Locked, outcomes: dict[RequestKey, Outcome]
) -> list[DecisionWrite]:
    """The writes whose snapshot is fresh; the others get a conflict in `outcomes`.

    A row can carry one write of the batch: after it the snapshots of all later ones are stale.
    """
    fresh: list[DecisionWrite] = []
    taken: set[tuple[str, Key]] = set()
    for write in batch:
        rows = {row for part in write.portfolios for row in _rows(write.tenant_id, part)}
        try:
            for part in write.portfolios:
                _check(write, part, locked, taken)
        except (NotFound, VersionConflict) as error:
            outcomes[write.key] = error
        else:
            fresh.append(write)
            taken |= rows
    return fresh


def _rows(tenant_id: str, part: PortfolioWrite) -> list[tuple[str, Key]]:
    rows = [("portfolio", (tenant_id, part.decision.portfolio_id))]
    if part.group_id is not None:
        rows.append(("group", (tenant_id, part.group_id)))
    return rows


def _check(
    write: DecisionWrite, part: PortfolioWrite, locked: _Locked, taken: set[tuple[str, Key]]
) -> None:
    key = (write.tenant_id, part.decision.portfolio_id)
    row = locked.portfolios.get(key)
    if row is None:
        raise NotFound("portfolio", key[1])
    if locked.since.concerns(write.expected_tenant_version, write.reads):
        _compare("tenant", write.tenant_id, write.expected_tenant_version, row.tenant_version)
    _compare(
        "portfolio", key[1], part.expected_version, row.version + (("portfolio", key) in taken)
    )
    if row.group_id != part.group_id:
        raise VersionConflict("portfolio", key[1], part.expected_version, row.version)
    if part.group_id is not None and part.expected_group_version is not None:
        group = (write.tenant_id, part.group_id)
        actual = locked.groups[group] + (("group", group) in taken)
        _compare("group", part.group_id, part.expected_group_version, actual)


def _compare(kind: str, id: str, expected: int, actual: int) -> None:
    if expected != actual:
        raise VersionConflict(kind, id, expected, actual)


async def _take_in(
    connection: asyncpg.Connection,
    writes: Sequence[DecisionWrite],
    outcomes: dict[RequestKey, Outcome],
) -> list[DecisionWrite]:
    """The writes whose events are new, and those of calls; an event counts once in a batch."""
    keys = [(write.tenant_id, *write.event) for write in writes if write.event is not None]
    new = await inbox.receive_many(connection, keys)
    taken: list[DecisionWrite] = []
    for write in writes:
        if write.event is None:
            taken.append(write)
        elif (key := (write.tenant_id, *write.event)) in new:
            new.remove(key)
            taken.append(write)
        else:
            outcomes[write.key] = DuplicateEvent(*write.event)
    return taken


async def _answer_known(
    connection: asyncpg.Connection,
    writes: Sequence[DecisionWrite],
    outcomes: dict[RequestKey, Outcome],
) -> None:
    """Give writes that were committed before their stored answer, rather than a conflict."""
    if not writes:
        return
    known = await requests.find_many(connection, [write.key for write in writes])
    for write in writes:
        if write.key in known:
            outcomes[write.key] = replay(known[write.key], write.request)


def replay(stored: Request, request: Request) -> Outcome:
    """What a request is answered whose id was committed before."""
    try:
        return CommitResult(stored.answer_to(request.method, request.request_hash), True)
    except StorageError as error:
        return error


async def _claim_and_move(
    connection: asyncpg.Connection, writes: Sequence[DecisionWrite], locked: _Locked
) -> set[RequestKey]:
    if not writes:
        return set()
    made = [
        PortfolioUpdate(
            key,
            locked.portfolios[key].event_sequence,
            part.events,
            write.request.request_id,
            part.equity,
        )
        for write in writes
        for part in write.portfolios
        if (key := (write.tenant_id, part.decision.portfolio_id))
    ]
    return await portfolio_updates.apply(
        connection, made, [(w.tenant_id, w.request) for w in writes]
    )


async def _insert(
    connection: asyncpg.Connection, writes: Sequence[DecisionWrite], locked: _Locked
) -> None:
    parts = [(write.tenant_id, part) for write in writes for part in write.portfolios]
    if not parts:
        return
    keys = [(tenant_id, part.decision.portfolio_id) for tenant_id, part in parts]
    last = [locked.portfolios[key].event_sequence for key in keys]
    await decisions.insert_many(
        connection,
        [
            (t, part.decision, last[i] + len(part.events), part.reservation)
            for i, (t, part) in enumerate(parts)
        ],
    )
    await breaches.apply(
        connection,
        [(*keys[i], part.breaches) for i, (_, part) in enumerate(parts) if part.breaches],
    )
    marks = [
        (*keys[i], part.high_water_mark)
        for i, (_, part) in enumerate(parts)
        if part.high_water_mark is not None
    ]
    if marks:
        await high_water_marks.raise_many(connection, marks)
    await locks.bump_groups(
        connection, {(t, p.group_id) for t, p in parts if p.group_id is not None}
    )
