"""Commands on jobs: long work that goes on without the call that asked for it."""

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, AsJson, connect, console, print_json, say
from server.cli.errors import CommandError

if TYPE_CHECKING:
    from positionsizing.v1 import job_service_pb2 as pb

    from server.client import Client

jobs = typer.Typer(
    no_args_is_help=True,
    help="Long work without its caller: see backtest, tune and learn train with --job.",
)
Name = Annotated[str, typer.Argument(help="Which job.")]
WATCH_S = 86400.0


@jobs.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The most that are shown.")] = 20,
    as_json: AsJson = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Lists jobs, the newest first."""
    from positionsizing.v1 import job_service_pb2 as pb

    from server.cli.render import table

    with connect(address) as client:
        answer = client.jobs.ListJobs(pb.ListJobsRequest(limit=limit))
    if as_json:
        print_json(answer)
        return
    left = ("job", "work", "state", "started by", "about")
    out = table("Jobs", *left, left=left, drop=("started by", "about"))
    for job in answer.jobs:
        out.add_row(job.job_id, job.method, state_words(job), job.author, job.about)
    console().print(out)


@jobs.command()
def watch(name: Name, address: Address = DEFAULT_ADDRESS) -> None:
    """Says how far a job is until it is over; stopping to watch doesn't stop it."""
    with connect(address) as client:
        job = follow(client, name)
    _refuse_failed(job)


@jobs.command()
def cancel(name: Name, address: Address = DEFAULT_ADDRESS) -> None:
    """Ends a job that waits or runs."""
    from positionsizing.v1 import job_service_pb2 as pb

    with connect(address) as client:
        answer = client.jobs.CancelJob(pb.CancelJobRequest(job_id=name))
    ending = answer.job.state == pb.JOB_STATE_RUNNING
    say(f"{name}: {'is being ended' if ending else state_words(answer.job)}")


@jobs.command()
def resume(name: Name, address: Address = DEFAULT_ADDRESS) -> None:
    """Queues a job again that was cancelled or has failed.

    Searches and backtests go on from what was done; other work begins anew.
    """
    from positionsizing.v1 import job_service_pb2 as pb

    with connect(address) as client:
        answer = client.jobs.ResumeJob(pb.ResumeJobRequest(job_id=name))
    say(f"{name}: {state_words(answer.job)}")
    if not answer.job.HasField("end_time"):
        typer.echo(f"to follow it: sizing jobs watch {name}", err=True)


@jobs.command()
def result(name: Name, as_json: AsJson = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Shows what came of a job."""
    from positionsizing.v1 import job_service_pb2 as pb

    with connect(address) as client:
        answer = client.jobs.GetJob(pb.GetJobRequest(job_id=name))
    _refuse_failed(answer.job)
    field = answer.WhichOneof("result")
    if field is None:
        over = answer.job.state == pb.JOB_STATE_CANCELLED
        text = f"job {name!r} has no result: {state_words(answer.job)}"
        raise CommandError(text, f"sizing jobs {'resume' if over else 'watch'} {name}")
    found = getattr(answer, field)
    if as_json or field == "simulate_growth":
        print_json(found)
        return
    out = console()
    if field == "run_backtest":
        from server.cli.simulated import show_backtest

        show_backtest(out, found)
    elif field == "train_model":
        from server.cli.learn_words import model_lines

        for line in model_lines(found.model):
            say(line)
    else:
        from server.cli.tuned import show_tuned

        show_tuned(out, found)


def follow(client: "Client", name: str) -> "pb.Job":
    """Says what a job's state becomes, until it is over; the job then."""
    from positionsizing.v1 import job_service_pb2 as pb

    told, job = "", pb.Job()
    for answer in client.jobs.WatchJob(pb.WatchJobRequest(job_id=name), timeout=WATCH_S):
        job = answer.job
        if (words := state_words(job)) != told:
            told = words
            say(f"{name}: {told}")
    return job


def state_words(job: "pb.Job") -> str:
    """How far a job is, in words."""
    from positionsizing.v1 import job_service_pb2 as pb

    words = pb.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()
    if job.state == pb.JOB_STATE_RUNNING and job.HasField("progress"):
        words += f" {job.progress:.0%}"
    if job.attempts > 1:
        words += f", begun {job.attempts} times"
    return words


def _refuse_failed(job: "pb.Job") -> None:
    if job.HasField("error"):
        text = f"job {job.job_id!r} failed, {job.error.reason}: {job.error.message}"
        raise CommandError(text, f"sizing jobs resume {job.job_id} tries it again")
