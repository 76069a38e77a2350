"""The write path of a decision: concurrent writes share a transaction, one flush to disk for many.

Whatever arrives while one transaction commits goes into the next: no timer, and no added wait where
there is no load. One write never harms another: a stale one conflicts alone, and a transaction that
fails for its content is repeated write by write. A transaction is of one tenant (`tenancy.py`);
tenants take turns, so that one with many writes doesn't keep the others waiting.

A write whose caller has gone is dropped if its turn has not come, else it is committed as a whole.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import replace

import asyncpg

from storage.errors import Contended, DeadlineExceeded, InvalidContent, Unavailable
from storage.postgres.commit import (
    CommitResult,
    DecisionWrite,
    commit_batch,
    replay,
)
from storage.postgres.pool import Database
from storage.postgres.requests import RequestKey

_Waiting = tuple[DecisionWrite, "asyncio.Future[CommitResult]"]


class GroupCommitter:
    """Commits writes in shared transactions of at most `n_batch_max`, `n_lanes` at a time.

    Usage: `result = await committer.commit(write, deadline_s=0.2)`. More than one lane, so that a
    row locked elsewhere doesn't hold up everyone; few, so that writes still come together.
    """

    def __init__(
        self,
        database: Database,
        *,
        n_batch_max: int = 64,
        n_lanes: int = 2,
        n_waiting_max: int = 4096,
        transaction_deadline_s: float = 5.0,
    ) -> None:
        self._database = database
        self._n_batch_max = n_batch_max
        self._n_lanes = n_lanes
        self._n_waiting_max = n_waiting_max
        self._transaction_deadline_s = transaction_deadline_s
        self._waiting: OrderedDict[str, deque[_Waiting]] = OrderedDict()  # by tenant, next first
        self._lanes: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.n_transactions = 0

    @property
    def n_waiting(self) -> int:
        """Writes whose turn has not come."""
        return sum(map(len, self._waiting.values()))

    async def commit(self, write: DecisionWrite, *, deadline_s: float) -> CommitResult:
        """Make a write durable and return the answer to give: this one's, or the stored one.

        Errors: `VersionConflict`, `RequestIdReused`, `NotFound`, `InvalidContent`: nothing was
        written. `DeadlineExceeded`, `Unavailable`: it may have been, and only a repetition under
        the same request id tells.
        """
        if self._is_closed:
            raise Unavailable("the service is shutting down")
        if self.n_waiting >= self._n_waiting_max:
            raise Unavailable(f"{self.n_waiting} writes wait already")
        future: asyncio.Future[CommitResult] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(write.tenant_id, deque()).append((write, future))
        if len(self._lanes) < self._n_lanes:
            self._lanes.add(asyncio.create_task(self._run(), name="group-commit"))
        try:
            async with asyncio.timeout(deadline_s):
                return await future
        except TimeoutError as error:
            raise DeadlineExceeded(f"the commit took longer than {deadline_s:.3f} s") from error

    async def aclose(self) -> None:
        """Take no more writes and finish those that wait."""
        self._is_closed = True
        await asyncio.gather(*self._lanes)

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._take()
                outcomes = await self._outcomes([copies[0][0] for copies in batch])
                for copies, outcome in zip(batch, outcomes, strict=True):
                    _answer(copies, outcome)
        finally:  # in the same step as the look at the queue, or a write could find no lane
            self._lanes -= {asyncio.current_task()}

    def _take(self) -> list[list[_Waiting]]:
        """The next writes of the tenant whose turn it is, copies of one request together.

        Those whose caller has gone are dropped.
        """
        taken: dict[RequestKey, list[_Waiting]] = {}
        tenant_id, waiting = self._waiting.popitem(last=False)
        while waiting and len(taken) < self._n_batch_max:
            write, future = waiting.popleft()
            if not future.done():
                taken.setdefault(write.key, []).append((write, future))
        if waiting:
            self._waiting[tenant_id] = waiting
        return list(taken.values())

    async def _outcomes(self, batch: Sequence[DecisionWrite]) -> list[CommitResult | Exception]:
        """Commit together, or one by one if the content or a lock of one fails them all."""
        if not batch:
            return []
        self.n_transactions += 1
        try:
            return [
                *await commit_batch(self._database, batch, deadline_s=self._transaction_deadline_s)
            ]
        except Exception as error:
            is_everyones = isinstance(error, Unavailable) and not isinstance(error, Contended)
            if is_everyones or len(batch) == 1:
                return [_explained(error)] * len(batch)
        alone = await asyncio.gather(*(self._outcomes([write]) for write in batch))
        return [outcome for outcomes in alone for outcome in outcomes]


def _answer(copies: list[_Waiting], outcome: CommitResult | Exception) -> None:
    first = copies[0][0].request
    for i, (write, future) in enumerate(copies):
        answer = outcome
        if i > 0 and isinstance(outcome, CommitResult):
            answer = replay(replace(first, response=outcome.response), write.request)
        if future.done():  # its caller has gone
            continue
        if isinstance(answer, CommitResult):
            future.set_result(answer)
        else:
            future.set_exception(answer)


def _explained(error: Exception) -> Exception:
    """Errors of content by our name; a bug, such as a payload that can't be built, as it is."""
    if isinstance(error, asyncpg.DataError | asyncpg.IntegrityConstraintViolationError):
        explained = InvalidContent(str(error))
        explained.__cause__ = error
        return explained
    return error
