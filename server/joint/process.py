"""The joint method in a process of its own, with less priority than the closed form.

Work of seconds beside calls of milliseconds: in one process they share Python's lock, and nothing
ends a thread in the middle of XLA or HiGHS. So joint work runs in a child that looks at its time
limit itself, is told when nobody waits any more, and is killed and started again where it doesn't
hear. It ends with this process, however that ends: the pipe between them closes.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypeVar

import grpc
import structlog

from compute.optimize.execution import JointShapes
from compute.optimize.time_limit import AbandonedError, OutOfTimeError, StoppedError, TimeLimit
from server.calls.batching import draining
from server.calls.errors import Refusal
from server.observability import profile

T = TypeVar("T")

_log = structlog.get_logger(__name__)

GRACE_S = 3.0
"""A child that goes on for so long after its time, or after nobody waits any more, is killed."""

LOOK_S = 0.05
"""So often a waiting thread looks whether anybody still waits for it."""


@dataclass(frozen=True)
class Start:
    """The first message to the child: where its programs are, and their shapes."""

    folder: Path
    shapes: JointShapes


@dataclass(frozen=True)
class Ask:
    """Work for the child. deadline: on the monotonic clock, which processes share."""

    number: int
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    deadline: float


@dataclass(frozen=True)
class Cancel:
    """Nobody waits for the work of this number any more."""

    number: int


@dataclass(frozen=True)
class Answer:
    """What came of an `Ask`, and how often the child has compiled anything so far."""

    number: int
    result: Any
    error: BaseException | None
    compiles: int


class JointProcess:
    """The child: one piece of work at a time, from any thread."""

    errors: tuple[type[Exception], ...] = (Refusal,)

    def __init__(self, folder: Path, shapes: JointShapes) -> None:
        """folder: of the compiled programs (`ProgramStore`)."""
        self._start = Start(folder, shapes)
        self._lock = threading.Lock()  # of the child's start and end
        self._turn = threading.Lock()  # of the work: one at a time
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._closed = False
        self._number = 0
        self.restarts = 0
        self.compiles = 0

    def begin(self) -> None:
        """Starts the child, so that the first work finds it there."""
        with self._lock:
            if self._child is not None or self._closed:
                return
            ours, theirs = Pipe()
            with theirs:
                command = (sys.executable, "-m", "server.joint.worker", str(theirs.fileno()))
                self._child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # what libraries print goes beside the log
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, "PJRT_NPROC": "1", "OPENBLAS_NUM_THREADS": "1"},
                    start_new_session=True,  # Ctrl-C in a terminal is for the service
                )
            self._pipe = ours
            ours.send(self._start)

    def run(self, work: Callable[..., T], *arguments: Any, time_limit: TimeLimit) -> T:
        """See `JointRunner`."""
        with self._turn, profile.span("compute: joint optimum"):
            return self._run(work, arguments, time_limit)

    def _run(self, work: Callable[..., T], arguments: tuple[Any, ...], time_limit: TimeLimit) -> T:
        time_limit.check()
        self._number += 1
        ask = Ask(self._number, work, arguments, time.monotonic() + time_limit.left_s())
        try:
            self.begin()
            pipe = self._pipe
            if pipe is None or self._closed:
                raise EOFError
            pipe.send(ask)
            answer = self._await(pipe, ask, time_limit)
        except (EOFError, OSError) as error:
            self._end()
            raise self._refusal() from error
        self.compiles = max(self.compiles, answer.compiles)
        if isinstance(answer.error, AbandonedError):  # it was told to end; why is known here
            raise _stopped(time_limit) from answer.error
        if answer.error is not None:
            raise answer.error
        result: T = answer.result
        return result

    def _await(self, pipe: Connection, ask: Ask, time_limit: TimeLimit) -> Answer:
        told_at: float | None = None
        while True:
            if pipe.poll(LOOK_S):
                answer = pipe.recv()
                if isinstance(answer, Answer) and answer.number == ask.number:
                    return answer
            elif told_at is not None and time.monotonic() > told_at + GRACE_S:
                self._end()
                self.restarts += 1
                _log.warning("joint work did not end in time; its process is started again")
                self.begin()
                raise _stopped(time_limit)
            elif told_at is None and (time_limit.is_cancelled() or time_limit.left_s() <= 0.0):
                told_at = time.monotonic()
                pipe.send(Cancel(ask.number))

    def close(self) -> None:
        """Kills the child; work under way is refused with DRAINING."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        with self._lock:
            child, self._child = self._child, None
            pipe, self._pipe = self._pipe, None
        if child is not None:
            with contextlib.suppress(OSError):
                child.kill()
            child.wait()
        if pipe is not None and not self._closed:
            pipe.close()  # a thread that reads from it sees the child's end instead

    def _refusal(self) -> Refusal:
        if self._closed:
            return draining()
        self.restarts += 1
        text = "the process of the joint method ended; it is started again"
        return Refusal(grpc.StatusCode.UNAVAILABLE, "JOINT_RESTARTED", text, retry_after_s=2.0)


def _stopped(time_limit: TimeLimit) -> StoppedError:
    try:
        time_limit.check()
    except StoppedError as error:
        return error
    return OutOfTimeError("the time was over before the answer")
