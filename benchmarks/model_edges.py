"""What a model asks of a sizing: the closed form with edges of a model against edges given.

    .venv/bin/python -m benchmarks.model_edges [--calls 400]

1,024 lines over gRPC, not recorded; both by turns, so that both see the same machine. The model is
a logistic regression on five features.
"""

import argparse
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import numpy as np
import uvloop
from positionsizing.v1 import learning_service_pb2 as pb
from positionsizing.v1 import learning_service_pb2_grpc, sizing_pb2, sizing_service_pb2_grpc
from scipy.special import expit

from benchmarks.serving import OPTIONS, prepare, request_of, start_service

N_LINES, N_FEATURES, N_BETS = 1024, 5, 1000
MODEL = "bench-model"


def features(values: np.ndarray) -> list[sizing_pb2.FeatureColumn]:
    """Columns of (n, k) values."""
    return [
        sizing_pb2.FeatureColumn(name=f"f{place}", values=column)
        for place, column in enumerate(values.T)
    ]


def put_model(channel: grpc.Channel) -> None:
    """Trains a model that there is something to learn for, and makes it live."""
    random, begin = np.random.default_rng(0), datetime(2020, 1, 1, tzinfo=UTC)
    x = random.normal(size=(N_BETS, N_FEATURES))
    rows = pb.TrainingRows(
        features=features(x), won=(random.random(N_BETS) < expit(x[:, 0])).tolist()
    )
    for day in range(N_BETS):
        rows.start_times.add().FromDatetime(begin + timedelta(days=day))
        rows.end_times.add().FromDatetime(begin + timedelta(days=day, hours=8))
    stub = learning_service_pb2_grpc.LearningServiceStub(channel)
    request = pb.TrainModelRequest(request_id=str(uuid.uuid4()), model_id=MODEL, rows=rows)
    stub.TrainModel(request, timeout=600)
    for stage in (pb.MODEL_STAGE_SHADOW, pb.MODEL_STAGE_LIVE):
        stub.PromoteModel(
            pb.PromoteModelRequest(
                request_id=str(uuid.uuid4()), model_id=MODEL, stage=stage, reason="benchmark"
            )
        )


async def by_turns(address: str, calls: int) -> np.ndarray:
    """Seconds of each call, (2, calls): edges given, edges of the model."""
    given, asked = request_of(N_LINES), request_of(N_LINES)
    for column in ("win_probability", "win_probability_error"):
        asked.signals.ClearField(column)  # type: ignore[arg-type]
    asked.signals.model_id = MODEL
    asked.signals.features.extend(features(np.random.default_rng(1).normal(size=(N_LINES, 5))))
    spent: list[list[float]] = [[], []]
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        stub = sizing_service_pb2_grpc.SizingServiceStub(channel)
        for _ in range(calls + calls // 10):
            for series, request in zip(spent, (given, asked), strict=True):
                started = time.perf_counter()
                await stub.SizePositions(request, timeout=60)
                series.append(time.perf_counter() - started)
    return np.array(spent)[:, calls // 10 :]


def main() -> None:
    """Prints both latencies and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=400)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, port, _ = start_service(Path(folder), whole=False)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
                prepare(channel, (f"bench-{N_LINES}",), {"bench-5000": 5000})
                put_model(channel)
            spent = uvloop.run(by_turns(f"127.0.0.1:{port}", arguments.calls)) * 1e3
        finally:
            process.terminate()
            process.wait()
    for name, row in zip(("edges given", "edges of a model"), spent, strict=True):
        print(f"{name}: p50 {np.quantile(row, 0.5):.2f} ms, p99 {np.quantile(row, 0.99):.2f} ms")
    print(f"ratio of medians {np.median(spent[1]) / np.median(spent[0]):.2f} (goal 1.2)")


if __name__ == "__main__":
    main()
