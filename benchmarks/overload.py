"""R6: goodput at twice the load the service can take, by callers that don't wait for each other.

    .venv/bin/python -m benchmarks.overload [--seconds 60] [--address HOST:PORT --pid PID]

First what the service can take: callers that ask again as soon as they are answered. Then requests
arrive at random times (Poisson) at twice that rate, each with a deadline of 5 s, whether or not
earlier ones are answered. Goodput is what is answered within its deadline, a second. A request
counts from the moment it was due. The callers run on the same cores as the service and PostgreSQL,
so that twice the load also takes from what serves it: the ratio is a lower bound.
"""

import argparse
import asyncio
import os
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import uvloop
from positionsizing.v1 import sizing_service_pb2, sizing_service_pb2_grpc

from benchmarks.latency import PORTFOLIOS
from benchmarks.serving import OPTIONS, prepare, request_of, start_service

N_LINES = 50
DEADLINE_S = 5.0
CALLERS = 16
CONNECTIONS = 4
OPEN_MAX = 2000
"""Requests under way at once; with more the generator itself would be what is measured."""


@dataclass
class Seen:
    """Latencies of what was answered and of what was refused, and the codes."""

    answered: list[float] = field(default_factory=list)
    shed: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    by_second: Counter[int] = field(default_factory=Counter)
    not_sent: int = 0


class Generator:
    """Asks for sizes of `N_LINES` lines on one portfolio after the other."""

    def __init__(self, address: str, *, is_recorded: bool) -> None:
        self._channels = [
            grpc.aio.insecure_channel(
                address, options=[*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
            )
            for _ in range(CONNECTIONS)
        ]
        self._stubs = [sizing_service_pb2_grpc.SizingServiceStub(c) for c in self._channels]
        self._request = request_of(N_LINES)
        self._request.validate_only = not is_recorded
        self._count = 0

    async def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels:
            await channel.close()

    async def ask(self, seen: Seen, due: float, began: float) -> None:
        """One request."""
        self._count += 1
        request = sizing_service_pb2.SizePositionsRequest()
        request.CopyFrom(self._request)
        request.request_id = str(uuid.uuid4())
        request.portfolio_id = f"load-{self._count % PORTFOLIOS}"
        sent = time.perf_counter()
        try:
            await self._stubs[self._count % CONNECTIONS].SizePositions(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            seen.codes[error.code().name] += 1
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                seen.shed.append(time.perf_counter() - sent)
        else:
            now = time.perf_counter()
            seen.codes["OK"] += 1
            seen.answered.append(now - due)
            seen.by_second[int(now - began)] += 1


async def closed(generator: Generator, seconds: float) -> float:
    """Answers a second to `CALLERS` callers that wait for each."""
    seen, began = Seen(), time.perf_counter()

    async def loop() -> None:
        while time.perf_counter() < began + seconds:
            await generator.ask(seen, time.perf_counter(), began)

    await asyncio.gather(*(loop() for _ in range(CALLERS)))
    return len(seen.answered) / (time.perf_counter() - began)


async def opened(generator: Generator, rate: float, seconds: float) -> Seen:
    """Requests at random times, `rate` a second on average."""
    rng, seen = np.random.default_rng(1), Seen()
    began = time.perf_counter()
    due, running = began, set[asyncio.Task[None]]()
    while True:
        due += rng.exponential(1.0 / rate)
        if due > began + seconds:
            break
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if len(running) >= OPEN_MAX:
            seen.not_sent += 1
            continue
        task = asyncio.create_task(generator.ask(seen, due, began))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return seen


async def measure(address: str, seconds: float, *, is_recorded: bool) -> str:
    """One row of the table."""
    generator = Generator(address, is_recorded=is_recorded)
    await closed(generator, min(3.0, seconds))  # warm-up
    peak = await closed(generator, max(5.0, seconds / 4))
    seen = await opened(generator, 2 * peak, seconds)
    again = await closed(generator, max(5.0, seconds / 4))
    await generator.close()
    ms = np.array(seen.answered or [np.nan]) * 1e3
    shed = np.array(seen.shed or [np.nan]) * 1e3
    worst = min(seen.by_second.get(second, 0) for second in range(1, int(seconds)))
    goodput = len(seen.answered) / seconds
    codes = ", ".join(f"{name} {count}" for name, count in seen.codes.most_common())
    return (
        f"| {'recorded' if is_recorded else 'not recorded'} | {peak:.0f}, {again:.0f} | "
        f"{goodput:.0f} | {goodput / peak:.2f}, {goodput / again:.2f} | {worst} | "
        f"{np.quantile(ms, 0.5):.0f} / {np.quantile(ms, 0.99):.0f} | "
        f"{np.quantile(shed, 0.5):.1f} / {np.quantile(shed, 0.99):.1f} | "
        f"{codes} | {seen.not_sent} |"
    )


def main() -> None:
    """Runs the benchmark and writes its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/overload.md"))
    arguments = parser.parse_args()
    rows = [
        "| 50 lines | peak before, after, /s | goodput at 2 x, /s | ratio to each | worst second | "
        "answered p50 / p99 ms | shed p50 / p99 ms | codes | not sent |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SIZING_DATA_DIR"] = os.environ.get("SIZING_DATA_DIR", f"{folder}/data")
        process, port, _dsn = start_service(Path(folder))
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
                prepare(channel, [f"load-{i}" for i in range(PORTFOLIOS)])
            for is_recorded in (False, True):
                row = measure(f"127.0.0.1:{port}", arguments.seconds, is_recorded=is_recorded)
                rows.append(uvloop.run(row))
                print(rows[-1], flush=True)
        finally:
            process.terminate()
            process.wait(60)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
