"""F13: what correlations cost: an estimate with clusters, and the penalty of the closed form.

    .venv/bin/python -m benchmarks.correlation_cost [--calls 100]

Over gRPC, on returns of a market factor and noise. The estimates, of 500 instruments and 500 days,
are stored as the calls promise. Sizes of 1,024 lines, not recorded, without a penalty and with
each, by turns, so that all see the same machine.
"""

import argparse
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import uvloop
from positionsizing.v1 import correlation_service_pb2 as pb
from positionsizing.v1 import (
    correlation_service_pb2_grpc,
    history_service_pb2,
    history_service_pb2_grpc,
    parameter_service_pb2,
    parameter_service_pb2_grpc,
    sizing_service_pb2_grpc,
)

from benchmarks.serving import OPTIONS, prepare, request_of, start_service

N_NAMES, N_DAYS, N_LINES = 500, 500, 1024
PENALTIES = ("NONE", "PROPORTIONAL", "QUADRATIC")


def put_history(channel: grpc.Channel, universe_id: str, n_names: int, n_days: int) -> None:
    """Stores daily returns with one factor."""
    rng, begin = np.random.default_rng(n_names), datetime(2020, 1, 1, tzinfo=UTC)
    returns = 0.01 * (rng.standard_normal((n_days, 1)) + rng.standard_normal((n_days, n_names)))
    history = history_service_pb2.History(
        universe_id=universe_id,
        kind=history_service_pb2.HISTORY_KIND_RETURNS,
        instrument_ids=[f"INS{i:06d}" for i in range(n_names)],
        values=returns.ravel(),
    )
    for day in range(n_days):
        history.observation_times.add().FromDatetime(begin + timedelta(days=day))
    history_service_pb2_grpc.HistoryServiceStub(channel).PutHistory(
        history_service_pb2.PutHistoryRequest(history=history), timeout=60
    )


def estimate(universe_id: str, estimator: str) -> pb.EstimateMatrixRequest:
    """Of a covariance with an id of its own: each is made and stored."""
    kind = pb.CovarianceEstimator.Value(f"COVARIANCE_ESTIMATOR_{estimator}")
    return pb.EstimateMatrixRequest(
        universe_id=universe_id, estimator=kind, matrix_id=f"bench-{uuid.uuid4()}"
    )


def spent(call: Callable[[], Any], calls: int) -> np.ndarray:
    """Milliseconds of each call, after a tenth as many that don't count."""
    out = []
    for _ in range(calls + max(1, calls // 10)):
        began = time.perf_counter()
        call()
        out.append(1e3 * (time.perf_counter() - began))
    return np.array(out[-calls:])


def estimates(channel: grpc.Channel, calls: int) -> None:
    """Prints what an estimate takes, what clusters of it take, and both together."""
    stub = correlation_service_pb2_grpc.CorrelationServiceStub(channel)
    put_history(channel, "bench-history", N_NAMES, N_DAYS)
    made = stub.EstimateMatrix(estimate("bench-history", "SAMPLE"), timeout=60)
    asked = pb.ClusterInstrumentsRequest(matrix_id=made.matrix_id)
    clusters = spent(lambda: stub.ClusterInstruments(asked, timeout=60), calls)
    print(f"| clusters | {_words(clusters)} | |")
    for name in ("SAMPLE", "EWMA", "LEDOIT_WOLF", "DENOISED"):
        found = spent(
            lambda name=name: stub.EstimateMatrix(estimate("bench-history", name), timeout=60),
            calls,
        )
        print(f"| {name} | {_words(found)} | {np.median(found) + np.median(clusters):.0f} |")


def _words(series: np.ndarray) -> str:
    return f"{np.quantile(series, 0.5):.1f} | {np.quantile(series, 0.99):.1f}"


def penalised(channel: grpc.Channel) -> str:
    """A portfolio a penalty, and the covariance that they are by."""
    put_history(channel, "bench-lines", N_LINES, 300)
    stub = correlation_service_pb2_grpc.CorrelationServiceStub(channel)
    made = stub.EstimateMatrix(estimate("bench-lines", "LEDOIT_WOLF"), timeout=60)
    for name in PENALTIES:
        parameters = parameter_service_pb2.SizingParameters(
            correlation_penalty=parameter_service_pb2.CorrelationPenalty.Value(
                f"CORRELATION_PENALTY_{name}"
            )
        )
        parameter_service_pb2_grpc.ParameterServiceStub(channel).SetParameters(
            parameter_service_pb2.SetParametersRequest(portfolio_id=name, parameters=parameters)
        )
    return str(made.matrix_id)


async def by_turns(address: str, matrix_id: str, calls: int) -> np.ndarray:
    """Milliseconds of each call, a row a penalty."""
    requests = []
    for name in PENALTIES:
        request = request_of(N_LINES)
        request.portfolio_id = name
        if name != "NONE":
            request.covariance_matrix_id = matrix_id
        requests.append(request)
    found: list[list[float]] = [[] for _ in requests]
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        stub = sizing_service_pb2_grpc.SizingServiceStub(channel)
        for _ in range(calls + calls // 10):
            for series, request in zip(found, requests, strict=True):
                began = time.perf_counter()
                await stub.SizePositions(request, timeout=60)
                series.append(1e3 * (time.perf_counter() - began))
    return np.array(found)[:, calls // 10 :]


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, port, _ = start_service(Path(folder), whole=False)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
                prepare(channel, PENALTIES)
                print("| 500 instruments, 500 days | p50, ms | p99, ms | with clusters, ms |")
                print("|---|---|---|---|")
                estimates(channel, max(10, arguments.calls // 5))
                matrix_id = penalised(channel)
            found = uvloop.run(by_turns(f"127.0.0.1:{port}", matrix_id, arguments.calls))
        finally:
            process.terminate()
            process.wait()
    print("\n| 1,024 lines, penalty | p50, ms | p99, ms | to none |\n|---|---|---|---|")
    for name, series in zip(PENALTIES, found, strict=True):
        ratio = np.median(series) / np.median(found[0])
        print(f"| {name} | {_words(series)} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
