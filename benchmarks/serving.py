"""F1, F2, F10: what sizing costs on top of moving the same messages and committing the same rows.

    .venv/bin/python -m benchmarks.serving [--calls 400] [--out benchmarks/results/serving.md]

Starts the service on an embedded PostgreSQL and, beside it, a bare gRPC echo of the same kind
(grpc.aio, uvloop) that decodes the same request and encodes the same answer, once without and once
with one hand-written durable transaction of the same rows. Calls alternate between them, so that
both see the same machine.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import grpc
import numpy as np
import uvloop
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    market_service_pb2_grpc,
    portfolio_service_pb2,
    portfolio_service_pb2_grpc,
    sizing_pb2,
    sizing_service_pb2,
    sizing_service_pb2_grpc,
)

from storage.postgres import binary

OPTIONS = [
    ("grpc.max_receive_message_length", 256 << 20),
    ("grpc.max_send_message_length", 256 << 20),
]
LINES = (1, 16, 64, 256, 1024, 8192, 50_000, 100_000)
MARKETS = {"bench-5000": 5000, "bench-100000": LINES[-1]}
"""F1 and F2 use a market of usual size, F10 one that holds its largest request."""


@dataclass(frozen=True)
class Timing:
    """Quantiles of one series of calls, and processor time of its server a call; milliseconds."""

    p50_ms: float
    p99_ms: float
    cpu_ms: float

    @classmethod
    def of(cls, seconds: list[float], cpu_s: float) -> "Timing":
        """The quantiles of a series."""
        ms = np.array(seconds) * 1e3
        p50, p99 = np.quantile(ms, (0.5, 0.99))
        return cls(float(p50), float(p99), cpu_s * 1e3 / len(ms))


@dataclass(frozen=True)
class Peer:
    """A channel to a server and the id of its process."""

    channel: grpc.aio.Channel
    pid: int

    def cpu_s(self) -> float:
        """Processor time of the server so far; on Linux only, elsewhere 0."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request_of(n_lines: int, market: str = "bench-5000") -> sizing_service_pb2.SizePositionsRequest:
    """A request of many two-outcome signals with uncertain probabilities."""
    rng = np.random.default_rng(n_lines)
    return sizing_service_pb2.SizePositionsRequest(
        request_id=str(uuid.uuid4()),
        portfolio_id=f"bench-{n_lines}",
        market_snapshot_id=market,
        signals=sizing_pb2.SignalBatch(
            instrument_ids=[f"INS{i:06d}" for i in range(n_lines)],
            side=[1] * n_lines,
            win_probability=rng.uniform(0.5, 0.6, n_lines),
            payoff=np.full(n_lines, 1.1),
            loss_fraction=np.ones(n_lines),
            win_probability_error=np.full(n_lines, 0.02),
        ),
        validate_only=True,
    )


def prepare(
    channel: grpc.Channel,
    portfolio_ids: Sequence[str] = tuple(f"bench-{n}" for n in LINES),
    markets: Mapping[str, int] = MARKETS,
) -> None:
    """The markets, and portfolios with their limits."""
    rng = np.random.default_rng(0)
    for name, n in markets.items():
        snapshot = market_service_pb2.MarketSnapshot(
            snapshot_id=name,
            instrument_ids=[f"INS{i:06d}" for i in range(n)],
            price=rng.uniform(5, 500, n),
            volatility=np.full(n, 0.3),
            average_daily_volume=np.full(n, 1e6),
        )
        snapshot.as_of_time.GetCurrentTime()
        request = market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot)
        try:
            market_service_pb2_grpc.MarketServiceStub(channel).PutMarketSnapshot(
                request, timeout=60
            )
        except grpc.RpcError as error:  # of an earlier start on the same data
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
    portfolios = portfolio_service_pb2_grpc.PortfolioServiceStub(channel)
    for portfolio_id in portfolio_ids:
        portfolio = portfolio_service_pb2.Portfolio(
            portfolio_id=portfolio_id, base_currency="USD", cash=1e12
        )
        portfolios.CreatePortfolio(
            portfolio_service_pb2.CreatePortfolioRequest(portfolio=portfolio)
        )
        limits = limits_pb2.Limits(weight_max=0.01, leverage_max=1.0, adv_trade_max=0.1)
        scope = portfolio_service_pb2.Scope(portfolio_id=portfolio.portfolio_id)
        portfolios.SetLimits(portfolio_service_pb2.SetLimitsRequest(scope=scope, limits=limits))


