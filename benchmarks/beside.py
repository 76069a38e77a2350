"""What joint work does to the closed form: its latency alone, and while a long frontier is traced.

    .venv/bin/python -m benchmarks.beside [--seconds 20]

By turns in slices of two seconds, alone and beside, so that both see the same machine. The closed
form is asked for by one caller, 50 lines, not recorded; the frontier has 200 points of least CDaR.
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
from positionsizing.v1 import market_service_pb2 as market
from positionsizing.v1 import optimization_service_pb2 as pb
from positionsizing.v1 import optimization_service_pb2_grpc, sizing_service_pb2_grpc

from benchmarks.serving import OPTIONS, prepare, request_of, start_service

N_LINES = 50
SLICE_S = 2.0


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


async def slices(address: str, seconds: float, names: int, periods: int) -> list[list[float]]:
    """Latencies alone and beside, in milliseconds."""
    found: list[list[float]] = [[], []]
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        sizing = sizing_service_pb2_grpc.SizingServiceStub(channel)
        joint = optimization_service_pb2_grpc.OptimizationServiceStub(channel)
        request = request_of(N_LINES)
        for turn in range(2 * max(1, round(seconds / SLICE_S / 2))):
            is_beside = turn % 2
            call = joint.TraceFrontier(frontier(names, periods), timeout=600) if is_beside else None
            if call is not None:
                await asyncio.sleep(0.5)
            end = time.perf_counter() + SLICE_S
            while time.perf_counter() < end:
                began = time.perf_counter()
                await sizing.SizePositions(request, timeout=60)
                found[is_beside].append(1e3 * (time.perf_counter() - began))
            if call is not None:
                print("the frontier was over" if call.done() else "the frontier went on")
                call.cancel()
                await asyncio.sleep(0.5)
    return found


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--names", type=int, default=100)
    parser.add_argument("--periods", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("SIZING_DATA_DIR", f"{folder}/data")
        process, port, _dsn = start_service(Path(folder))
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
                prepare(channel, [f"bench-{N_LINES}"])
            sizes = arguments.names, arguments.periods
            alone, beside = uvloop.run(slices(f"127.0.0.1:{port}", arguments.seconds, *sizes))
        finally:
            process.terminate()
            process.wait(60)
    for name, series in (("alone", alone), ("beside a frontier", beside)):
        p50, p99 = np.quantile(series, (0.5, 0.99))
        print(f"| {name} | {len(series)} calls | p50 {p50:.1f} ms | p99 {p99:.1f} ms |")


if __name__ == "__main__":
    main()
