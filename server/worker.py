"""Long work in a process of its own: it never holds the event loop, and ends when it is told to.

    await Worker(folder).run("RunBacktest", request, deadline_s=60.0)   ->  the encoded answer

`python -m server.worker METHOD FOLDER` is the other end: it reads a request from standard input and
writes the answer, or with exit code `REFUSED` a refusal as JSON, to standard output. It runs at low
priority; one at a time, in the order of arrival.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message

from server.errors import FieldViolation, Refusal

_log = structlog.get_logger(__name__)

REFUSED = 3
NICE = 10
WAITING_MAX = 16
"""Calls that may wait for their turn."""


class Worker:
    """Runs one piece of long work at a time, each in a process that is killed when time is over."""

    def __init__(self, cache_dir: Path) -> None:
        """cache_dir: where compiled programs are kept between processes."""
        self._cache_dir = cache_dir
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def run(self, method: str, request: Message, *, deadline_s: float) -> bytes:
        """The encoded answer. Raises `Refusal`: the work's own, too busy, or out of time."""
        if self._waiting >= WAITING_MAX:
            text = f"{WAITING_MAX} calls of this kind wait already"
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY", text, retry_after_s=5.0)
        self._waiting += 1
        try:
            async with asyncio.timeout(deadline_s):
                async with self._turn:
                    return await self._in_process(method, request.SerializeToString())
        except TimeoutError as error:
            text = f"not done within {deadline_s:.0f} s: give a longer deadline, or less to do"
            raise Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "OUT_OF_TIME", text) from error
        finally:
            self._waiting -= 1

    async def _in_process(self, method: str, content: bytes) -> bytes:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server.worker",
            method,
            str(self._cache_dir),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            answer, errors = await process.communicate(content)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode == REFUSED:
            raise _refusal(answer)
        if process.returncode != 0:
            _log.error("worker failed", method=method, code=process.returncode, log=errors[-4000:])
            text = "the work failed; the server's log says more"
            raise Refusal(grpc.StatusCode.INTERNAL, "INTERNAL", text)
        return answer


def main() -> int:
    """Does one piece of work."""
    method, folder = sys.argv[1], Path(sys.argv[2])
    os.nice(NICE)
    _prepare_jax(folder)
    read, work = _WORK[method]()
    try:
        answer = work(read(sys.stdin.buffer.read()))
    except Refusal as refusal:
        sys.stdout.buffer.write(_refusal_bytes(refusal))
        return REFUSED
    sys.stdout.buffer.write(answer.SerializeToString())
    return 0


def _prepare_jax(folder: Path) -> None:
    """Programs compiled by earlier workers are taken from the folder."""
    import jax

    os.environ.setdefault("PJRT_NPROC", "1")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _refusal_bytes(refusal: Refusal) -> bytes:
    fields = [(item.field, item.reason, item.description) for item in refusal.fields]
    told = (refusal.code.name, refusal.reason, refusal.message, fields, dict(refusal.metadata))
    return json.dumps(told).encode()


def _refusal(content: bytes) -> Refusal:
    code, reason, message, fields, metadata = json.loads(content)
    violations = tuple(FieldViolation(*item) for item in fields)
    return Refusal(grpc.StatusCode[code], reason, message, violations, metadata)


_Work = tuple[Callable[[bytes], Any], Callable[[Any], Message]]


def _backtest() -> _Work:
    from positionsizing.v1 import simulation_service_pb2 as pb

    from server.simulate import run_backtest

    return pb.RunBacktestRequest.FromString, run_backtest


def _growth() -> _Work:
    from positionsizing.v1 import simulation_service_pb2 as pb

    from server.simulate import simulate_growth

    return pb.SimulateGrowthRequest.FromString, simulate_growth


def _training() -> _Work:
    from positionsizing.v1 import learning_service_pb2 as pb

    from server.learning import train_model

    return pb.TrainModelRequest.FromString, train_model


def _tune() -> _Work:
    from server.tune import work

    return work()


_WORK: dict[str, Callable[[], _Work]] = {
    "RunBacktest": _backtest,
    "SimulateGrowth": _growth,
    "TuneParameters": _tune,
    "TrainModel": _training,
}
"""Imported when asked for: a worker needs only its own."""

if __name__ == "__main__":
    sys.exit(main())