def serve_echo(answer: bytes, dsn: str, port: "multiprocessing.Queue[int]") -> None:
    """The peer: decode, encode; unless it only validates, one durable commit of the same rows.

    Its rows go the fastest way there is, the binary COPY that the service itself uses.
    """

    async def main() -> None:
        pool = await asyncpg.create_pool(
            dsn, min_size=4, max_size=4, server_settings={"synchronous_commit": "on"}
        )
        response = sizing_service_pb2.SizePositionsResponse.FromString(answer)
        await pool.execute(
            """CREATE TABLE IF NOT EXISTS bench_decision (id uuid PRIMARY KEY, request bytea,
            response bytea, inputs bytea, instrument_id text[], lots int8[], weight float8[],
            notional float8[], price float8[], status int2[])"""
        )
        for table, columns in (
            ("bench_request", "request bytea, response bytea"),
            ("bench_outbox", "payload bytea"),
            ("bench_reservation", "ids text[], lots int8[], size float8[], p float8[], c float8[]"),
        ):
            await pool.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (id uuid PRIMARY KEY, {columns})"
            )
        sizes = response.decision.sizes
        names = tuple(sizes.instrument_ids)
        lots, status = np.array(sizes.lots), np.array(sizes.line_status)
        weight, notional, price = (
            np.array(column) for column in (sizes.weight, sizes.notional, sizes.price)
        )

        async def commit(request: bytes) -> None:
            row = uuid.uuid4()
            ids, columns = binary.text_array(names), (weight, notional, price)
            floats = [binary.float8_array(column) for column in columns]
            decision = [row.bytes, b"{}", ids, binary.int8_array(lots), *floats]
            reserved = [row.bytes, ids, binary.int8_array(lots), *floats]
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(
                    "INSERT INTO bench_request VALUES ($1, $2, $3)", row, request, answer
                )
                await binary.copy_in(
                    connection,
                    "bench_decision",
                    [
                        "id",
                        "inputs",
                        "instrument_id",
                        "lots",
                        "weight",
                        "notional",
                        "price",
                        "status",
                    ],
                    [[*decision, binary.int2_array(status)]],
                )
                await binary.copy_in(
                    connection,
                    "bench_reservation",
                    ["id", "ids", "lots", "size", "p", "c"],
                    [reserved],
                )
                await connection.execute("INSERT INTO bench_outbox VALUES ($1, $2)", row, answer)

        class Echo(sizing_service_pb2_grpc.SizingServiceServicer):
            async def SizePositions(self, request, context):  # type: ignore[no-untyped-def,override]
                if not request.validate_only:
                    await commit(request.SerializeToString())
                return response

        server = grpc.aio.server(options=OPTIONS)
        sizing_service_pb2_grpc.add_SizingServiceServicer_to_server(Echo(), server)
        port.put(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    uvloop.run(main())


async def measure(
    ours: Peer,
    peer: Peer,
    n_lines: int,
    calls: int,
    *,
    commit: bool,
    market: str = "bench-5000",
) -> tuple[Timing, Timing]:
    """Alternating calls to both; the first tenth is warm-up."""
    request = request_of(n_lines, market)
    both = ours, peer
    stubs = [sizing_service_pb2_grpc.SizingServiceStub(item.channel) for item in both]
    spent: list[list[float]] = [[], []]
    used = [0.0, 0.0]
    for call in range(calls + calls // 10):
        if call == calls // 10:
            used = [-item.cpu_s() for item in both]
        for series, stub in enumerate(stubs):
            request.validate_only = not commit
            request.request_id = str(uuid.uuid4())
            started = time.perf_counter()
            await stub.SizePositions(request, timeout=60)
            if call >= calls // 10:
                spent[series].append(time.perf_counter() - started)
    used = [before + item.cpu_s() for before, item in zip(used, both, strict=True)]
    return Timing.of(spent[0], used[0]), Timing.of(spent[1], used[1])


def start_service(
    folder: Path, *, whole: bool = True, dsn: str = ""
) -> tuple[subprocess.Popen[bytes], int, str]:
    """The service on a free port, its embedded server's DSN beside it.

    whole: wait until every program is there, not only until it serves. dsn: of a database that is
    there already, instead of an embedded server.
    """
    data = os.environ.get("SIZING_DATA_DIR", str(folder / "data"))
    log = (folder / "serve.log").open("wb")
    environment = {**os.environ, "SIZING_DATA_DIR": data, "SIZING_DEADLINE_DEFAULT_S": "60"}
    if dsn:
        environment["SIZING_DSN"] = dsn
    command = [str(Path(sys.executable).parent / "sizing"), "serve", "--port", "0"]
    process = subprocess.Popen(command, env=environment, stderr=log, stdout=log)
    give_up = time.monotonic() + 3600
    while time.monotonic() < give_up and process.poll() is None:
        text = (folder / "serve.log").read_text()
        if "address=" in text and (not whole or "all kernels are there" in text):
            port = int(re.findall(r"address=127\.0\.0\.1:(\d+)", text)[-1])
            socket = Path(data).resolve() / "postgres" / "socket"
            return process, port, dsn or f"postgresql://postgres@/sizing?host={socket}"
        time.sleep(0.2)
    raise SystemExit((folder / "serve.log").read_text())


def connected(port: int, pid: int) -> Peer:
    """The server at a port."""
    return Peer(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS), pid)


async def run(ours: Peer, peer: Peer, calls: int) -> dict[str, object]:
    """All figures."""
    plain, echo = await measure(ours, peer, 1024, calls, commit=False)
    stored, committed = await measure(ours, peer, 1024, max(calls // 2, 20), commit=True)
    per_line = {}
    for n_lines in LINES:
        repeat = max(5, min(100, 200_000 // n_lines))
        timing, _ = await measure(ours, ours, n_lines, repeat, commit=False, market="bench-100000")
        per_line[n_lines] = timing.p50_ms * 1e3 / n_lines
    for item in (ours, peer):
        await item.channel.close()
    return {
        "F1": {"ours": plain.__dict__, "echo": echo.__dict__},
        "F2": {"ours": stored.__dict__, "echo_and_commit": committed.__dict__},
        "F10_us_per_line": per_line,
    }


def table(figures: dict[str, object]) -> str:
    """The figures as Markdown."""
    rows = [
        "| figure | ours p50 / p99 ms | peer p50 / p99 ms | ratio p50 | ratio p99 | goal "
        "| CPU ms a call, ours / peer |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, peer, goal in (
        ("F1", "echo", "1.3 / 1.5"),
        ("F2", "echo_and_commit", "1.3"),
    ):
        both = figures[name]
        assert isinstance(both, dict)
        a, b = both["ours"], both[peer]
        rows.append(
            f"| {name}: 1,024 lines against {peer.replace('_', ' ')} "
            f"| {a['p50_ms']:.2f} / {a['p99_ms']:.2f} | {b['p50_ms']:.2f} / {b['p99_ms']:.2f} "
            f"| {a['p50_ms'] / b['p50_ms']:.2f} | {a['p99_ms'] / b['p99_ms']:.2f} | {goal} "
            f"| {a['cpu_ms']:.2f} / {b['cpu_ms']:.2f} |"
        )
    rows += ["", "| F10: lines | µs a line, p50 |", "|---|---|"]
    per_line = figures["F10_us_per_line"]
    assert isinstance(per_line, dict)
    rows += [f"| {n:,} | {us:.2f} |" for n, us in per_line.items()]
    return "\n".join(rows) + "\n"


def main() -> None:
    """Runs the benchmark and writes its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serving.md"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, port, dsn = start_service(Path(folder))
        context = multiprocessing.get_context("spawn")
        echo = None
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
                prepare(channel)
                stub = sizing_service_pb2_grpc.SizingServiceStub(channel)
                answer = stub.SizePositions(request_of(1024)).SerializeToString()
            queue: multiprocessing.Queue[int] = context.Queue()
            echo = context.Process(target=serve_echo, args=(answer, dsn, queue), daemon=True)
            echo.start()
            echo_port = queue.get(timeout=60)

            async def figures_of(echo_pid: int) -> dict[str, object]:
                ours, peer = connected(port, process.pid), connected(echo_port, echo_pid)
                return await run(ours, peer, arguments.calls)

            assert echo.pid is not None
            figures = asyncio.run(figures_of(echo.pid))
        finally:
            if echo is not None:
                echo.kill()
            process.terminate()
            process.wait(30)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(table(figures))
    arguments.out.with_suffix(".json").write_text(json.dumps(figures, indent=1))
    print(table(figures))
    print(f"answer of 1,024 lines: {len(answer):,} bytes")


if __name__ == "__main__":
    main()
