"""Programs kept on disk: read where they are, compiled where missing, broken or changed."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compute.shapes import Kernel, KernelRegistry
from server import programs
from server.programs import KeptPrograms

SHAPES = ((3,), (2, 3))
ARGUMENTS = np.array([1.0, 2.0, 3.0]), np.arange(6.0).reshape(2, 3)


def _product(vector: jax.Array, matrix: jax.Array) -> jax.Array:
    return matrix @ jnp.exp(vector)


@pytest.fixture
def compiles() -> Iterator[list[str]]:
    """What XLA compiles during a test."""
    seen: list[str] = []

    def on_event(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs, kwargs
        if event.endswith("backend_compile_duration"):
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(on_event)
    yield seen
    jax.monitoring.unregister_event_duration_listener(on_event)


def _answer(folder: Path) -> np.ndarray:
    kernels = KernelRegistry([Kernel("product", _product, (SHAPES,))])
    kernels.compile(make=KeptPrograms(folder))
    return kernels.run("product", *ARGUMENTS)


def test_a_program_is_compiled_once(tmp_path: Path, compiles: list[str]) -> None:
    first = _answer(tmp_path)
    assert len(compiles) == 1
    np.testing.assert_allclose(first, ARGUMENTS[1] @ np.exp(ARGUMENTS[0]), rtol=1e-15)
    np.testing.assert_array_equal(_answer(tmp_path), first)
    assert len(compiles) == 1


@pytest.mark.parametrize("content", [b"", b"not a program", b"\x80\x04N."])
def test_what_cannot_be_read_is_compiled_again(
    tmp_path: Path, compiles: list[str], content: bytes
) -> None:
    first = _answer(tmp_path)
    (file,) = tmp_path.glob("*.program")
    file.write_bytes(content)
    np.testing.assert_array_equal(_answer(tmp_path), first)
    assert len(compiles) == 2
    np.testing.assert_array_equal(_answer(tmp_path), first)
    assert len(compiles) == 2


def test_other_sources_have_other_programs(
    tmp_path: Path, compiles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _answer(tmp_path)
    monkeypatch.setattr(programs, "_origin", lambda: "another release")
    _answer(tmp_path)
    assert len(compiles) == 2
    assert len(list(tmp_path.glob("*.program"))) == 2
