"""The process of long work dies: why is in the log, and the answer is typed."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
import uvloop

from server import worker as module
from server.child import exchange
from server.errors import Refusal
from server.worker import ATTEMPTS, Means, Worker, WorkerDiedError

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
    assert [entry["code"] for entry in log] == [-signal.SIGKILL] * ATTEMPTS


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
