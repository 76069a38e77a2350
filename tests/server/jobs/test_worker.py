"""The process of long work dies: why is in the log, and the answer is typed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
import uvloop

from server.calls.errors import Refusal
from server.jobs import worker as module
from server.jobs.child import exchange
from server.jobs.worker import ATTEMPTS, Means, Worker, WorkerDiedError

pytestmark = pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")
"""uvloop forks; the child runs another program at once, which JAX can't know."""

CONTENT = b"x" * (8 << 20)
"""More than a pipe holds: it can't be written to a child that doesn't read."""


def on_both_loops(work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await work()

    asyncio.run(run())
    uvloop.run(run())


def test_a_child_that_ends_without_reading_is_heard_to_its_end() -> None:
    code = "import os, sys; os.close(0); sys.stderr.write('no memory'); sys.exit(7)"

    async def work() -> None:
        for content in (CONTENT, b"a", b""):
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", code),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            assert await exchange(child, content) == (b"", b"no memory")
            assert child.returncode == 7

    on_both_loops(work)


def test_a_child_whose_pipe_is_closed_before_it_is_written_to_is_heard_to_its_end() -> None:
    async def work() -> None:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "print('gone')"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert child.stdin is not None
        child.stdin.close()
        while not child.stdin.transport.is_closing():  # noqa: ASYNC110  (it tells nobody)
            await asyncio.sleep(0.01)
        await child.wait()
        assert await exchange(child, CONTENT) == (b"gone\n", b"")

    on_both_loops(work)


def of_code(worker: Worker, monkeypatch: pytest.MonkeyPatch, code: str) -> list[int]:
    """Lets the worker start this code in place of its own; the processes that were started."""
    started: list[int] = []

    async def start(*_: Any) -> asyncio.subprocess.Process:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(child.pid)
        return child

    monkeypatch.setattr(worker, "_started", start)
    return started


async def refused_of(worker: Worker) -> Refusal:
    with pytest.raises(Refusal) as refused:
        await worker.run("TrainModel", CONTENT, deadline_s=60.0)
    return refused.value


async def test_an_error_of_the_child_is_in_the_log_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(Means(tmp_path))
    code = "import os; os.close(0); raise SystemExit('a bug of ours')"
    started = of_code(worker, monkeypatch, code)
    with structlog.testing.capture_logs() as log:
        refused = await refused_of(worker)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert len(started) == 1
    assert b"a bug of ours" in log[0]["log"]
    assert log[0]["ended"] == "exit code 1"


async def test_work_that_a_signal_ended_is_begun_again_and_then_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(Means(tmp_path))
    code = f"import os, sys; sys.stderr.write('ends'); os.kill(os.getpid(), {signal.SIGKILL:d})"
    started = of_code(worker, monkeypatch, code)
    with structlog.testing.capture_logs() as log:
        refused = await refused_of(worker)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "WORK_ENDED")
    assert refused.retry_after_s is not None
    assert len(started) == ATTEMPTS
    failed = {"event": "worker failed", "method": "TrainModel", "ended": "SIGKILL"}
    again = {"event": "worker is started again", "method": "TrainModel"}
    assert ATTEMPTS == 2
    assert [log[0] | failed, log[1] | again, log[2] | failed] == log


async def test_a_machine_without_room_for_a_process_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_room(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(module.asyncio, "create_subprocess_exec", no_room)
    worker = Worker(Means(tmp_path))
    assert (await refused_of(worker)).reason == "WORK_ENDED"
    with pytest.raises(WorkerDiedError) as died:
        await worker.work("TrainModel", b"")
    assert died.value.by_signal


THREADS = """
import asyncio, os, time
import server
import grpc

async def main():
    service = grpc.aio.server()
    service.add_insecure_port("127.0.0.1:0")
    await service.start()
    for _ in range(5):
        child = os.fork()
        if child == 0:
            time.sleep(0.05)
            os._exit(len(os.listdir("/proc/self/task")))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_a_process_forked_from_a_server_has_no_threads_of_grpc() -> None:
    """They ended some of the processes, before these had become workers, by SIGSEGV."""
    variables = {name: value for name, value in os.environ.items() if "GRPC" not in name}
    command = [sys.executable, "-W", "ignore", "-c", THREADS]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"] * 5


def test_a_program_is_found_again_in_a_folder_that_was_moved(tmp_path: Path) -> None:
    """In a process each, as workers are: what the first has compiled the second only reads."""
    script = (
        "import sys; from pathlib import Path; from server.jobs.worker import _prepare_jax\n"
        "_prepare_jax(Path(sys.argv[1])); import jax\n"
        "print(jax.jit(lambda x: x * 3.0)(2.0))"
    )
    for folder in (tmp_path / "here", tmp_path / "there"):
        if folder.name == "there":
            (tmp_path / "here").rename(folder)
        subprocess.run([sys.executable, "-c", script, str(folder)], check=True)
    kept = [path.name for path in (tmp_path / "there").glob("jit_*-cache")]
    assert kept
    assert len(kept) == len({name.rsplit("-", 2)[0] for name in kept}), "compiled again"
