"""The process that compiles: `python -m server.programs.compiler`, started by `preparation.py`.

Compiling takes seconds of processor time a program, holds Python's lock while it traces, and leaves
memory behind. So it happens here, with less priority than the service, and the process ends when
every program is in the store.

Standard input: one line with the job (`Job` as JSON), then a line for each program that is wanted
next; at its end the process ends. Standard output: a line for each program that is in the store.
"""

import contextlib
import json
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from compute.optimize.execution import JointShapes
from compute.optimize.kernels import joint_kernels
from compute.shapes import KernelRegistry, Key, compiled_of, lowered
from compute.waterfall.kernels import registry
from server.programs.store import ProgramStore

NICENESS = 10
THREADS = 2


@dataclass(frozen=True)
class Job:
    """What is to be compiled: programs in order, and the ladders of joint problems."""

    folder: str
    assets: tuple[int, ...]
    scenarios: tuple[int, ...]
    urgent: int
    """So many of the first programs are what the start waits for: with full priority."""
    programs: Sequence[Key]

    def line(self) -> str:
        """The job for standard input."""
        return json.dumps(asdict(self)) + "\n"


def key_of(line: str) -> Key:
    """A program's key from a line of JSON."""
    return _key(json.loads(line))


def _key(data: Any) -> Key:
    name, shapes = data
    return name, tuple(tuple(shape) for shape in shapes)


class _Queue:
    """Programs in the order they are wanted; a later wish goes first."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = deque(keys)
        self._lock = threading.Lock()

    def first(self, key: Key) -> None:
        with self._lock:
            if key in self._keys:
                self._keys.remove(key)
                self._keys.appendleft(key)

    def __iter__(self) -> Iterator[Key]:
        while True:
            with self._lock:
                if not self._keys:
                    return
                key = self._keys.popleft()
            yield key


def _listen(queue: _Queue) -> None:
    for line in sys.stdin:
        queue.first(key_of(line))
    os._exit(0)  # the service is gone


def _less_priority() -> None:
    """Of every thread: on Linux each has its own."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        os.nice(NICENESS)
        return
    for task in tasks.iterdir():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(task.name), NICENESS)


def main() -> None:
    """Compiles what the job says."""
    job = Job(**json.loads(sys.stdin.readline()))
    # What jax takes from a cache of its own can't be written out again.
    jax.config.update("jax_enable_compilation_cache", False)
    store = ProgramStore(Path(job.folder))
    shapes = JointShapes(tuple(job.assets), tuple(job.scenarios))
    kernels = KernelRegistry([*registry().kernels, *joint_kernels(shapes)])
    queue = _Queue([_key(data) for data in job.programs])
    threading.Thread(target=_listen, args=(queue,), daemon=True).start()
    lock, made = threading.Lock(), 0

    def make() -> None:
        nonlocal made
        for key in queue:
            kernel = kernels.kernel(key)
            if not store.has(kernel, key[1]):
                traced = lowered(kernel, key[1])
                if not store.reuse(kernel, key[1], traced):
                    store.save(kernel, key[1], traced, compiled_of(kernel, traced))
            with lock:
                print(json.dumps(key), flush=True)
                made += 1
                if made == job.urgent:
                    _less_priority()

    with ThreadPoolExecutor(THREADS) as pool:
        for thread in [pool.submit(make) for _ in range(THREADS)]:
            thread.result()
    store.prune()
    sys.stdout.flush()
    os._exit(0)  # without waiting for the reader of standard input


if __name__ == "__main__":
    main()
