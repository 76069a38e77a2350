"""Padding buckets and the registry of compiled kernels.

XLA compiles for exact shapes. Requests of any size are padded to a short ladder of shapes, and
every kernel is compiled for every rung ahead of its use. A call never compiles: with a shape
outside the ladder it raises `NotCompiledError`, with one whose program is still being made
`NotReadyError`.
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

Key = tuple[str, Shapes]
"""A program: the name of its kernel, and the shapes of its arguments."""

Program = jax.stages.Compiled
"""A kernel compiled for one shape, with all arguments in one buffer."""


class NotCompiledError(LookupError):
    """A kernel was called with a shape that is not on its ladder."""


class NotReadyError(LookupError):
    """A kernel was called before its program was there: later the same call succeeds."""

    def __init__(self, key: Key) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"kernel {self.key[0]} is not yet compiled for {list(self.key[1])}"


def bucket(size: int, ladder: Sequence[int]) -> int:
    """The smallest rung that holds `size`; raises ValueError where none does."""
    for rung in ladder:
        if size <= rung:
            return rung
    raise ValueError(f"{size} is more than the largest supported, {ladder[-1]}")


def padded(values: NDArray[np.float64], *shape: int, fill: float = 0.0) -> NDArray[np.float64]:
    """`values` with their last axes filled up to `shape`; as they are where that is theirs."""
    own = values.shape[-len(shape) :]
    if own == shape:
        return np.asarray(values, np.float64)
    wide = np.full((*values.shape[: -len(shape)], *shape), fill)
    part: tuple[Any, ...] = (..., *map(slice, own))
    wide[part] = values
    return wide


@dataclass(frozen=True)
class Kernel:
    """A pure function on float64 arrays and the shapes it is compiled for.

    `shapes` holds one tuple of argument shapes per program. uses_fusion_emitters: loops over
    elements are most of it and every microsecond counts: code that is 15 % faster is worth
    compiling half as long again.
    """

    name: str
    function: Callable[..., jax.Array]
    shapes: tuple[Shapes, ...]
    uses_fusion_emitters: bool = False


class KernelRegistry:
    """Kernels compiled ahead of time, looked up by name and argument shapes."""

    def __init__(
        self,
        kernels: Sequence[Kernel],
        load: Callable[[Key], Program | None] = lambda key: None,
        *,
        loads_at_use: bool = True,
    ) -> None:
        """`load` finds a program that was compiled elsewhere, None where there is none yet.

        loads_at_use: whether running a program for the first time loads it; where nothing may wait
        for that, it is loaded by `load` alone.
        """
        self._kernels = tuple(kernels)
        self._load = load
        self._loads_at_use = loads_at_use
        self._compiled: dict[Key, Program] = {}
        self._keys = {
            (kernel.name, shapes): kernel for kernel in kernels for shapes in kernel.shapes
        }

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """What is, or will be, compiled."""
        return self._kernels

    @property
    def keys(self) -> tuple[Key, ...]:
        """Every program that there is to be."""
        return tuple(self._keys)

    def kernel(self, key: Key) -> Kernel:
        """The kernel of a program."""
        return self._keys[key]

    def load(self, key: Key) -> bool:
        """Takes a program that was compiled elsewhere; False where it isn't there yet."""
        if key not in self._compiled:
            program = self._load(key)
            if program is None:
                return False
            self._compiled[key] = program
        return True

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
            programs = pool.map(lambda item: compiled(*item), wanted)
            for (kernel, shapes), program in zip(wanted, programs, strict=True):
                self._compiled[(kernel.name, shapes)] = program
                on_progress(len(self._compiled), len(wanted))

    def run(self, name: str, *arguments: NDArray[np.float64]) -> NDArray[np.float64]:
        """Runs a compiled kernel; raises `NotCompiledError`, `NotReadyError`."""
        shapes = tuple(argument.shape for argument in arguments)
        return self.run_packed(name, shapes, np.concatenate([a.ravel() for a in arguments]))

    def run_packed(
        self, name: str, shapes: Shapes, buffer: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The same with the arguments, of these shapes, one after another in one buffer."""
        key = (name, shapes)
        program = self._compiled.get(key)
        if program is None:
            if key not in self._keys:
                raise NotCompiledError(f"kernel {name} is not compiled for {list(shapes)}")
            if not self._loads_at_use or not self.load(key):
                raise NotReadyError(key)
            program = self._compiled[key]
        return np.asarray(program(buffer))


def unpacked(buffer: jax.Array, shapes: Shapes) -> list[jax.Array]:
    """Arrays of these shapes that come one after another in one buffer."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = jnp.split(buffer, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def compiled(kernel: Kernel, shapes: Shapes) -> Program:
    """The program of a kernel for arguments of these shapes."""
    return compiled_of(kernel, lowered(kernel, shapes))


def lowered(kernel: Kernel, shapes: Shapes) -> jax.stages.Lowered:
    """The same before the compiler, for arguments that come one after another in one buffer.

    Handing an array to JAX costs 30 us, whatever its size: as much as a small kernel's own work.
    """

    def on_buffer(buffer: jax.Array) -> jax.Array:
        return kernel.function(*unpacked(buffer, shapes))

    size = sum(math.prod(shape) for shape in shapes)
    buffer = jax.ShapeDtypeStruct((size,), np.float64)
    return jax.jit(on_buffer).lower(buffer)


def compiled_of(kernel: Kernel, lowered: jax.stages.Lowered) -> Program:
    """The program of a kernel that has been traced."""
    options: dict[str, str | bool] | None = (
        None if kernel.uses_fusion_emitters else {"xla_cpu_use_fusion_emitters": False}
    )
    return lowered.compile(options)
