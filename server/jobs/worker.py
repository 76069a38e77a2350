"""Long work in a process of its own: it never holds the event loop, and ends when it is told to.

    await Worker(Means(folder)).run("RunBacktest", request, deadline_s=60.0)  ->  encoded answer

`python -m server.jobs.worker METHOD NICE MEANS` is the other end, with `Means` as JSON: it reads a
request from standard input and writes the answer, or with exit code `REFUSED` a refusal as JSON, to
standard output. It runs at low priority; one at a time, in the order of arrival.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.message import Message

from server.calls.errors import FieldViolation, Refusal
from server.jobs import progress
from server.jobs.child import exchange

if TYPE_CHECKING:  # a worker brings only what its work needs
    from compute.simulate.fast_settings import RunChunks

_log = structlog.get_logger(__name__)

REFUSED = 3
NICE = 10
WAITING_MAX = 16
"""Calls that may wait for their turn."""

Told = Callable[[float], None]
"""Hears the part of the work that is done."""


@dataclass(frozen=True)
class Means:
    """What work may use.

    cache_dir: where compiled programs are kept between processes. algorithms_file: settings of the
    custom algorithms that backtests may ask. cluster: HOST:PORT of the Ray cluster that backtests
    in mode FAST and searches run on; None: this machine. keeps_chunks: keep what of backtests and
    searches is done until all is, so that work that was ended goes on from it; a cluster always
    does of what runs on it.
    """

    cache_dir: Path
    algorithms_file: Path | None = None
    cluster: str | None = None
    keeps_chunks: bool = False

    @property
    def chunks_dir(self) -> Path:
        """Where what is done is kept until all is."""
        return self.cache_dir.parent / "chunks"

    def encoded(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def decoded(cls, content: str) -> "Means":
        """From `encoded`."""
        told = json.loads(content)
        own = told["algorithms_file"]
        algorithms = None if own is None else Path(own)
        return cls(Path(told["cache_dir"]), algorithms, told["cluster"], told["keeps_chunks"])


ATTEMPTS = 2
"""Work whose process a signal ended is begun so often: it has recorded nothing."""


class WorkerDiedError(Exception):
    """The process ended without an answer.

    by_signal: ended by another, or not even started; not by an error of its own.
    """

    def __init__(self, method: str, *, by_signal: bool) -> None:
        super().__init__(method)
        self.by_signal = by_signal


class Worker:
    """Runs one piece of long work at a time, each in a process that is killed when time is over."""

    def __init__(self, means: Means, nice: int = NICE) -> None:
        """nice: how far the process gives way to others."""
        self._means, self._nice = means, nice
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def run(
        self, method: str, request: Message | bytes, *, deadline_s: float, told: Told | None = None
    ) -> bytes:
        """The encoded answer. Raises `Refusal`: the work's own, too busy, or out of time."""
        if self._waiting >= WAITING_MAX:
            text = f"{WAITING_MAX} calls of this kind wait already"
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY", text, retry_after_s=5.0)
        self._waiting += 1
        try:
            async with asyncio.timeout(deadline_s):
                async with self._turn:
                    return await self._work_again(method, _encoded(request), told)
        except WorkerDiedError as error:
            raise _died(error) from error
        except TimeoutError as error:
            text = f"not done within {deadline_s:.0f} s: give a longer deadline, or less to do"
            raise Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "OUT_OF_TIME", text) from error
        finally:
            self._waiting -= 1

    async def _work_again(self, method: str, content: bytes, told: Told | None) -> bytes:
        """The encoded answer, also where a signal ended the first process."""
        for _ in range(ATTEMPTS - 1):
            try:
                return await self.work(method, content, told)
            except WorkerDiedError as error:
                if not error.by_signal:
                    raise
                _log.warning("worker is started again", method=method)
        return await self.work(method, content, told)

    async def work(self, method: str, content: bytes, told: Told | None = None) -> bytes:
        """The encoded answer, whoever else works; the process ends with this coroutine.

        Raises `Refusal`, the work's own, and `WorkerDiedError`.
        """
        async with _listening(told) as (descriptor, variables):
            process = await self._started(method, descriptor, variables)
            try:
                answer, errors = await exchange(process, content)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                raise
        if process.returncode == REFUSED:
            raise _refusal(answer)
        if code := process.returncode:
            ended, log = _ending(code), errors[-4000:]
            _log.error("worker failed", method=method, ended=ended, log=log)
            raise WorkerDiedError(method, by_signal=code < 0)
        return answer

    async def _started(
        self, method: str, descriptor: int, variables: dict[str, str]
    ) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "server.jobs.worker",
                method,
                str(self._nice),
                self._means.encoded(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=[descriptor],
                env={**os.environ, **variables},
            )
        except OSError as error:  # the machine has no memory or no place for another process
            _log.error("worker not started", method=method, error=str(error))
            raise WorkerDiedError(method, by_signal=True) from error


