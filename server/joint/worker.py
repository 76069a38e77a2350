"""The child of `process.py`: `python -m server.joint.worker FD`.

One thread computes; another reads, so that a `Cancel` and the end of the service are heard at any
time. Programs are loaded from the store: those that are there at the start, and later ones when
they are first called. Nothing is compiled here.
"""

import os
import queue
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection

import jax

from compute.optimize.execution import Programs
from compute.optimize.kernels import joint_kernels
from compute.optimize.time_limit import TimeLimit
from compute.shapes import KernelRegistry, Key, Program
from server.joint.process import Answer, Ask, Cancel, Start
from server.joint.runner import with_programs
from server.programs.store import ProgramStore

NICENESS = 5


class _Cancelled:
    """Numbers of work that nobody waits for."""

    def __init__(self) -> None:
        self._latest = 0

    def add(self, number: int) -> None:
        self._latest = max(self._latest, number)  # one thread asks: earlier ones are over anyway

    def __contains__(self, number: int) -> bool:
        return number <= self._latest


def _read(pipe: Connection, asks: "queue.SimpleQueue[Ask]", cancelled: _Cancelled) -> None:
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)  # the service is gone
        if isinstance(message, Cancel):
            cancelled.add(message.number)
        else:
            asks.put(message)


def _programs(start: Start) -> Programs:
    store = ProgramStore(start.folder)
    registry: KernelRegistry

    def load(key: Key) -> Program | None:
        return store.load(registry.kernel(key), key[1])

    registry = KernelRegistry(joint_kernels(start.shapes), load)
    return Programs(registry, start.shapes)


def _answer(programs: Programs, ask: Ask, cancelled: _Cancelled, compiles: list[str]) -> Answer:
    limit = TimeLimit(lambda: ask.deadline - time.monotonic(), lambda: ask.number in cancelled)
    try:
        limit.check()
        result = with_programs(programs, ask.work, *ask.arguments, time_limit=limit)
    except BaseException as error:
        error.add_note("".join(traceback.format_exception(error))[-2000:])
        return Answer(ask.number, None, error, len(compiles))
    return Answer(ask.number, result, None, len(compiles))


def main() -> None:
    """Serves until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    pipe = Connection(int(sys.argv[1]))
    start = pipe.recv()
    asks: queue.SimpleQueue[Ask] = queue.SimpleQueue()
    cancelled, compiles = _Cancelled(), list[str]()
    threading.Thread(target=_read, args=(pipe, asks, cancelled), daemon=True).start()

    def on_event(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs, kwargs
        if event.endswith("backend_compile_duration"):
            compiles.append(event)

    programs = _programs(start)
    for key in programs.registry.keys:  # those that are there already
        if not asks.empty():
            break
        programs.registry.load(key)
    jax.monitoring.register_event_duration_secs_listener(on_event)
    while True:
        ask = asks.get()
        answer = _answer(programs, ask, cancelled, compiles)
        try:
            pipe.send(answer)
        except OSError:
            return
        except Exception as error:  # an answer or error that can't be pickled
            text = f"{type(answer.error or answer.result).__name__}: {answer.error} ({error})"
            pipe.send(Answer(ask.number, None, RuntimeError(text), len(compiles)))


if __name__ == "__main__":
    main()
