"""F7 and F9: latency at half load with commits, and the time from start to SERVING.

    .venv/bin/python -m benchmarks.latency [--seconds 20] [--out benchmarks/results/latency.md]

F9 starts the service in an empty folder (cold: nothing compiled, no database yet) and again in the
same one once all programs are there (warm), each until it has stored a market and a portfolio and
answered its first recorded sizes. F7 first finds what the service can take: callers that ask again
as soon as they are answered, each on portfolios of its own. Then requests arrive at random times
(Poisson) at half that rate, whether or not earlier ones are answered, and the latency of each
counts from the moment it was due, so that waiting is not hidden. The callers run on the same cores
as the service and PostgreSQL: beside the latency stands the processor time of the service and of
the callers a call.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import subprocess
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


@dataclass(frozen=True)
class Start:
    """Seconds from the start of the process, and processor time of it and its children by then."""

    serving_s: float
    first_size_s: float
    cpu_s: float
    memory_mib: float


def cpu_and_memory(pid: int) -> tuple[float, float]:
    """Processor seconds and resident MiB of a process and those it started; PostgreSQL apart."""
    parents, names, cpu, memory = {}, {}, {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                head, rest = (entry / "stat").read_text().rsplit(")", 1)
            except OSError:
                continue
            fields, number = rest.split(), int(entry.name)
            parents[number], names[number] = int(fields[1]), head.split("(", 1)[1]
            cpu[number] = sum(int(fields[i]) for i in range(11, 15)) / os.sysconf("SC_CLK_TCK")
            memory[number] = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    mine = {pid}
    while (
        more := {n for n, p in parents.items() if p in mine and "postgres" not in names[n]} - mine
    ):
        mine |= more
    return sum(cpu.get(n, 0.0) for n in mine), sum(memory.get(n, 0.0) for n in mine)


def started(folder: Path) -> tuple[subprocess.Popen[bytes], int, Start]:
    """The service, once it has answered its first sizes on the portfolio `load-0`."""
    began = time.perf_counter()
    process, port, _dsn = start_service(folder, whole=False)
    serving_s = time.perf_counter() - began
    request = request_of(N_LINES)
    request.portfolio_id, request.validate_only = "load-0", False
    request.request_id = str(uuid.uuid4())
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        with contextlib.suppress(grpc.RpcError):  # it is there from the start before
            prepare(channel, ["load-0"], {"bench-5000": 5000})
        sizing_service_pb2_grpc.SizingServiceStub(channel).SizePositions(request, timeout=600)
    first_size_s = time.perf_counter() - began
    return process, port, Start(serving_s, first_size_s, *cpu_and_memory(process.pid))


def wait_for_all(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Returns when the service says that all its programs are there."""
    while process.poll() is None and "all kernels are there" not in (
        folder / "serve.log"
    ).read_text(errors="replace"):
        time.sleep(0.5)


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
    parser.add_argument("--seconds", type=float, default=20.0, help="of F7; 0: only starts")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/latency.md"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SIZING_DATA_DIR"] = str(Path(folder) / "data")
        starts, all_of_it = list[Start](), list[tuple[float, float]]()
        for _ in range(2):
            process, port, start = started(Path(folder))
            starts.append(start)
            try:
                wait_for_all(Path(folder), process)
                all_of_it.append(cpu_and_memory(process.pid))
                if len(starts) == 2 and arguments.seconds:
                    with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
                        prepare(channel, [f"load-{i}" for i in range(1, PORTFOLIOS)])
                    most, half = asyncio.run(half_load(port, process.pid, arguments.seconds))
            finally:
                process.terminate()
                process.wait(60)
    cold, warm = starts
    rows = [
        "| figure | measured | goal |",
        "|---|---|---|",
        "| F9: start to first size, warm / cold, s | "
        f"{warm.first_size_s:.1f} / {cold.first_size_s:.1f} | 5 / 30 |",
        f"| start to SERVING, warm / cold, s | {warm.serving_s:.1f} / {cold.serving_s:.1f} | |",
        "| processor time until the first size, warm / cold, s | "
        f"{warm.cpu_s:.1f} / {cold.cpu_s:.1f} | |",
        "| processor time until everything is there, warm / cold, s | "
        f"{all_of_it[1][0]:.1f} / {all_of_it[0][0]:.1f} | 90 |",
        f"| resident MiB with everything there, warm | {all_of_it[1][1]:.0f} | 700 |",
    ]
    if arguments.seconds:
        rows += [
            f"| F7: {N_LINES} lines with commit at {half.rate:.0f}/s, half of the "
            f"{most.rate:.0f}/s it can take: p50 / p99 ms | {half.p50_ms:.2f} / {half.p99_ms:.2f} "
            "| p99 10 |",
            "| CPU ms a call at that load, service / callers | "
            f"{half.service_cpu_ms:.2f} / {half.callers_cpu_ms:.2f} | |",
        ]
    table = "\n".join(rows)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
