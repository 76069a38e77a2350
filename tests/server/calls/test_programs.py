"""Compiled programs on disk: loaded without compiling, never from a folder others can write to."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compute.optimize.execution import JointShapes
from compute.shapes import (
    Kernel,
    KernelRegistry,
    NotCompiledError,
    NotReadyError,
    compiled_of,
    lowered,
)
from server.calls.errors import Refusal
from server.programs import store as store_module
from server.programs.preparation import TELL_S, Preparation
from server.programs.store import ProgramStore


def doubled_sum(a: jax.Array, b: jax.Array) -> jax.Array:
    return 2.0 * (jnp.sum(a, axis=1) + b)


SHAPES = ((3, 4), (3,))
KERNEL = Kernel("waterfall", doubled_sum, (SHAPES,))


def save(store: ProgramStore) -> None:
    traced = lowered(KERNEL, SHAPES)
    store.save(KERNEL, SHAPES, traced, compiled_of(KERNEL, traced))


def test_a_kept_program_runs_without_compiling(tmp_path: Path) -> None:
    store = ProgramStore(tmp_path / "programs")
    assert store.load(KERNEL, SHAPES) is None
    save(store)
    seen: list[str] = []

    def on_event(event: str, duration_secs: float, **kwargs: str | int) -> None:
        seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(on_event)
    registry = KernelRegistry([KERNEL], lambda key: store.load(KERNEL, key[1]))
    a, b = np.arange(12.0).reshape(3, 4), np.ones(3)
    answer = registry.run("waterfall", a, b)
    jax.monitoring.unregister_event_duration_listener(on_event)
    assert np.array_equal(answer, 2.0 * (a.sum(axis=1) + b))
    assert not [event for event in seen if "compile" in event or "trace" in event]


def solved(a: jax.Array, b: jax.Array) -> jax.Array:
    factor = jnp.linalg.cholesky(a)
    return jax.scipy.linalg.solve_triangular(factor, b, lower=True)


FACTORED = Kernel("solved", solved, (((3, 3), (3,)),))

IN_ANOTHER_PROCESS = """
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
import numpy as np
from server.programs.store import ProgramStore
from tests.server.calls.test_programs import FACTORED
program = ProgramStore(Path(sys.argv[1])).load(FACTORED, FACTORED.shapes[0])
print(np.asarray(program(np.array([4.0, 0, 0, 0, 9, 0, 0, 0, 16, 2, 3, 4]))).tolist())
"""


def test_a_program_that_calls_lapack_runs_in_a_process_that_has_not_traced_it(
    tmp_path: Path,
) -> None:
    traced = lowered(FACTORED, FACTORED.shapes[0])
    store = ProgramStore(tmp_path)
    store.save(FACTORED, FACTORED.shapes[0], traced, compiled_of(FACTORED, traced))
    places = (str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", ""))
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[1.0, 1.0, 1.0]"


def test_the_folder_is_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "programs"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    ProgramStore(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        ProgramStore(folder)


def test_a_damaged_program_is_removed_and_compiled_again(tmp_path: Path) -> None:
    store = ProgramStore(tmp_path)
    save(store)
    store.path(KERNEL, SHAPES).write_bytes(b"not a program")
    assert store.load(KERNEL, SHAPES) is None
    assert not store.has(KERNEL, SHAPES)
    assert not store.reuse(KERNEL, SHAPES, lowered(KERNEL, SHAPES))


def test_a_program_of_the_same_operations_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ProgramStore(tmp_path)
    save(store)
    monkeypatch.setattr(store_module, "_environment", lambda: ("jax", "jaxlib", "cpu", "changed"))
    assert not store.has(KERNEL, SHAPES)
    assert not store.reuse(KERNEL, SHAPES, lowered(KERNEL, SHAPES))  # another processor
    monkeypatch.undo()
    known = store_module._environment()
    monkeypatch.setattr(store_module, "_environment", lambda: (*known[:-1], "changed"))
    assert not store.has(KERNEL, SHAPES)
    assert store.reuse(KERNEL, SHAPES, lowered(KERNEL, SHAPES))
    program = store.load(KERNEL, SHAPES)
    assert program is not None
    assert np.array_equal(program(np.ones(15)), 2.0 * (4.0 + np.ones(3)))


def test_a_program_on_its_way_is_not_one_that_will_never_be() -> None:
    registry = KernelRegistry([KERNEL])
    with pytest.raises(NotReadyError):
        registry.run("waterfall", np.zeros((3, 4)), np.zeros(3))
    with pytest.raises(NotCompiledError):
        registry.run("waterfall", np.zeros((3, 5)), np.zeros(3))


async def test_a_call_that_cannot_wait_for_its_program_is_told_to_come_again(
    tmp_path: Path,
) -> None:
    prepared = Preparation([KERNEL], JointShapes(), ProgramStore(tmp_path))
    with pytest.raises(Refusal) as refused:
        await prepared.ready(("waterfall", SHAPES), 0.01)
    assert refused.value.reason == "PREPARING"
    assert refused.value.retry_after_s is not None
    assert prepared.waits == 1


async def test_a_call_is_told_to_come_again_before_its_deadline_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = list[float]()

    async def wait_for(work: Coroutine[Any, Any, bool], most_s: float) -> None:
        work.close()
        waited.append(most_s)
        raise TimeoutError

    monkeypatch.setattr(asyncio, "wait_for", wait_for)
    prepared = Preparation([KERNEL], JointShapes(), ProgramStore(tmp_path))
    for deadline_s in (30.0, 0.1):
        with pytest.raises(Refusal):
            await prepared.ready(("waterfall", SHAPES), deadline_s)
    assert waited == [30.0 - TELL_S, 0.0]


async def test_a_call_is_told_to_come_again_while_the_compiler_is_between_two_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Preparation([KERNEL], JointShapes(), ProgramStore(tmp_path))
    with subprocess.Popen(  # noqa: ASYNC220  (it ends at once)
        (sys.executable, "-c", "pass"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as gone:
        pass
    prepared._child = gone  # its pipes are closed
    with pytest.raises(Refusal) as refused:
        await prepared.ready(("waterfall", SHAPES), 0.01)
    assert refused.value.reason == "PREPARING"

    def no_room(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", no_room)
    await asyncio.to_thread(prepared._compile, asyncio.get_running_loop())  # is tried again later


RARE = Kernel("robust", doubled_sum, (SHAPES,))


async def until_whole(prepared: Preparation) -> None:
    async with asyncio.timeout(60):
        while prepared.missing:  # noqa: ASYNC110  (it tells nobody)
            await asyncio.sleep(0.01)


async def test_a_rare_program_is_loaded_by_the_first_call_that_needs_it(tmp_path: Path) -> None:
    store, key = ProgramStore(tmp_path), ("robust", SHAPES)
    traced = lowered(RARE, SHAPES)
    store.save(RARE, SHAPES, traced, compiled_of(RARE, traced))
    prepared = Preparation([RARE], JointShapes(), store)
    prepared.go_on()
    await prepared.first()
    await until_whole(prepared)
    assert prepared.kernels.program_count == 0
    arguments = np.ones((3, 4)), np.ones(3)
    with pytest.raises(NotReadyError):
        prepared.kernels.run("robust", *arguments)
    await prepared.ready(key, 1.0)
    assert np.array_equal(prepared.kernels.run("robust", *arguments), np.full(3, 10.0))
    assert prepared.waits == 0
    await prepared.stop()


async def test_a_rare_program_that_was_damaged_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, key = ProgramStore(tmp_path), ("robust", SHAPES)
    traced = lowered(RARE, SHAPES)

    def make(self: Preparation, loop: asyncio.AbstractEventLoop) -> None:
        store.save(RARE, SHAPES, traced, compiled_of(RARE, traced))
        loop.call_soon_threadsafe(self._there[key].set)

    monkeypatch.setattr(Preparation, "_compile", make)  # its child process knows other kernels
    prepared = Preparation([RARE], JointShapes(), store)
    prepared.go_on()
    await prepared.first()
    await until_whole(prepared)
    store.path(RARE, SHAPES).write_bytes(b"not a program")
    with pytest.raises(Refusal) as refused:
        await prepared.ready(key, 1.0)
    assert refused.value.reason == "PREPARING"
    await until_whole(prepared)
    await prepared.ready(key, 1.0)
    assert prepared.kernels.program_count == 1
    await prepared.stop()
