"""What a decision costs with one, two, three and four servers on one database.

    .venv/bin/python -m benchmarks.scale [--seconds 20] [--replicas 1 2 3 4]

Servers of the service on one PostgreSQL, each with eight callers that commit 50 lines to portfolios
of their own, as soon as they are answered. On few cores the rate cannot rise with servers; what has
to stay is the cost of a decision: processor time of the servers and of PostgreSQL, and WAL. On as
many cores as servers the same command gives the curve, to which the Universal Scalability Law is
fitted:

    X(n) = r n / (1 + s (n - 1) + k n (n - 1))

r: decisions a second of one server; s: share of the work that is done one after the other; k: what
each pair of servers costs (Gunther, "Guerrilla Capacity Planning", 2007, ch. 6).
"""

import argparse
import asyncio
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import grpc
import numpy as np
import psutil
import uvloop
from positionsizing.v1 import sizing_service_pb2_grpc
from scipy.optimize import nnls

from benchmarks.serving import OPTIONS, prepare, request_of, start_service

N_LINES, CALLERS = 50, 8
WARM_S = 3.0


@dataclass(frozen=True)
class Server:
    """A server of the service: its process and where it listens."""

    process: "subprocess.Popen[bytes]"
    port: int


@dataclass(frozen=True)
class Cost:
    """Of one run: decisions a second, and each one's processor time and WAL."""

    replicas: int
    rate: float
    p99_ms: float
    service_ms: float
    postgres_ms: float
    wal_kib: float


def processor_s(*roots: int) -> tuple[float, float]:
    """Processor time of processes and of all they started: of PostgreSQL, and of the others."""
    pids = {pid for root in roots for pid in _family(root)}
    postgres = others = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        spent = sum(process.cpu_times()[:2])
        if process.name() == "postgres":
            postgres += spent
        else:
            others += spent
    return postgres, others


def _family(root: int) -> list[int]:
    process = psutil.Process(root)
    return [root, *(child.pid for child in process.children(recursive=True))]


async def load(port: int, portfolios: Sequence[str], until: float, seconds: list[float]) -> None:
    """Callers of one server, each with a portfolio, until the time is over."""
    request = request_of(N_LINES)
    request.validate_only = False

    async def caller(stub: sizing_service_pb2_grpc.SizingServiceStub, name: str) -> None:
        mine = type(request)()
        mine.CopyFrom(request)
        mine.portfolio_id = name
        while time.perf_counter() < until:
            mine.request_id = str(uuid.uuid4())
            began = time.perf_counter()
            await stub.SizePositions(mine, timeout=60)
            seconds.append(time.perf_counter() - began)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        stub = sizing_service_pb2_grpc.SizingServiceStub(channel)
        await asyncio.gather(*(caller(stub, name) for name in portfolios))


async def measured(servers: Sequence[Server], dsn: str, postmaster: int, seconds: float) -> Cost:
    """One run with these servers."""
    connection = await asyncpg.connect(dsn)
    names = [[f"scale-{number}-{i}" for i in range(CALLERS)] for number in range(len(servers))]
    pids = [server.process.pid for server in servers]

    async def run(duration: float) -> list[float]:
        spent: list[float] = []
        until = time.perf_counter() + duration
        await asyncio.gather(
            *(
                load(server.port, portfolios, until, spent)
                for server, portfolios in zip(servers, names, strict=True)
            )
        )
        return spent

    await run(WARM_S)
    begun = await connection.fetchval("SELECT pg_current_wal_lsn()")
    before = processor_s(*pids, postmaster)
    spent = await run(seconds)
    postgres, service = np.subtract(processor_s(*pids, postmaster), before)
    wal = await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), $1)", begun)
    await connection.close()
    n = len(spent)
    return Cost(
        replicas=len(servers),
        rate=n / seconds,
        p99_ms=1e3 * float(np.quantile(spent, 0.99)),
        service_ms=1e3 * service / n,
        postgres_ms=1e3 * postgres / n,
        wal_kib=float(wal) / 1024 / n,
    )


def scalability(replicas: Sequence[int], rates: Sequence[float]) -> tuple[float, float, float]:
    """r, s and k of the law, none negative; n / X is linear in 1/r, s/r and k/r: least squares."""
    n = np.asarray(replicas, float)
    columns = np.column_stack([np.ones_like(n), n - 1.0, n * (n - 1.0)])
    (one, serial, pairs), _ = nnls(columns, n / np.asarray(rates))
    return 1.0 / one, serial / one, pairs / one


TABLE = """\
| servers | decisions a second | p99, ms | servers, ms each | PostgreSQL, ms each | WAL each, KiB |
|---|---|---|---|---|---|"""


def row(cost: Cost) -> str:
    """A line of the table."""
    figures = (cost.rate, cost.p99_ms, cost.service_ms, cost.postgres_ms, cost.wal_kib)
    return f"| {cost.replicas} | " + " | ".join(f"{figure:.4g}" for figure in figures) + " |"


def main() -> None:
    """Prints a row for each number of servers, and the law."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 3, 4])
    arguments = parser.parse_args()
    costs: list[Cost] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = os.environ.setdefault("SIZING_DATA_DIR", f"{folder}/data")
        process, port, dsn = start_service(folder)
        servers = [Server(process, port)]
        pid_file = Path(data).resolve() / "postgres" / "pgdata" / "postmaster.pid"
        postmaster = int(pid_file.read_text().split()[0])
        try:
            most = max(arguments.replicas)
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
                prepare(channel, [f"scale-{n}-{i}" for n in range(most) for i in range(CALLERS)])
            print(TABLE, flush=True)
            for replicas in arguments.replicas:
                while len(servers) < replicas:
                    (own := folder / str(len(servers))).mkdir()
                    process, port, _ = start_service(own, dsn=dsn)
                    servers.append(Server(process, port))
                run = measured(servers[:replicas], dsn, postmaster, arguments.seconds)
                costs.append(uvloop.run(run))
                print(row(costs[-1]), flush=True)
        finally:
            for server in reversed(servers):
                server.process.terminate()
                server.process.wait(60)
    r, s, k = scalability([cost.replicas for cost in costs], [cost.rate for cost in costs])
    law = f"X(n) = {r:.0f} n / (1 + {s:.3f} (n - 1) + {k:.4f} n (n - 1))"
    print(f"\n{law} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
