"""F7 and F9: latency at half load with commits, and the time from start to SERVING.

    .venv/bin/python -m benchmarks.latency [--seconds 20] [--out benchmarks/results/latency.md]

F9 starts the service in an empty folder (cold: nothing compiled, no database yet) and again in the
same one (warm). F7 first finds what the service can take: callers that ask again as soon as they
are answered, each on portfolios of its own. Then requests arrive at random times (Poisson) at half
that rate, whether or not earlier ones are answered, and the latency of each counts from the moment
it was due, so that waiting is not hidden. The callers run on the same cores as the service and
PostgreSQL: beside the latency stands the processor time of the service and of the callers a call.
"""

import argparse
import asyncio
import itertools
import os
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from positionsizing.v1 import sizing_service_pb2, sizing_service_pb2_grpc

from benchmarks.serving import OPTIONS, Peer, connected, prepare, request_of, start_service

N_LINES = 50
CALLERS = 16
PORTFOLIOS = 64


@dataclass(frozen=True)
class Load:
    """Requests a second, quantiles of their latency, and processor time a request."""

    rate: float
    p50_ms: float
    p99_ms: float
    service_cpu_ms: float
    callers_cpu_ms: float


class Measure:
    """Takes the latency of each request from `started` on."""

    def __init__(self, service: Peer) -> None:
        self._service = service
        self.started = time.perf_counter()
        self._service_cpu_s, self._callers_cpu_s = service.cpu_s(), time.process_time()
        self.spent: list[float] = []

    def load(self) -> Load:
        """What was measured up to now."""
        took, ms = time.perf_counter() - self.started, np.array(self.spent) * 1e3
        return Load(
            rate=len(ms) / took,
            p50_ms=float(np.quantile(ms, 0.5)),
            p99_ms=float(np.quantile(ms, 0.99)),
            service_cpu_ms=1e3 * (self._service.cpu_s() - self._service_cpu_s) / len(ms),
            callers_cpu_ms=1e3 * (time.process_time() - self._callers_cpu_s) / len(ms),
        )


class Caller:
    """Asks for sizes of `N_LINES` lines, recorded, on one portfolio after the other."""

    def __init__(self, service: Peer) -> None:
        self.service = service
        self._stub = sizing_service_pb2_grpc.SizingServiceStub(service.channel)
        self._portfolios = itertools.cycle(f"load-{i}" for i in range(PORTFOLIOS))
        self._request = request_of(N_LINES)

    async def ask(self) -> None:
        """One request."""
        request = sizing_service_pb2.SizePositionsRequest()
        request.CopyFrom(self._request)
        request.request_id = str(uuid.uuid4())
        request.portfolio_id = next(self._portfolios)
        request.validate_only = False
        await self._stub.SizePositions(request, timeout=30)


async def capacity(caller: Caller, duration_s: float) -> Load:
    """As many requests as `CALLERS` callers get answered."""
    measure = Measure(caller.service)

    async def loop() -> None:
        while (started := time.perf_counter()) < measure.started + duration_s:
            await caller.ask()
            measure.spent.append(time.perf_counter() - started)

    await asyncio.gather(*(loop() for _ in range(CALLERS)))
    return measure.load()


async def at_rate(caller: Caller, rate: float, duration_s: float) -> Load:
    """Requests that come at random times, `rate` a second on average."""
    waits = np.random.default_rng(0).exponential(1.0 / rate, int(rate * duration_s))
    measure = Measure(caller.service)

    async def one(due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await caller.ask()
        measure.spent.append(time.perf_counter() - due)

    await asyncio.gather(*(one(measure.started + after) for after in np.cumsum(waits)))
    return measure.load()


async def half_load(port: int, pid: int, duration_s: float) -> tuple[Load, Load]:
    """What the service can take, and latency at half of it."""
    service = connected(port, pid)
    async with service.channel:
        caller = Caller(service)
        await capacity(caller, min(5.0, duration_s))  # warm-up
        most = await capacity(caller, duration_s)
        return most, await at_rate(caller, most.rate / 2, duration_s)


def main() -> None:
    """Runs the benchmark and writes its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/latency.md"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SIZING_DATA_DIR"] = str(Path(folder) / "data")
        starts = []
        for _ in range(2):
            began = time.perf_counter()
            process, port, _dsn = start_service(Path(folder))
            starts.append(time.perf_counter() - began)
            try:
                if len(starts) == 2:
                    with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
                        prepare(channel, [f"load-{i}" for i in range(PORTFOLIOS)])
                    most, half = asyncio.run(half_load(port, process.pid, arguments.seconds))
            finally:
                process.terminate()
                process.wait(30)
    cold_s, warm_s = starts
    table = "\n".join(
        [
            "| figure | measured | goal |",
            "|---|---|---|",
            f"| F7: {N_LINES} lines with commit at {half.rate:.0f}/s, half of the "
            f"{most.rate:.0f}/s it can take: p50 / p99 ms | {half.p50_ms:.2f} / {half.p99_ms:.2f} "
            "| p99 10 |",
            "| CPU ms a call at that load, service / callers | "
            f"{half.service_cpu_ms:.2f} / {half.callers_cpu_ms:.2f} | |",
            f"| F9: start to SERVING, warm / cold, s | {warm_s:.1f} / {cold_s:.1f} | 10 / 60 |",
        ]
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
