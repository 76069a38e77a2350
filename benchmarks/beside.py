"""What long work does to the closed form: its latency alone, and while that goes on.

    .venv/bin/python -m benchmarks.beside [--work frontier|backtest|search|dcc|risk] [--seconds 20]

By turns in slices of two seconds, alone and beside, so that both see the same machine. The closed
form is asked for by one caller, 50 lines, not recorded. The frontier has 200 points of least CDaR;
the backtest, of 64 settings in mode EXACT, and the search, of 1,024 trials, are jobs, on 20 names
and 2,520 sessions. DCC estimates and risk reports with tails by extreme values, one after the
other, are of 500 names and 500 days.
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

import grpc
import numpy as np
import uvloop
from positionsizing.v1 import (
    correlation_service_pb2_grpc,
    job_service_pb2_grpc,
    limits_pb2,
    optimization_service_pb2_grpc,
    parameter_service_pb2,
    risk_service_pb2,
    risk_service_pb2_grpc,
    sizing_service_pb2_grpc,
)
from positionsizing.v1 import job_service_pb2 as jobs
from positionsizing.v1 import market_service_pb2 as market
from positionsizing.v1 import optimization_service_pb2 as pb
from positionsizing.v1 import simulation_service_pb2 as simulation

from benchmarks.backtest import random_walk
from benchmarks.correlation_cost import N_DAYS, N_NAMES, estimate, put_history
from benchmarks.serving import OPTIONS, prepare, request_of, start_service

N_LINES = 50
SLICE_S = 2.0
UNIVERSE = "bench-history"
OF_UNIVERSE = ("dcc", "risk")
WORK = ("frontier", "backtest", "search", *OF_UNIVERSE)


def frontier(names: int, periods: int) -> pb.TraceFrontierRequest:
    """A frontier that takes longer than a slice."""
    rng = np.random.default_rng(0)
    returns = 0.01 * rng.standard_normal((periods, names)) + 3e-4
    ids = [f"INS{i:06d}" for i in range(names)]
    problem = pb.OptimizationProblem(
        instrument_ids=ids,
        objective=pb.Objective(kind=pb.OBJECTIVE_KIND_MIN_CDAR, tail_level=0.95),
        scenarios=market.Matrix(
            kind=market.MATRIX_KIND_SCENARIOS,
            instrument_ids=ids,
            dense=market.DenseMatrix(values=returns.ravel()),
        ),
    )
    problem.weight_max[:] = [0.2] * names
    problem.budget_min = problem.budget_max = 1.0
    return pb.TraceFrontierRequest(problem=problem, point_count=200)


class Frontier:
    """A call that takes longer than a slice, ended by hanging up."""

    def __init__(self, channel: grpc.aio.Channel, names: int, periods: int) -> None:
        self._stub = optimization_service_pb2_grpc.OptimizationServiceStub(channel)
        self._request = frontier(names, periods)

    async def begin(self) -> None:
        """Returns when it is at work."""
        self._call = self._stub.TraceFrontier(self._request, timeout=600)
        await asyncio.sleep(0.5)

    async def end(self) -> bool:
        """Ends it, and says whether it was still at work."""
        went_on = not self._call.done()
        self._call.cancel()
        await asyncio.sleep(0.5)
        return went_on


class Repeated:
    """Estimates or reports of 500 names, one after the other."""

    def __init__(self, channel: grpc.aio.Channel, kind: str) -> None:
        self._correlation = correlation_service_pb2_grpc.CorrelationServiceStub(channel)
        self._risk = risk_service_pb2_grpc.RiskServiceStub(channel)
        self._kind = kind

    async def begin(self) -> None:
        """Returns when it is at work."""
        self._task = asyncio.create_task(self._repeat())
        await asyncio.sleep(0.5)

    async def end(self) -> bool:
        """Ends it, and says whether it was still at work."""
        went_on = not self._task.done()
        self._task.cancel()
        await asyncio.sleep(0.5)
        return went_on

    async def _repeat(self) -> None:
        while True:
            if self._kind == "dcc":
                await self._correlation.EstimateMatrix(estimate(UNIVERSE, "DCC"), timeout=600)
            else:
                await self._risk.ReportRisk(report(), timeout=600)


def report() -> risk_service_pb2.ReportRiskRequest:
    """Of a book of all names, alike."""
    ids = [f"INS{i:06d}" for i in range(N_NAMES)]
    weights = risk_service_pb2.BookWeights(instrument_ids=ids, weights=[1.0 / N_NAMES] * N_NAMES)
    return risk_service_pb2.ReportRiskRequest(universe_id=UNIVERSE, proposed=weights)


class Job:
    """A job that takes longer than a slice, ended by cancelling it."""

    def __init__(self, channel: grpc.aio.Channel, kind: str) -> None:
        self._stub = job_service_pb2_grpc.JobServiceStub(channel)
        self._kind = kind

    async def begin(self) -> None:
        """Returns when it is at work, for a second: its process has started by then."""
        made = await self._stub.StartJob(job(self._kind), timeout=60)
        self._id = made.job.job_id
        await self._until(jobs.JOB_STATE_RUNNING)
        await asyncio.sleep(1.0)

    async def end(self) -> bool:
        """Ends it, and says whether it was still at work."""
        found = await self._stub.GetJob(jobs.GetJobRequest(job_id=self._id), timeout=60)
        await self._stub.CancelJob(jobs.CancelJobRequest(job_id=self._id), timeout=60)
        await self._until(jobs.JOB_STATE_CANCELLED)
        return bool(found.job.state == jobs.JOB_STATE_RUNNING)

    async def _until(self, state: int) -> None:
        """Returns when it is in that state, or over."""
        watched = self._stub.WatchJob(jobs.WatchJobRequest(job_id=self._id), timeout=600)
        async for told in watched:
            if told.job.state == state:
                watched.cancel()
                return


def job(kind: str) -> jobs.StartJobRequest:
    """A backtest or a search of momentum on a random walk."""
    history = random_walk(2520, 20)
    prices = simulation.PriceTable(
        dates=history.dates, instrument_ids=history.instrument_ids, close=history.close.ravel()
    )

    def setting(fraction: float) -> simulation.BacktestSetting:
        return simulation.BacktestSetting(
            name=f"{fraction:g}",
            mean_return=simulation.MeanReturnStrategy(sessions=60),
            parameters=parameter_service_pb2.SizingParameters(kelly_fraction=fraction),
            limits=limits_pb2.Limits(weight_max=0.1, leverage_max=1.0),
        )

    if kind == "search":
        ranges = [simulation.TunedRange(field="parameters.kelly_fraction", low=0.05, high=1.0)]
        search = simulation.TuneParametersRequest(
            prices=prices, setting=setting(0.5), ranges=ranges, trials=1024
        )
        return jobs.StartJobRequest(tune_parameters=search, about="bench")
    settings = [setting(float(fraction)) for fraction in np.linspace(0.05, 1.0, 64)]
    tested = simulation.RunBacktestRequest(prices=prices, settings=settings, summary_only=True)
    return jobs.StartJobRequest(run_backtest=tested, about="bench")


async def slices(
    address: str, seconds: float, work: str, names: int, periods: int
) -> list[list[float]]:
    """Latencies alone and beside, in milliseconds."""
    found: list[list[float]] = [[], []]
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        sizing = sizing_service_pb2_grpc.SizingServiceStub(channel)
        long: Frontier | Repeated | Job
        if work == "frontier":
            long = Frontier(channel, names, periods)
        else:
            long = (Repeated if work in OF_UNIVERSE else Job)(channel, work)
        request, went_on = request_of(N_LINES), 0
        for turn in range(2 * max(1, round(seconds / SLICE_S / 2))):
            is_beside = turn % 2
            if is_beside:
                await long.begin()
            end = time.perf_counter() + SLICE_S
            while time.perf_counter() < end:
                began = time.perf_counter()
                await sizing.SizePositions(request, timeout=60)
                found[is_beside].append(1e3 * (time.perf_counter() - began))
            if is_beside:
                went_on += await long.end()
    print(f"the {work} outlasted {went_on} of {turn // 2 + 1} slices")
    return found


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--work", choices=WORK, default="frontier")
    parser.add_argument("--names", type=int, default=100)
    parser.add_argument("--periods", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("SIZING_DATA_DIR", f"{folder}/data")
        process, port, _dsn = start_service(Path(folder), whole=arguments.work == "frontier")
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
                prepare(channel, [f"bench-{N_LINES}"])
                if arguments.work in OF_UNIVERSE:
                    put_history(channel, UNIVERSE, N_NAMES, N_DAYS)
            sizes = arguments.work, arguments.names, arguments.periods
            alone, beside = uvloop.run(slices(f"127.0.0.1:{port}", arguments.seconds, *sizes))
        finally:
            process.terminate()
            process.wait(60)
    for name, series in (("alone", alone), (f"beside a {arguments.work}", beside)):
        p50, p99 = np.quantile(series, (0.5, 0.99))
        print(f"| {name} | {len(series)} calls | p50 {p50:.1f} ms | p99 {p99:.1f} ms |")


if __name__ == "__main__":
    main()
