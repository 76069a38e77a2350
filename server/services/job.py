"""JobService: long work that outlives the call that asks for it."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import grpc
from google.protobuf.message import Message
from positionsizing.v1 import job_service_pb2 as pb

from server.auth.access import PARAMETERS_WRITE, denied
from server.calls.errors import Refusal, invalid_fields
from server.calls.request_context import Call
from server.convert import job as convert
from server.convert.names import checked_id, optional_id
from server.convert.ranges import number_violations
from server.jobs.runner import JobRunner
from server.services.learning import LearningService
from server.services.simulation import SimulationService
from storage.postgres import jobs
from storage.postgres.pool import Database

OPEN_MAX = 100
"""Jobs of a tenant that may wait or run at once."""
LISTED_DEFAULT = 100
WATCHERS_MAX = 64
POLL_S = 0.5
"""A job that is watched is looked at so often."""


class JobService:
    """See `protos/positionsizing/v1/job_service.proto`."""

    def __init__(
        self,
        database: Database,
        simulation: SimulationService,
        learning: LearningService,
        runner: JobRunner,
    ) -> None:
        self._database, self._runner = database, runner
        self._simulation, self._learning = simulation, learning
        self._watchers = 0

    async def start_job(self, call: Call, request: pb.StartJobRequest) -> pb.StartJobResponse:
        """Checks the work as a call of its method would be, and queues it."""
        optional_id(request.job_id, "job_id")
        if found := list(convert.start_violations(request)):
            raise invalid_fields(found)
        field = str(request.WhichOneof("work"))
        try:
            work = await self._ready(call, request, field)
        except Refusal as refusal:
            raise refusal.within(f"{field}.") from refusal
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            stored = await jobs.add(
                connection,
                call.tenant_id,
                request.job_id or str(uuid4()),
                method=convert.METHODS[field],
                request=work.SerializeToString(deterministic=True),
                about=request.about,
                author=call.author,
            )
            await _check_open(connection, call)
        self._runner.wake()
        return pb.StartJobResponse(job=convert.message(stored))

    async def _ready(self, call: Call, request: pb.StartJobRequest, field: str) -> Message:
        """The work, checked, with all that it reads in it. Raises `Refusal`."""
        if field != "train_model":
            return await self._simulation.ready(call, getattr(request, field))
        _check_may_train(call)
        return await self._learning.ready(call, request.train_model)

    async def get_job(self, call: Call, request: pb.GetJobRequest) -> pb.GetJobResponse:
        """A job with its result."""
        job_id = checked_id(request.job_id, "job_id")
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            stored = await jobs.get(connection, call.tenant_id, job_id)
            answer = await jobs.answer(connection, call.tenant_id, job_id)
        return await asyncio.to_thread(convert.with_answer, stored, answer)

    async def list_jobs(self, call: Call, request: pb.ListJobsRequest) -> pb.ListJobsResponse:
        """The newest jobs."""
        if found := [*number_violations(request), *convert.list_violations(request)]:
            raise invalid_fields(found)
        limit = request.limit if request.HasField("limit") else LISTED_DEFAULT
        states = list(convert.states_of(request))
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await jobs.of_tenant(connection, call.tenant_id, states, limit)
        return pb.ListJobsResponse(jobs=map(convert.message, rows))

    async def watch_job(
        self, call: Call, request: pb.WatchJobRequest
    ) -> AsyncIterator[pb.WatchJobResponse | None]:
        """The job whenever it has changed, None where it has not."""
        job_id = checked_id(request.job_id, "job_id")
        if self._watchers >= WATCHERS_MAX:
            text = f"{WATCHERS_MAX} jobs are watched already; ask with GetJob"
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            raise Refusal(code, "BUSY", text, retry_after_s=5.0)
        self._watchers += 1
        try:
            before = None
            while True:
                async with self._database.connection(
                    call.tenant_id, deadline_s=call.left_s
                ) as connection:
                    stored = await jobs.get(connection, call.tenant_id, job_id)
                if stored == before:
                    yield None
                else:
                    yield pb.WatchJobResponse(job=convert.message(stored))
                if stored.is_over:
                    return
                before = stored
                await asyncio.sleep(POLL_S)
        finally:
            self._watchers -= 1

    async def cancel_job(self, call: Call, request: pb.CancelJobRequest) -> pb.CancelJobResponse:
        """Ends a job that waits, and asks for the end of one that runs."""
        job_id = checked_id(request.job_id, "job_id")
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            stored = await jobs.cancel(connection, call.tenant_id, job_id)
        return pb.CancelJobResponse(job=convert.message(stored))

    async def resume_job(self, call: Call, request: pb.ResumeJobRequest) -> pb.ResumeJobResponse:
        """Queues a job again that was cancelled or has failed."""
        job_id = checked_id(request.job_id, "job_id")
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            stored = await jobs.get(connection, call.tenant_id, job_id)
            if stored.method == convert.METHODS["train_model"]:
                _check_may_train(call)
            stored = await jobs.resume(connection, call.tenant_id, job_id)
            await _check_open(connection, call)
        self._runner.wake()
        return pb.ResumeJobResponse(job=convert.message(stored))


def _check_may_train(call: Call) -> None:
    """Raises `Refusal` where the caller may not call TrainModel itself."""
    if PARAMETERS_WRITE not in call.identity.scopes:
        raise denied(PARAMETERS_WRITE)


async def _check_open(connection: asyncpg.Connection, call: Call) -> None:
    """Raises `Refusal` where too many jobs wait."""
    if await jobs.n_open(connection, call.tenant_id) > OPEN_MAX:
        text = f"{OPEN_MAX} jobs wait or run already"
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
        raise Refusal(code, "BUSY", text, retry_after_s=60.0)
