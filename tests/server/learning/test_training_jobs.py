"""Training as a job: a candidate when it is done, told how far, refused as a call would be."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from positionsizing.v1 import job_service_pb2 as pb
from positionsizing.v1 import learning_service_pb2 as learning
from positionsizing.v1 import simulation_service_pb2 as simulation

from server.auth.identity import Identity
from server.calls.errors import Refusal
from server.calls.request_context import Call
from server.jobs.worker import Means, Worker
from server.services.job import JobService
from tests.server.learning.test_learning import bets, trained, training
from tests.server.simulation.test_backtests import LONG_S, momentum, table
from tests.server.simulation.test_tune import request as search
from tests.server.support.service_client import Client, new_id, refusal

SUCCEEDED, FAILED = pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED


async def over(client: Client, job: pb.Job) -> list[pb.Job]:
    """What is told of a job until it is over."""
    asked = pb.WatchJobRequest(job_id=job.job_id)
    return [one.job async for one in client.jobs.WatchJob(asked, timeout=LONG_S)]


async def started(client: Client, **work: object) -> pb.Job:
    return (await client.jobs.StartJob(pb.StartJobRequest(**work))).job  # type: ignore[arg-type]


async def result(client: Client, job: pb.Job) -> pb.GetJobResponse:
    return await client.jobs.GetJob(pb.GetJobRequest(job_id=job.job_id))


async def test_a_job_trains_the_model_that_a_call_trains(client: Client) -> None:
    called = await trained(client)
    asked = training()
    job = await started(client, train_model=asked, job_id=new_id("job"))
    assert job.method == "TrainModel"
    told = await over(client, job)
    assert (told[-1].state, told[-1].progress) == (SUCCEEDED, 1.0)
    model = (await result(client, job)).train_model.model
    assert (model.hash, model.document) == (called.hash, called.document)
    assert model.report == called.report
    stored = await client.learning.GetModel(learning.GetModelRequest(model_id=asked.model_id))
    assert stored.model == model
    assert model.stage == learning.MODEL_STAGE_CANDIDATE


async def test_two_jobs_of_one_model_store_one(client: Client) -> None:
    asked = training()
    jobs = [await started(client, train_model=asked) for _ in range(2)]
    ends = [(await over(client, job))[-1] for job in jobs]
    assert sorted(end.state for end in ends) == [SUCCEEDED, FAILED]
    (failed,) = (end for end in ends if end.state == FAILED)
    assert (failed.error.code, failed.error.reason) == ("ALREADY_EXISTS", "ALREADY_EXISTS")
    refused = await refusal(started(client, train_model=asked))
    assert refused.reason == "ALREADY_EXISTS"


async def test_what_is_wrong_with_it_is_told_by_its_path(client: Client) -> None:
    asked = training(folds=9999)
    refused = await refusal(started(client, train_model=asked))
    assert set(refused.fields) == {"train_model.folds"}
    few = training(rows=bets(40))
    told = await over(client, await started(client, train_model=few))
    assert (told[-1].state, told[-1].error.reason) == (FAILED, "TOO_FEW_ROWS")


async def test_it_needs_the_scope_of_training() -> None:
    nothing: Any = None
    service = JobService(nothing, nothing, nothing, nothing)
    may = frozenset({"sizing.simulate", "sizing.read"})
    call = Call(Identity("firm", "somebody", may), deadline=time.monotonic() + 60.0)
    with pytest.raises(Refusal) as refused:
        await service.start_job(call, pb.StartJobRequest(train_model=training()))
    assert refused.value.reason == "PERMISSION_DENIED"
    assert refused.value.metadata["scope"] == "sizing.parameters.write"


GROWTH = simulation.SimulateGrowthRequest(
    fractions=[0.5, 1.0], distribution=simulation.NormalReturns(mean=0.05, volatility=0.2)
)
FAST = simulation.RunBacktestRequest(
    prices=table(160),
    settings=[momentum("a", 0.5, 12)],
    mode=simulation.BACKTEST_MODE_FAST,
)


@pytest.mark.parametrize(
    ("method", "work"),
    [
        ("TuneParameters", search()),
        ("SimulateGrowth", GROWTH),
        ("RunBacktest", FAST),
        ("TrainModel", training()),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
async def test_every_kind_says_how_far_it_is(method: str, work: Message, tmp_path: Path) -> None:
    """As its process tells; how much of it a watcher sees depends on how long it takes."""
    heard: list[float] = []
    await Worker(Means(tmp_path), nice=0).work(method, work.SerializeToString(), heard.append)
    await asyncio.sleep(0)
    assert heard
    assert heard == sorted(heard)
    assert 0.0 < heard[0] <= 1.0
