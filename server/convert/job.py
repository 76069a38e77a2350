"""Jobs between the contract, the domain and what is stored."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import Message
from positionsizing.v1 import job_service_pb2 as pb
from positionsizing.v1 import learning_service_pb2 as learning
from positionsizing.v1 import simulation_service_pb2 as simulation

from server.calls.errors import FieldViolation, Refusal
from server.convert.names import timestamp
from storage.postgres.jobs import StoredJob

ABOUT_LENGTH_MAX = 200
METHODS = {
    "run_backtest": "RunBacktest",
    "tune_parameters": "TuneParameters",
    "simulate_growth": "SimulateGrowth",
    "train_model": "TrainModel",
}
"""The method of each field of `StartJobRequest.work` and `GetJobResponse.result`."""
_ANSWERS: dict[str, type[Message]] = {
    "RunBacktest": simulation.RunBacktestResponse,
    "TuneParameters": simulation.TuneParametersResponse,
    "SimulateGrowth": simulation.SimulateGrowthResponse,
    "TrainModel": learning.TrainModelResponse,
}


def start_violations(request: pb.StartJobRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request but its work, by field path."""
    if request.WhichOneof("work") is None:
        yield FieldViolation("run_backtest", "MISSING", f"give one of {', '.join(METHODS)}")
    if len(request.about) > ABOUT_LENGTH_MAX:
        text = f"has {len(request.about)} characters; at most {ABOUT_LENGTH_MAX} are accepted"
        yield FieldViolation("about", "TOO_LONG", text)


def states_of(request: pb.ListJobsRequest) -> Iterator[str]:
    """Names of the states asked for; the request has been checked."""
    for state in request.states:
        yield pb.JobState.Name(state).removeprefix("JOB_STATE_")


def list_violations(request: pb.ListJobsRequest) -> Iterator[FieldViolation]:
    """States that there are not."""
    for place, state in enumerate(request.states):
        if state not in pb.JobState.values() or state == pb.JOB_STATE_UNSPECIFIED:
            yield FieldViolation(f"states[{place}]", "UNKNOWN_VALUE", f"is {state}")


def message(stored: StoredJob) -> pb.Job:
    """A job without its result."""
    made = pb.Job(
        job_id=stored.job_id,
        method=stored.method,
        state=pb.JobState.Value(f"JOB_STATE_{stored.state}"),
        about=stored.about,
        progress=stored.progress,
        author=stored.author,
        create_time=timestamp(stored.create_time),
        attempts=stored.attempts,
    )
    for name in ("start_time", "end_time"):
        if (moment := getattr(stored, name)) is not None:
            getattr(made, name).CopyFrom(timestamp(moment))
    if stored.failure is not None:
        told = json.loads(stored.failure)
        fields = [pb.JobFieldError(**item) for item in told.pop("fields")]
        made.error.CopyFrom(pb.JobError(**told, fields=fields))
    return made


def with_answer(stored: StoredJob, answer: bytes) -> pb.GetJobResponse:
    """A job with its result, of one that has succeeded."""
    made = pb.GetJobResponse(job=message(stored))
    if stored.state == "SUCCEEDED":
        field = next(name for name, method in METHODS.items() if method == stored.method)
        getattr(made, field).CopyFrom(_ANSWERS[stored.method].FromString(answer))
    return made


def failure(refusal: Refusal) -> str:
    """A refusal as it is stored."""
    fields = [vars(item) for item in refusal.fields]
    told: dict[str, Any] = {
        "code": refusal.code.name,
        "reason": refusal.reason,
        "message": refusal.message,
        "fields": fields,
    }
    return json.dumps(told)


def died(attempts: int) -> Refusal:
    """What is told of a job whose process or server has died as often as it may."""
    text = f"its process or its server died {attempts} times; the servers' logs say more"
    return Refusal(grpc.StatusCode.INTERNAL, "JOB_DIED", text)
