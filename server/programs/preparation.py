"""The programs of a service: what is kept is loaded, the rest is compiled by a child process.

    await prepared.first()      until the closed form's commonest programs are there
    await prepared.ready(key)   until one program is loaded; where it is missing it is made first

The rest is made in the background, the closed form before the joint method, rarest last. A program
takes 15 MiB, and most servers use few: what a start does not wait for is loaded by the first call
that needs it, in a thread, and what belongs to the joint method by the process that runs it.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import structlog

from compute.optimize.execution import JointShapes, Programs
from compute.shapes import Kernel, KernelRegistry, Key, Program
from server.calls.errors import Refusal
from server.programs.compiler import Job, key_of
from server.programs.store import ProgramStore

_log = structlog.get_logger(__name__)

FIRST_LINES = (16, 64, 256, 1024)
"""A start waits for the waterfalls of so many lines with few groups, and for no other program."""

TELL_S = 0.25
"""How long before its deadline a call is told that its program is missing: after it, none can."""
ATTEMPTS_MAX = 3
"""A compiler that ended without having made anything new is started so often."""


def is_joint(key: Key) -> bool:
    """Whether a program belongs to the joint method."""
    return key[0].startswith("joint")


class Preparation:
    """Watches over the programs of `kernels`; most are there when their file is."""

    def __init__(
        self, kernels: Sequence[Kernel], shapes: JointShapes, store: ProgramStore | None
    ) -> None:
        """store: None where the programs are there already (`of`)."""
        self.kernels = KernelRegistry(kernels, self._load, loads_at_use=False)
        self.shapes = shapes
        self._store = store
        self._wanted = sorted(self.kernels.keys, key=_rank)
        self._first = self._wanted[: _urgent(self._wanted)]
        self._there: dict[Key, asyncio.Event] = {key: asyncio.Event() for key in self._wanted}
        self._child: subprocess.Popen[str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._serving = asyncio.Event()
        self._stopped = False
        self.failed = False
        self.waits = 0

    @classmethod
    def of(cls, programs: Programs) -> "Preparation":
        """Programs that are all there."""
        made = cls((), programs.shapes, None)
        made.kernels = programs.registry
        return made

    @property
    def folder(self) -> Path:
        """Of the programs."""
        assert self._store is not None, "programs that are there have no folder"
        return self._store.folder

    def _load(self, key: Key) -> Program | None:
        return None if self._store is None else self._store.load(self.kernels.kernel(key), key[1])

    def has_first(self) -> bool:
        """Whether the commonest sizes can be computed."""
        return not self.first_left()[1]

    def first_left(self) -> tuple[int, int]:
        """How many programs a start waits for, and how many of these are not there yet."""
        return len(self._first), sum(not self._there[key].is_set() for key in self._first)

    @property
    def count(self) -> int:
        """How many programs there are to be."""
        return len(self._wanted)

    @property
    def missing(self) -> int:
        """How many are not there yet."""
        return sum(not event.is_set() for event in self._there.values())

    def is_complete(self, *, joint: bool) -> bool:
        """Whether all programs of the joint method, or of the closed form, are there."""
        return all(event.is_set() for key, event in self._there.items() if is_joint(key) == joint)

    async def first(self) -> None:
        """Starts the preparation and waits until the commonest sizes can be computed."""
        self._task = asyncio.create_task(self._run(), name="programs")
        for key in self._first:
            waiting = asyncio.create_task(self._there[key].wait())
            await asyncio.wait((waiting, self._task), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                await self._task
                raise RuntimeError("the kernels could not be compiled; the log has the details")

    def go_on(self) -> None:
        """The service serves: everything else may follow."""
        self._serving.set()

    async def ready(self, key: Key, deadline_s: float) -> None:
        """Loads a program; a missing one is made next. Raises `Refusal` where that takes long."""
        if not self._there[key].is_set():
            await self._made(key, deadline_s)
        if not is_joint(key) and not await asyncio.to_thread(self.kernels.load, key):
            # Its file was damaged, and is gone.
            self._there[key].clear()
            if self._task is not None and self._task.done():
                self._task = asyncio.create_task(self._run(), name="programs")
            raise not_ready(self.missing, self.count)

    async def _made(self, key: Key, deadline_s: float) -> None:
        self.waits += 1
        child = self._child
        if child is not None and child.stdin is not None:
            with contextlib.suppress(
                OSError, ValueError
            ):  # it has just ended, or its pipe is closed
                child.stdin.write(json.dumps(key) + "\n")
                child.stdin.flush()
        try:
            await asyncio.wait_for(self._there[key].wait(), max(deadline_s - TELL_S, 0.0))
        except TimeoutError as error:
            raise not_ready(self.missing, self.count) from error

    async def stop(self) -> None:
        """Ends the compiler."""
        self._stopped = True
        if self._child is not None:
            self._child.kill()  # which ends the thread that reads from it
        if self._task is not None:
            self._serving.set()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """What a start waits for; then, once the service serves, everything else."""
        loop, started, attempts = asyncio.get_running_loop(), time.monotonic(), 0
        await asyncio.to_thread(self._take_kept, loop, self._first)
        if self.has_first():
            await self._serving.wait()
            await asyncio.to_thread(self._take_kept, loop, self._wanted)
        while (missing := self.missing) and not self._stopped:
            await asyncio.to_thread(self._compile, loop)
            attempts = attempts + 1 if self.missing == missing else 0
            if attempts == ATTEMPTS_MAX and not self._stopped:
                self.failed = True
                _log.error("kernels could not be compiled", missing=self.missing)
                return
        if not self._stopped:
            seconds = round(time.monotonic() - started, 1)
            _log.info("all kernels are there", programs=self.count, seconds=seconds)

    def _take_kept(self, loop: asyncio.AbstractEventLoop, keys: Sequence[Key]) -> None:
        """Takes what is there."""
        for key in keys:
            if self._stopped:
                return
            if not self._there[key].is_set() and self._take(key):
                loop.call_soon_threadsafe(self._there[key].set)

    def _take(self, key: Key) -> bool:
        """Loads a program that a start waits for; of the others sees the file."""
        if _rank(key) == 0:
            return self.kernels.load(key)
        return self._store is not None and self._store.has(self.kernels.kernel(key), key[1])

    def _compile(self, loop: asyncio.AbstractEventLoop) -> None:
        """One run of the compiler; blocks until it ends."""
        programs = [key for key in self._wanted if not self._there[key].is_set()]
        urgent = _urgent(programs)
        job = Job(str(self.folder), self.shapes.assets, self.shapes.scenarios, urgent, programs)
        try:
            child = subprocess.Popen(
                (sys.executable, "-m", "server.programs.compiler"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PJRT_NPROC": "1"},  # as where the programs run
                start_new_session=True,  # Ctrl-C in a terminal is for the service
                text=True,
            )
        except OSError as error:  # no memory or no place for another process now
            _log.warning("the compiler could not be started", error=str(error))
            return
        self._child = child
        try:
            with child, contextlib.suppress(BrokenPipeError):
                self._follow(child, job, loop)
        finally:
            self._child = None

    def _follow(
        self, child: "subprocess.Popen[str]", job: Job, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Gives the compiler its job, and takes the programs that it says are there."""
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(job.line())
        child.stdin.flush()
        for line in child.stdout:
            if self._stopped:
                child.kill()
            if not line.endswith("\n"):  # it was ended in the middle of a word
                return
            key = key_of(line)
            if self._take(key):
                loop.call_soon_threadsafe(self._there[key].set)
            done = self.count - self.missing
            first, left = self.first_left()
            told = {"serves_after": left, "of_first": first} if left else {}
            _log.info("compiling kernels", done=done, total=self.count, kernel=key[0], **told)


def not_ready(missing: int, count: int) -> Refusal:
    """UNAVAILABLE: the same call succeeds when its program is there."""
    text = (
        f"the program for this problem is being prepared ({count - missing} of {count} are there)"
    )
    return Refusal(grpc.StatusCode.UNAVAILABLE, "PREPARING", text, retry_after_s=2.0)


def _urgent(keys: Sequence[Key]) -> int:
    """How many of `keys`, in order, a start waits for."""
    return sum(_rank(key) == 0 for key in keys)


def _rank(key: Key) -> int:
    """Order of preparation: what a start waits for, the closed form, the joint method."""
    name, shapes = key
    if name == "waterfall" and shapes[0][1] in FIRST_LINES and shapes[2][0] <= 8:
        return 0
    if is_joint(key):
        return 2
    return 1
