"""Long work: followed until it is done, or started as a job that goes on by itself."""

from typing import TYPE_CHECKING

import typer

from server.cli.common import print_json, say

if TYPE_CHECKING:
    from positionsizing.v1 import job_service_pb2
    from positionsizing.v1 import simulation_service_pb2 as pb

    from server.client import Client

TIMEOUT_S = 3600.0
"""A backtest of decades takes minutes."""
WORK = {"run_backtest": "backtest", "tune_parameters": "search", "simulate_growth": "futures"}
"""Fields of FollowSimulationRequest in words."""


def followed(
    client: "Client", request: "pb.FollowSimulationRequest"
) -> "pb.FollowSimulationResponse":
    """What came of the work; how far it is goes to standard error meanwhile."""
    from rich.console import Console

    from server.cli.progress import progress

    field = str(request.WhichOneof("work"))
    told = None
    with progress(Console(stderr=True), is_percent=True) as tell:
        for told in client.simulation.FollowSimulation(request, timeout=TIMEOUT_S):
            if told.HasField("progress"):
                tell(WORK[field], round(100.0 * told.progress), 100)
            elif told.WhichOneof("result") is None:
                tell(f"{WORK[field]}: begins when it is its turn", 0, 0)
    assert told is not None, "it ends with a result or an error"
    return told


def start(client: "Client", request: "job_service_pb2.StartJobRequest", *, as_json: bool) -> None:
    """Starts a job and says how to follow it."""
    job = client.jobs.StartJob(request).job
    if as_json:
        print_json(job)
        return
    say(job.job_id)
    typer.echo(f"to follow it: sizing jobs watch {job.job_id}", err=True)
