"""F6: sizes of a whole book decided jointly over gRPC, each answer committed before it leaves.

    .venv/bin/python -m benchmarks.joint_serving [--assets 500] [--calls 100] [--out FILE]

Starts the service in a process of its own on an embedded PostgreSQL, stores a market and 1,000
scenarios of it, and asks for the joint sizes (expected log growth, every line with its own bound,
leverage at most 1) of one portfolio after the other, so that no answer
is a repetition.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import uuid
from pathlib import Path

import grpc
import numpy as np
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    market_service_pb2_grpc,
    portfolio_service_pb2,
    portfolio_service_pb2_grpc,
    sizing_pb2,
    sizing_service_pb2,
    sizing_service_pb2_grpc,
    types_pb2,
)

from benchmarks.serving import OPTIONS, start_service
from benchmarks.synthetic import fat_tailed

PERIODS = 1000
WARM_UP = 3


def store(channel: grpc.Channel, ids: list[str], calls: int) -> None:
    """The market, its scenarios, and a portfolio with limits for each call."""
    market = market_service_pb2_grpc.MarketServiceStub(channel)
    rng = np.random.default_rng(7)
    snapshot = market_service_pb2.MarketSnapshot(
        snapshot_id="joint",
        instrument_ids=ids,
        price=rng.uniform(5, 500, len(ids)),
        volatility=np.full(len(ids), 0.3),
        average_daily_volume=np.full(len(ids), 1e9),
    )
    snapshot.as_of_time.GetCurrentTime()
    market.PutMarketSnapshot(market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot))
    returns = fat_tailed(rng, PERIODS, len(ids))
    matrix = market_service_pb2.Matrix(
        matrix_id="joint",
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        instrument_ids=ids,
        dense=market_service_pb2.DenseMatrix(values=returns.ravel()),
    )
    matrix.as_of_time.GetCurrentTime()
    market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    portfolios = portfolio_service_pb2_grpc.PortfolioServiceStub(channel)
    limits = limits_pb2.Limits(weight_max=0.1, leverage_max=1.0)
    for call in range(calls):
        portfolio = portfolio_service_pb2.Portfolio(
            portfolio_id=f"joint-{call}", base_currency="USD", cash=1e9
        )
        portfolios.CreatePortfolio(
            portfolio_service_pb2.CreatePortfolioRequest(portfolio=portfolio)
        )
        scope = portfolio_service_pb2.Scope(portfolio_id=portfolio.portfolio_id)
        portfolios.SetLimits(portfolio_service_pb2.SetLimitsRequest(scope=scope, limits=limits))


def measure(channel: grpc.Channel, ids: list[str], calls: int) -> list[float]:
    """Seconds of each call; RuntimeError where one was not decided jointly."""
    stub = sizing_service_pb2_grpc.SizingServiceStub(channel)
    seconds = []
    for call in range(calls):
        request = sizing_service_pb2.SizePositionsRequest(
            request_id=str(uuid.uuid4()),
            portfolio_id=f"joint-{call}",
            market_snapshot_id="joint",
            scenario_matrix_id="joint",
            method=types_pb2.SIZING_METHOD_JOINT,
            signals=sizing_pb2.SignalBatch(
                instrument_ids=ids,
                side=[types_pb2.SIDE_LONG] * len(ids),
                edge_source=[sizing_pb2.EDGE_SOURCE_SCENARIOS] * len(ids),
            ),
        )
        started = time.perf_counter()
        decision = stub.SizePositions(request, timeout=60).decision
        seconds.append(time.perf_counter() - started)
        if decision.fallback_chain or decision.method != types_pb2.SIZING_METHOD_JOINT:
            raise RuntimeError(f"not decided jointly: {decision.fallback_chain}")
    return seconds[WARM_UP:]


def main() -> None:
    """Runs the benchmark and writes its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--assets", type=int, default=500)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/joint_serving.md"))
    arguments = parser.parse_args()
    ids = [f"INS{i:06d}" for i in range(arguments.assets)]
    calls = arguments.calls + WARM_UP
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("SIZING_DATA_DIR", str(Path(folder) / "data"))
        process, port, _dsn = start_service(Path(folder))
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
                store(channel, ids, calls)
                ms = 1e3 * np.array(measure(channel, ids, calls))
        finally:
            process.terminate()
            process.wait(30)
    table = "\n".join(
        [
            "| figure | p50 ms | p99 ms | goal |",
            "|---|---|---|---|",
            f"| F6: {arguments.assets} lines jointly, {PERIODS} scenarios, with commit "
            f"| {np.quantile(ms, 0.5):.1f} | {np.quantile(ms, 0.99):.1f} | p99 150 |",
        ]
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