def _ending(code: int) -> str:
    """An exit code in words: of the signal that ended the process, or its own."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _died(error: WorkerDiedError) -> Refusal:
    if error.by_signal:
        text = "the process of the work was ended before its answer; the server's log says more"
        return Refusal(grpc.StatusCode.UNAVAILABLE, "WORK_ENDED", text, retry_after_s=5.0)
    text = "the work failed; the server's log says more"
    return Refusal(grpc.StatusCode.INTERNAL, "INTERNAL", text)


@contextlib.asynccontextmanager
async def _listening(told: Told | None) -> AsyncIterator[tuple[int, dict[str, str]]]:
    """A descriptor for the process to write its progress to, and what tells it so."""
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
    )

    async def follow() -> None:
        async for line in reader:
            if told is not None:
                told(float(line))

    following = asyncio.create_task(follow())
    try:
        yield writing, {progress.VARIABLE: str(writing)}
    finally:
        os.close(writing)
        following.cancel()
        transport.close()


def main() -> int:
    """Does one piece of work."""
    method, nice, told = sys.argv[1:]
    means = Means.decoded(told)
    threading.Thread(target=_end_with_parent, args=[os.getppid()], daemon=True).start()
    os.nice(int(nice))
    _prepare_jax(means.cache_dir)
    read, work = _WORK[method](means)
    try:
        answer = work(read(sys.stdin.buffer.read()))
    except Refusal as refusal:
        sys.stdout.buffer.write(_refusal_bytes(refusal))
        return REFUSED
    sys.stdout.buffer.write(_encoded(answer))
    return 0


def _end_with_parent(parent: int) -> None:
    """Nobody waits for the answer of a server that was killed."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _encoded(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def _prepare_jax(folder: Path) -> None:
    """Programs compiled by earlier workers are taken from the folder."""
    import jax

    os.environ.setdefault("PJRT_NPROC", "1")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # Else the folder's path, where XLA's caches for GPUs would be, is part of what names a program.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def _refusal_bytes(refusal: Refusal) -> bytes:
    fields = [(item.field, item.reason, item.description) for item in refusal.fields]
    told = (refusal.code.name, refusal.reason, refusal.message, fields, dict(refusal.metadata))
    return json.dumps([*told, refusal.retry_after_s]).encode()


def _refusal(content: bytes) -> Refusal:
    code, reason, message, fields, metadata, retry_after_s = json.loads(content)
    violations = tuple(FieldViolation(*item) for item in fields)
    return Refusal(grpc.StatusCode[code], reason, message, violations, metadata, retry_after_s)


_Work = tuple[Callable[[bytes], Any], Callable[[Any], Message | bytes]]


def _backtest(means: Means) -> _Work:
    from server.simulation.kept_states import KeptStates
    from server.simulation.simulate import backtest_work

    run, drop = _chunks_of(means)
    states = KeptStates(means.chunks_dir) if means.keeps_chunks else None

    def drop_all() -> None:
        drop()
        if states is not None:
            states.drop()

    return _then(drop_all, backtest_work(means.algorithms_file, run, states))


def _growth(_: Means) -> _Work:
    from server.simulation.simulate import growth_work

    return growth_work()


def _training(_: Means) -> _Work:
    from server.learning.training import work

    return work()


def _scheduled_training(_: Means) -> _Work:
    from server.learning.schedule_work import train_on_closes

    return bytes, train_on_closes


def _scheduled_scoring(_: Means) -> _Work:
    from server.learning.schedule_work import score_on_closes

    return bytes, score_on_closes


def _tune(means: Means) -> _Work:
    from server.simulation.tune import work

    run, drop = _chunks_of(means)
    return _then(drop, work(run))


def _chunks_of(means: Means) -> "tuple[RunChunks | None, Callable[[], None]]":
    """What runs the chunks of fast backtests, None for threads of this process; and what drops
    those that it keeps, once all is done."""
    if means.cluster is not None:
        from server.simulation.cluster import Cluster

        return Cluster(means.cluster, means.chunks_dir).run, lambda: None
    if means.keeps_chunks:
        from compute.simulate.fast_settings import in_threads
        from server.simulation.chunks import KeptChunks

        kept = KeptChunks(means.chunks_dir, in_threads(os.cpu_count() or 1))
        return kept.run, kept.drop
    return None, lambda: None


def _then(last: Callable[[], None], work: _Work) -> _Work:
    """The same work, and what is to be done after it."""
    read, answer = work

    def both(request: Any) -> Message | bytes:
        found = answer(request)
        last()
        return found

    return read, both


_WORK: dict[str, Callable[[Means], _Work]] = {
    "RunBacktest": _backtest,
    "SimulateGrowth": _growth,
    "TuneParameters": _tune,
    "TrainModel": _training,
    "TrainOnCloses": _scheduled_training,
    "ScoreOnCloses": _scheduled_scoring,
}
"""Imported when asked for: a worker needs only its own."""

if __name__ == "__main__":
    sys.exit(main())
