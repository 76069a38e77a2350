"""Long work that goes on without its caller: watched, cancelled, and taken up again."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import grpc
import pytest
import pytest_asyncio
from positionsizing.v1 import job_service_pb2 as pb
from positionsizing.v1 import simulation_service_pb2 as simulation

from compute.shapes import KernelRegistry
from server.app import App
from storage import embedded
from tests.fixtures_postgres import create_database
from tests.server.simulation.test_backtests import LONG_S, momentum, table
from tests.server.support.service_client import Client, new_id, refusal, refusal_of, started

QUEUED, RUNNING = pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING
SUCCEEDED, FAILED = pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED
CANCELLED = pb.JOB_STATE_CANCELLED


@pytest_asyncio.fixture(scope="module")
async def jobs_app(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[App]:
    """An app of its own: its jobs wait for no other test's."""
    async with started(postgres_server, kernels, tmp_path_factory.mktemp("jobs")) as app:
        yield app


@pytest_asyncio.fixture(scope="module")
async def firm(jobs_app: App) -> AsyncIterator[Client]:
    async with Client.connected(jobs_app.port) as connected:
        yield connected


def short() -> simulation.RunBacktestRequest:
    """Seconds of work."""
    return simulation.RunBacktestRequest(prices=table(40), settings=[momentum("a", 0.5, 5)])


def long() -> simulation.RunBacktestRequest:
    """Minutes of work: settings that differ, as equal ones are worked out once."""
    settings = [momentum(f"a{place}", 0.5) for place in range(64)]
    return simulation.RunBacktestRequest(prices=table(700), settings=settings)


async def start(client: Client, work: simulation.RunBacktestRequest, **more: str) -> pb.Job:
    request = pb.StartJobRequest(run_backtest=work, **more)
    return (await client.jobs.StartJob(request)).job


async def got(client: Client, job: pb.Job) -> pb.GetJobResponse:
    return await client.jobs.GetJob(pb.GetJobRequest(job_id=job.job_id))


async def until(client: Client, job: pb.Job, *states: int) -> list[pb.Job]:
    """What is told of a job until it has one of the states."""
    told = []
    async for answer in client.jobs.WatchJob(pb.WatchJobRequest(job_id=job.job_id), timeout=LONG_S):
        told.append(answer.job)
        if answer.job.state in states:
            break
    return told


