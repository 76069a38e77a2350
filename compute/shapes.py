"""Padding buckets and the registry of compiled kernels.

XLA compiles for exact shapes. Requests of any size are padded to a short ladder of shapes, every
kernel is compiled for every rung before the service answers, and nothing compiles afterwards:
calling a compiled kernel with another shape raises instead of compiling.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

LINE_BUCKETS = (16, 64, 256, 1024, 8192, 131072)
"""Lines of one request are padded to one of these."""

GROUP_BUCKETS = (8, 64)
"""Group limits of one request are padded to one of these."""

GROUPS_MAX = GROUP_BUCKETS[-1] - 2
"""Two columns are taken by the portfolio and by what it shares."""


Shapes = tuple[tuple[int, ...], ...]
"""Of the arguments of a kernel."""

Program = jax.stages.Compiled
"""A kernel compiled for one shape, with all arguments in one buffer."""


class NotCompiledError(LookupError):
    """A kernel was called with a shape that was not compiled at start-up."""


def bucket(size: int, ladder: Sequence[int]) -> int:
    """The smallest rung that holds `size`; raises ValueError where none does."""
    for rung in ladder:
        if size <= rung:
            return rung
    raise ValueError(f"{size} is more than the largest supported, {ladder[-1]}")


def pad(columns: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """`columns` (..., n) with zeros appended to (..., length)."""
    if columns.shape[-1] == length:
        return columns
    padded = np.zeros((*columns.shape[:-1], length))
    padded[..., : columns.shape[-1]] = columns
    return padded


@dataclass(frozen=True)
class Kernel:
    """A pure function on float64 arrays and the shapes it is compiled for.

    `shapes` holds one tuple of argument shapes per program. is_hot: loops over elements are most of
    it and every microsecond counts: code that is 15 % faster is worth compiling half as long again.
    """

    name: str
    function: Callable[..., jax.Array]
    shapes: tuple[Shapes, ...]
    is_hot: bool = False


class KernelRegistry:
    """Kernels compiled ahead of time, looked up by name and argument shapes."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self._kernels = tuple(kernels)
        self._compiled: dict[tuple[Any, ...], Program] = {}

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """What is, or will be, compiled."""
        return self._kernels

    @property
    def program_count(self) -> int:
        """Number of compiled programs."""
        return len(self._compiled)

    def compile(
        self, threads: int = 2, on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        """Compiles every program, `threads` at a time; `on_progress` is told done and total."""
        wanted = [(kernel, shapes) for kernel in self._kernels for shapes in kernel.shapes]
        with ThreadPoolExecutor(threads) as pool:
            programs = pool.map(lambda item: _compiled(*item), wanted)
            for (kernel, shapes), program in zip(wanted, programs, strict=True):
                self._compiled[(kernel.name, *shapes)] = program
                on_progress(len(self._compiled), len(wanted))

    def run(self, name: str, *arguments: NDArray[np.float64]) -> NDArray[np.float64]:
        """Runs a compiled kernel; raises `NotCompiledError` where the shape is not compiled."""
        shapes = tuple(argument.shape for argument in arguments)
        return self.run_packed(name, shapes, np.concatenate([a.ravel() for a in arguments]))

    def run_packed(
        self, name: str, shapes: Shapes, buffer: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The same with the arguments, of these shapes, one after another in one buffer."""
        program = self._compiled.get((name, *shapes))
        if program is None:
            raise NotCompiledError(f"kernel {name} is not compiled for {list(shapes)}")
        return np.asarray(program(buffer))


def unpacked(buffer: jax.Array, shapes: Shapes) -> list[jax.Array]:
    """Arrays of these shapes that come one after another in one buffer."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = jnp.split(buffer, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _compiled(kernel: Kernel, shapes: Shapes) -> Program:
    """The program for arguments that come one after another in one buffer.

    Handing an array to JAX costs 30 us, whatever its size: as much as a small kernel's own work.
    """

    def on_buffer(buffer: jax.Array) -> jax.Array:
        return kernel.function(*unpacked(buffer, shapes))

    size = sum(math.prod(shape) for shape in shapes)
    buffer = jax.ShapeDtypeStruct((size,), np.float64)
    options: dict[str, str | bool] | None = (
        None if kernel.is_hot else {"xla_cpu_use_fusion_emitters": False}
    )
    return jax.jit(on_buffer).lower(buffer).compile(options)
