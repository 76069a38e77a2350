"""Whether a stream of requests would be faster than calls: the transport alone, by turns.

    .venv/bin/python -m benchmarks.streaming [--calls 2000]

A bare server on grpc.aio and uvloop decodes requests of 50 lines and encodes answers of their size,
as unary calls and over one bidirectional stream. First one at a time, then 16 under way. Beside it
stands what the service itself spends on such a call (F7), which the transport is a part of.
"""

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import numpy as np
import uvloop
from positionsizing.v1 import sizing_pb2
from positionsizing.v1.sizing_service_pb2 import SizePositionsRequest as Request
from positionsizing.v1.sizing_service_pb2 import SizePositionsResponse as Response

from benchmarks.serving import OPTIONS, Peer, request_of

N_LINES, N_STAGES, UNDER_WAY, ROUNDS = 50, 8, 16, 5
UNARY, STREAM = "/bench.Echo/Unary", "/bench.Echo/Stream"
Ask = Callable[[Request], Awaitable[Response]]


def answer_of(n_lines: int) -> Response:
    """An answer with the columns of a decision."""
    numbers = np.random.default_rng(0).uniform(size=n_lines)
    ids = [f"INS{i:06d}" for i in range(n_lines)]
    sizes = sizing_pb2.PositionSizes(
        instrument_ids=ids, lots=[1000] * n_lines, weight=numbers, notional=numbers, price=numbers
    )
    stages = [sizing_pb2.WaterfallStage(weight=numbers) for _ in range(N_STAGES)]
    waterfall = sizing_pb2.Waterfall(stages=stages)
    return Response(decision=sizing_pb2.SizingDecision(sizes=sizes, waterfall=waterfall))


def serve(port: "multiprocessing.Queue[int]") -> None:
    """Both ways to ask, in a process of its own."""

    async def main() -> None:
        answer = answer_of(N_LINES)

        async def unary(_request: Request, _context: object) -> Response:
            return answer

        async def stream(
            requests: AsyncIterator[Request], _context: object
        ) -> AsyncIterator[Response]:
            async for _ in requests:
                yield answer

        codec = {
            "request_deserializer": Request.FromString,
            "response_serializer": Response.SerializeToString,
        }
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(unary, **codec),
            "Stream": grpc.stream_stream_rpc_method_handler(stream, **codec),
        }
        server = grpc.aio.server(options=OPTIONS)
        generic = grpc.method_handlers_generic_handler("bench.Echo", handlers)
        server.add_generic_rpc_handlers((generic,))
        port.put(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    uvloop.run(main())


class Streamed:
    """Requests over one stream; answers come in their order."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call = channel.stream_stream(
            STREAM,
            request_serializer=Request.SerializeToString,
            response_deserializer=Response.FromString,
        )()
        self._waiting: asyncio.Queue[asyncio.Future[Response]] = asyncio.Queue()
        self._writing = asyncio.Lock()
        self._reader = asyncio.create_task(self._read())

    async def ask(self, request: Request) -> Response:
        """The answer to one request."""
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        async with self._writing:
            self._waiting.put_nowait(answer)
            await self._call.write(request)
        return await answer

    async def _read(self) -> None:
        async for answer in self._call:
            (await self._waiting.get()).set_result(answer)

    async def close(self) -> None:
        """Ends the stream."""
        await self._call.done_writing()
        await self._reader


async def timed(ask: Ask, calls: int, under_way: int) -> tuple[list[float], float]:
    """Seconds of each call, and calls a second."""
    request, seconds = request_of(N_LINES), []

    async def caller() -> None:
        for _ in range(calls // under_way):
            began = time.perf_counter()
            await ask(request)
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(under_way)))
    return seconds, len(seconds) / (time.perf_counter() - began)


async def measure(address: str, pid: int, calls: int) -> list[str]:
    """A row for each way to ask and number under way."""
    rows = []
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        unary = channel.unary_unary(
            UNARY,
            request_serializer=Request.SerializeToString,
            response_deserializer=Response.FromString,
        )
        streamed, peer = Streamed(channel), Peer(channel, pid)
        ways: dict[str, Ask] = {"unary": unary, "stream": streamed.ask}
        for under_way in (1, UNDER_WAY):
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            rates: dict[str, list[float]] = {name: [] for name in ways}
            used = dict.fromkeys(ways, 0.0)
            for turn in range(ROUNDS + 1):  # the first doesn't count
                for name, ask in ways.items():
                    before = peer.cpu_s()
                    found, rate = await timed(ask, calls, under_way)
                    if turn:
                        seconds[name] += found
                        rates[name].append(rate)
                        used[name] += peer.cpu_s() - before
            for name in ways:
                p50, p99 = 1e3 * np.quantile(seconds[name], (0.5, 0.99))
                spent = 1e3 * used[name] / len(seconds[name])
                figures = f"{p50:.2f} / {p99:.2f} | {np.median(rates[name]):.0f} | {spent:.2f}"
                rows.append(f"| {name}, {under_way} under way | {figures} |")
        await streamed.close()
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=2000)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    port: multiprocessing.Queue[int] = context.Queue()
    server = context.Process(target=serve, args=(port,), daemon=True)
    server.start()
    assert server.pid is not None
    print("| 50 lines | p50 / p99, ms | calls a second | server's processor time a call, ms |")
    print("|---|---|---|---|")
    print("\n".join(uvloop.run(measure(f"127.0.0.1:{port.get()}", server.pid, arguments.calls))))
    server.terminate()


if __name__ == "__main__":
    main()