def workers() -> list[int]:
    """Processes of this one that work on a backtest."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == os.getpid() and b"server.jobs.worker" in words and b"RunBacktest" in words:
            found.append(int(folder.name))
    return found


async def test_a_job_is_watched_and_its_result_is_that_of_a_call(firm: Client) -> None:
    job = await start(firm, short(), about="three of a kind")
    assert (job.method, job.about, job.state) == ("RunBacktest", "three of a kind", QUEUED)
    told = await until(firm, job, SUCCEEDED)
    assert [item.state for item in told] == sorted(item.state for item in told)
    assert told[-1].progress == 1.0
    assert told[-1].attempts == 1
    assert told[-1].end_time.ToDatetime() > told[-1].create_time.ToDatetime()
    found = await got(firm, job)
    assert found.run_backtest == await firm.simulation.RunBacktest(short(), timeout=LONG_S)
    listed = (await firm.jobs.ListJobs(pb.ListJobsRequest(states=[SUCCEEDED]))).jobs
    assert job.job_id in [item.job_id for item in listed]
    # What is over doesn't change; who watches is told so at once.
    assert (await firm.jobs.CancelJob(pb.CancelJobRequest(job_id=job.job_id))).job == told[-1]
    assert await until(firm, job) == [told[-1]]


async def test_one_id_is_one_piece_of_work(firm: Client) -> None:
    name = new_id("job")
    first = await start(firm, short(), job_id=name)
    assert (await start(firm, short(), job_id=name)).create_time == first.create_time
    other = short()
    other.trials_before = 3
    refused = await refusal(start(firm, other, job_id=name))
    assert refused.code is grpc.StatusCode.ALREADY_EXISTS
    await until(firm, first, SUCCEEDED)


async def test_what_runs_and_what_waits_can_be_cancelled(firm: Client) -> None:
    running, waiting = await start(firm, long()), await start(firm, long())
    await until(firm, running, RUNNING)
    assert len(workers()) == 1
    cancelled = (await firm.jobs.CancelJob(pb.CancelJobRequest(job_id=waiting.job_id))).job
    assert cancelled.state == CANCELLED
    asked = (await firm.jobs.CancelJob(pb.CancelJobRequest(job_id=running.job_id))).job
    assert asked.state == RUNNING
    assert (await until(firm, running, CANCELLED))[-1].state == CANCELLED
    assert workers() == []
    found = await got(firm, running)
    assert found.WhichOneof("result") is None


async def test_what_was_cancelled_or_has_failed_can_be_resumed(firm: Client) -> None:
    async def resumed(job: pb.Job) -> pb.Job:
        return (await firm.jobs.ResumeJob(pb.ResumeJobRequest(job_id=job.job_id))).job

    job = await start(firm, long())
    await until(firm, job, RUNNING)
    await firm.jobs.CancelJob(pb.CancelJobRequest(job_id=job.job_id))
    await until(firm, job, CANCELLED)
    again = await resumed(job)
    assert (again.state, again.attempts) == (QUEUED, 0)
    assert not again.HasField("end_time")
    assert not again.HasField("progress")
    running = (await until(firm, job, RUNNING))[-1]
    assert (running.state, running.attempts) == (RUNNING, 1)
    assert (await resumed(job)).state == RUNNING
    # An end that was asked for, and is taken back before it has come, doesn't come.
    await firm.jobs.CancelJob(pb.CancelJobRequest(job_id=job.job_id))
    assert (await resumed(job)).state in (RUNNING, QUEUED)
    await until(firm, job, RUNNING)
    await firm.jobs.CancelJob(pb.CancelJobRequest(job_id=job.job_id))
    await until(firm, job, CANCELLED)

    work = short()
    work.prices.dates[3] = "yesterday"
    failed = (await until(firm, await start(firm, work), FAILED))[-1]
    assert not (await resumed(failed)).HasField("error")
    assert (await until(firm, failed, FAILED))[-1].error == failed.error

    done = (await until(firm, await start(firm, short()), SUCCEEDED))[-1]
    assert await resumed(done) == done
    refused = await refusal(firm.jobs.ResumeJob(pb.ResumeJobRequest(job_id="no-such-job")))
    assert refused.reason == "JOB_NOT_FOUND"


async def test_work_that_is_followed_ends_with_its_call(firm: Client) -> None:
    request = simulation.FollowSimulationRequest(run_backtest=long())
    call = firm.simulation.FollowSimulation(request, timeout=LONG_S)
    async for answer in call:
        if answer.HasField("progress"):
            break
    assert len(workers()) == 1
    call.cancel()
    while workers():  # noqa: ASYNC110  (a process tells nobody)
        await asyncio.sleep(0.05)


async def test_a_job_says_how_far_it_is(firm: Client) -> None:
    job = await start(firm, long())
    parts: list[float] = []
    async for answer in firm.jobs.WatchJob(pb.WatchJobRequest(job_id=job.job_id), timeout=LONG_S):
        if answer.job.HasField("progress"):
            parts.append(answer.job.progress)
        if len(parts) == 2:
            break
    assert 0.0 < parts[0] < parts[1] < 1.0
    await firm.jobs.CancelJob(pb.CancelJobRequest(job_id=job.job_id))
    await until(firm, job, CANCELLED)


async def test_what_is_wrong_is_told_at_once_or_by_the_job(firm: Client) -> None:
    refused = await refusal(firm.jobs.StartJob(pb.StartJobRequest()))
    assert refused.fields == {"run_backtest": "MISSING"}
    work = short()
    work.settings[0].costs.slippage_rate = 0.9
    refused = await refusal(start(firm, work))
    assert refused.fields == {"run_backtest.settings[0].costs.slippage_rate": "OUT_OF_RANGE"}
    work = short()
    work.prices.dates[3] = "yesterday"
    job = (await until(firm, await start(firm, work), FAILED))[-1]
    assert (job.error.code, job.error.reason) == ("INVALID_ARGUMENT", "NOT_A_DATE")
    assert [item.field for item in job.error.fields] == ["prices.dates[3]"]
    refused = await refusal(firm.jobs.GetJob(pb.GetJobRequest(job_id="no-such-job")))
    assert refused.reason == "JOB_NOT_FOUND"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await until(firm, pb.Job(job_id="no-such-job"))
    assert refusal_of(error.value).reason == "JOB_NOT_FOUND"


async def becomes(wanted: Callable[[], bool]) -> None:
    """Waits for something outside the service."""
    for _ in range(int(LONG_S / 0.1)):
        if wanted():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it has not come")


async def test_a_process_that_dies_is_begun_again(firm: Client) -> None:
    job = await start(firm, long())
    killed: set[int] = set()
    for attempt in (1, 2, 3):
        await becomes(lambda: bool(set(workers()) - killed))
        assert (await until(firm, job, RUNNING))[-1].attempts == attempt
        (pid,) = set(workers()) - killed
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
    failed = (await until(firm, job, FAILED))[-1]
    assert (failed.attempts, failed.error.reason) == (3, "JOB_DIED")


async def test_jobs_survive_the_server(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    """One that stops gives its job back and sends watchers away; one that dies is noticed."""
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    async with (
        started(postgres_server, kernels, tmp_path, dsn=dsn, drain_s=0.5) as app,
        Client.connected(app.port) as client,
    ):
        first, second = await start(client, long()), await start(client, short())
        await until(client, first, RUNNING)
        watching = asyncio.create_task(until(client, first, SUCCEEDED))
        await asyncio.sleep(0.1)
        await app.stop()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await watching
        assert error.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert workers() == []
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        """UPDATE job SET state = 'RUNNING', attempts = 1, claim_id = gen_random_uuid(),
            claim_time = now() - interval '1 second' WHERE job_id = $1""",
        second.job_id,
    )
    await connection.close()
    async with (
        started(postgres_server, kernels, tmp_path, dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        again = await until(client, first, RUNNING)
        assert again[-1].attempts == 1  # what stopped in order doesn't count
        await client.jobs.CancelJob(pb.CancelJobRequest(job_id=first.job_id))
        ended = (await until(client, second, SUCCEEDED))[-1]
        assert (ended.state, ended.attempts) == (SUCCEEDED, 2)
