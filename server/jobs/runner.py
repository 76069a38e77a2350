"""Works on jobs: claims one after another, each in a process of its own, and says that it lives.

    runner = JobRunner(database, worker)
    task = asyncio.create_task(runner.run())      # cancelled: the job is given back at once
    runner.wake()                                 # there is a new one

What is known of a job is in the database. A server that dies says nothing more, and after `LEASE`
another one, or the same after its restart, begins the job again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import structlog

from server.calls.errors import Refusal, of_storage
from server.convert.job import died, failure
from server.jobs.worker import Worker, WorkerDiedError
from storage.errors import AlreadyExists, StorageError
from storage.postgres import jobs
from storage.postgres.jobs import ATTEMPTS_MAX, StoredJob
from storage.postgres.pool import Database
from storage.postgres.tenancy import ALL_TENANTS

_log = structlog.get_logger(__name__)

NICE = 19
"""Jobs give way to everything else."""
POLL_S = 2.0
BEAT_S = 1.0
LEASE = timedelta(seconds=30)
_DEADLINE_S = 5.0

Ending = Callable[[Any, StoredJob, bytes], Awaitable[bytes]]
"""Stores what came of the work, in the transaction that ends its job: connection, job and what the
worker answered to the answer of the job. May raise `AlreadyExists`."""


class JobRunner:
    """One job at a time for a server; several servers share the jobs of a database."""

    def __init__(
        self,
        database: Database,
        worker: Worker,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        endings: Mapping[str, Ending] | None = None,
    ) -> None:
        """worker: of its own, as other long work must not wait for jobs.

        endings: by method, of those whose answers are stored elsewhere, too.
        """
        self._database, self._worker, self._clock = database, worker, clock
        self._endings = endings or {}
        self._woken = asyncio.Event()
        self._progress: float | None = None

    def wake(self) -> None:
        """There may be a job."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled. What fails is logged, and tried again."""
        while True:
            try:
                while await self.run_next():
                    pass
            except StorageError as error:
                _log.warning("jobs are put off", error=str(error))
            except Exception as error:  # a bug of ours must not end all jobs
                _log.error("a job failed", exc_info=error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), POLL_S)
            self._woken.clear()

    async def run_next(self) -> bool:
        """Works on the oldest job that nobody works on; False where there is none."""
        async with self._database.connection(ALL_TENANTS, deadline_s=_DEADLINE_S) as connection:
            tenants = await jobs.tenants_waiting(connection, self._clock())
        for tenant_id in tenants:
            claim_id = uuid4()
            now = self._clock()
            async with self._database.transaction(tenant_id, deadline_s=_DEADLINE_S) as connection:
                claimed = await jobs.claim(
                    connection,
                    tenant_id,
                    claim_id,
                    now=now,
                    until=now + LEASE,
                    failure=failure(died(ATTEMPTS_MAX)),
                )
            if claimed is not None:
                await self._work(*claimed, claim_id)
                return True
        return False

    async def _work(self, job: StoredJob, request: bytes, claim_id: UUID) -> None:
        self._progress = None
        work = asyncio.create_task(self._worker.work(job.method, request, self._heard))
        try:
            if not await self._watched(job, claim_id, work):
                return
            await self._finished(job, claim_id, work)
        finally:
            if not work.done():  # this server stops: somebody else goes on at once
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                await asyncio.shield(self._give_back(job, claim_id, counts=False))

    def _heard(self, part: float) -> None:
        self._progress = part

    async def _watched(self, job: StoredJob, claim_id: UUID, work: "asyncio.Task[bytes]") -> bool:
        """Waits for the work; False where it was ended because nobody wants it any more."""
        while True:
            done, _ = await asyncio.wait([work], timeout=BEAT_S)
            if done:
                return True
            try:
                beat = await self._beat(job, claim_id)
            except StorageError as error:
                _log.warning("a job can't say that it lives", job=job.job_id, error=str(error))
                continue
            if beat.is_mine and not beat.is_cancelled:
                continue
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            if beat.is_mine:
                await self._finish(job, claim_id, "CANCELLED")
            return False

    async def _finished(self, job: StoredJob, claim_id: UUID, work: "asyncio.Task[bytes]") -> None:
        try:
            answer = work.result()
        except Refusal as refusal:
            await self._finish(job, claim_id, "FAILED", why=refusal)
        except WorkerDiedError:
            if job.attempts < ATTEMPTS_MAX:
                _log.warning("a job is begun again", job=job.job_id, attempts=job.attempts)
                await self._give_back(job, claim_id, counts=True)
            else:
                await self._finish(job, claim_id, "FAILED", why=died(job.attempts))
        else:
            await self._finish(job, claim_id, "SUCCEEDED", answer=answer)

    async def _beat(self, job: StoredJob, claim_id: UUID) -> jobs.Beat:
        async with self._database.connection(job.tenant_id, deadline_s=_DEADLINE_S) as connection:
            return await jobs.beat(
                connection,
                job,
                claim_id,
                until=self._clock() + LEASE,
                progress=self._progress,
            )

    async def _finish(
        self,
        job: StoredJob,
        claim_id: UUID,
        state: str,
        *,
        answer: bytes | None = None,
        why: Refusal | None = None,
    ) -> None:
        """Stores how it ended; where the database is away, again, while the claim is ours."""
        told = None if why is None else failure(why)
        for attempt in range(int(LEASE.total_seconds())):
            try:
                await self._store(job, claim_id, state, answer, told)
            except AlreadyExists as error:  # of what it made; that is stored next
                state, answer, told = "FAILED", None, failure(of_storage(error))
            except StorageError as error:
                _log.warning("the end of a job waits", job=job.job_id, error=str(error))
                await asyncio.sleep(min(attempt + 1.0, 5.0))
            else:
                _log.info("a job is over", job=job.job_id, state=state)
                return

    async def _store(
        self, job: StoredJob, claim_id: UUID, state: str, answer: bytes | None, told: str | None
    ) -> None:
        """The end of a job and what came of it: both, or, where the claim is lost, neither."""
        async with self._database.transaction(job.tenant_id, deadline_s=_DEADLINE_S) as connection:
            ending = self._endings.get(job.method)
            if answer is not None and ending is not None:
                if not await jobs.is_claimed(connection, job, claim_id):
                    return
                answer = await ending(connection, job, answer)
            await jobs.finish(connection, job, claim_id, state, answer=answer, failure=told)

    async def _give_back(self, job: StoredJob, claim_id: UUID, *, counts: bool) -> None:
        with contextlib.suppress(StorageError):  # its claim runs out
            async with self._database.connection(
                job.tenant_id, deadline_s=_DEADLINE_S
            ) as connection:
                await jobs.give_back(connection, job, claim_id, counts=counts)
