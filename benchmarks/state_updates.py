"""What it costs to move volatility models by a market snapshot of 10,000 instruments.

    .venv/bin/python -m benchmarks.state_updates [--instruments 10000] [--snapshots 40]

Of each model the step alone, from one state to the next; the same with the state read from and
written to its stored bytes; and, over gRPC, a snapshot that moves the model against one that moves
none, by turns. A snapshot is the only thing that moves a model: no sizing call waits for it.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import numpy as np
from positionsizing.v1 import (
    market_service_pb2,
    market_service_pb2_grpc,
    volatility_service_pb2,
    volatility_service_pb2_grpc,
)

from benchmarks.serving import OPTIONS, start_service
from compute.adapt.bars import Bars
from compute.adapt.volatility import bucket_of, step
from compute.adapt.volatility_model import Prices, VolatilityState
from server.convert import volatility as convert
from storage.postgres.volatility import StoredState

GOAL_MS = 50.0
WARM = 30
"""Snapshots before any is timed: a model has its month of bars, and says something."""

Models = dict[str, volatility_service_pb2.VolatilityModel]


def models() -> Models:
    """One of each kind, by name."""
    pb = volatility_service_pb2
    bars = pb.RangeModel(estimator=pb.RANGE_ESTIMATOR_GARMAN_KLASS)
    calm = pb.Regime(mean=0.0006, deviation=0.008)
    wild = pb.Regime(mean=-0.001, deviation=0.02)
    return {
        "EWMA": pb.VolatilityModel(model_id="ewma", half_life=23.0),
        "GJR-GARCH": pb.VolatilityModel(
            model_id="gjr", garch=pb.GarchModel(alpha=0.03, beta=0.9, gamma=0.08)
        ),
        "bars, YANG_ZHANG": pb.VolatilityModel(
            model_id="yang-zhang",
            range=pb.RangeModel(estimator=pb.RANGE_ESTIMATOR_YANG_ZHANG),
        ),
        "log-HAR of bars": pb.VolatilityModel(
            model_id="har",
            range=bars,
            har=pb.HarModel(
                daily=0.14, weekly=0.47, monthly=0.33, logarithmic=True, residual_variance=0.3
            ),
        ),
        "two regimes": pb.VolatilityModel(
            model_id="regimes",
            regimes=pb.RegimeSwitching(transition=[0.98, 0.02, 0.05, 0.95], regimes=[calm, wild]),
        ),
    }


@dataclass
class Market:
    """Prices that walk, a day a snapshot."""

    names: tuple[str, ...]
    random: np.random.Generator
    price: np.ndarray
    day: datetime = datetime(2024, 1, 1, 21, tzinfo=UTC)

    @classmethod
    def of(cls, count: int) -> "Market":
        """With this many names."""
        random = np.random.default_rng(0)
        names = tuple(f"INS{i:06d}" for i in range(count))
        return cls(names, random, random.uniform(5.0, 500.0, count))

    def next(self) -> tuple[np.ndarray, Bars]:
        """Closes and bars of the next day."""
        opened = self.price
        self.day += timedelta(days=1)
        self.price = opened * np.exp(self.random.normal(0.0, 0.01, len(opened)))
        high, low = np.maximum(opened, self.price), np.minimum(opened, self.price)
        return self.price, Bars(opened, 1.002 * high, 0.998 * low)


def alone(name: str, count: int, snapshots: int) -> tuple[float, float]:
    """Medians of a step, and of one with its state read and written, ms."""
    market, known = Market.of(count), convert.model(models()[name])
    state, stepped, whole = VolatilityState(), list[float](), list[float]()
    for number in range(WARM + snapshots):
        price, bars = market.next()
        bucket = bucket_of(market.day.timestamp(), known)
        seen = Prices(bucket, market.names, price, bars if known.range else None)
        stored = StoredState(
            model_id=name,
            model_version=1,
            version=number,
            start_time=None,
            as_of_time=market.day,
            snapshot_id="",
            instrument_id=state.instrument_ids,
            payload=convert.payload(state),
            bucket=state.bucket,
            periods=state.periods,
            late=state.late,
        )
        took = time.perf_counter()
        step(convert.state(stored), seen, known)
        read = time.perf_counter() - took
        took = time.perf_counter()
        state = step(state, seen, known)
        moved = time.perf_counter() - took
        took = time.perf_counter()
        convert.payload(state)
        if number >= WARM:
            stepped.append(moved)
            whole.append(read + time.perf_counter() - took)
    return float(np.median(stepped)) * 1e3, float(np.median(whole)) * 1e3


class Snapshots:
    """Market snapshots sent one after the other."""

    def __init__(self, channel: grpc.Channel, count: int) -> None:
        self._stub = market_service_pb2_grpc.MarketServiceStub(channel)
        self._market = Market.of(count)
        self._numbers = iter(range(10**6))

    def put(self, universe_id: str) -> float:
        """Puts the next one of a universe, and says what it took, seconds."""
        price, bars = self._market.next()
        snapshot = market_service_pb2.MarketSnapshot(
            snapshot_id=f"snapshot-{next(self._numbers)}",
            universe_id=universe_id,
            instrument_ids=self._market.names,
            price=price,
            open_price=bars.open,
            high_price=bars.high,
            low_price=bars.low,
        )
        snapshot.as_of_time.FromDatetime(self._market.day)
        request = market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot)
        took = time.perf_counter()
        self._stub.PutMarketSnapshot(request, timeout=120)
        return time.perf_counter() - took


def over_rpc(channel: grpc.Channel, count: int, snapshots: int) -> Iterator[tuple[str, float]]:
    """By model, by how much the median snapshot takes longer that moves it, ms."""
    sent = Snapshots(channel, count)
    volatility = volatility_service_pb2_grpc.VolatilityServiceStub(channel)
    for name, model in models().items():
        model.universe_id = f"of-{model.model_id}"
        request = volatility_service_pb2.PutVolatilityModelRequest(model=model, reason="benchmark")
        volatility.PutVolatilityModel(request, timeout=120)
        for _ in range(WARM):
            sent.put(model.universe_id)
        none, moved = list[float](), list[float]()
        for _ in range(snapshots):
            none.append(sent.put("of-nothing"))
            moved.append(sent.put(model.universe_id))
        yield name, float(np.median(moved) - np.median(none)) * 1e3


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--instruments", type=int, default=10_000)
    parser.add_argument("--snapshots", type=int, default=40)
    arguments = parser.parse_args()
    count, snapshots = arguments.instruments, arguments.snapshots
    rows: dict[str, list[float]] = {name: [*alone(name, count, snapshots)] for name in models()}
    with tempfile.TemporaryDirectory() as folder:
        process, port, _ = start_service(Path(folder), whole=False)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
                for name, more in over_rpc(channel, count, snapshots):
                    rows[name].append(more)
        finally:
            process.terminate()
            process.wait()
    print(
        f"| model, {count:,} instruments | step, ms | with reading and writing | more by RPC, ms |"
    )
    print("|---|---|---|---|")
    for name, figures in rows.items():
        print(f"| {name} | {' | '.join(f'{figure:.1f}' for figure in figures)} |")
    worst = max(figures[-1] for figures in rows.values())
    print(f"goal {GOAL_MS:g} ms: {'met' if worst <= GOAL_MS else 'missed'} (at most {worst:.1f})")


if __name__ == "__main__":
    main()
