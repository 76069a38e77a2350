"""Parts of a kernel that run one after another in the thread that asked for them.

Of operations that are ready XLA keeps eight and hands half of the others to its own threads. Where
each takes a tenth of a microsecond that costs as much as three iterations of a small book, and far
more on a machine with other work to do. What stands behind a condition is queued by itself, so that
a kernel cut into stages has never many ready.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from compute.optimize.interior_point.problem_data import Array, Data

READY_MAX = 8  # of XLA's thunk executor, up to which operations stay in their thread
T = TypeVar("T")


def stage(wanted: Array, build: Callable[[], T], like: Any = None) -> T:
    """What `build` makes, zeros of its shapes unless it is `wanted`.

    like: something of these shapes, which spares tracing `build` for them.
    """
    shapes = jax.eval_shape(build) if like is None else like
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    made: T = lax.cond(wanted, build, lambda: blank)
    return made


def at_once(wanted: Array, build: Callable[[], T], like: Any = None) -> T:
    """What `build` makes, among everything else."""
    return build()


Part = Callable[..., Any]
"""`stage` or, where a program is compiled ahead or for a stack, `at_once`."""


def in_stages(wanted: Array, read: Callable[[], Data]) -> Data:
    """The arrays that `read` cuts out of a buffer, a few at a time."""
    given = read()._asdict()
    small = [name for name, x in given.items() if x is not None and name != "returns"]

    def some(names: list[str]) -> dict[str, Array]:
        return {name: getattr(read(), name) for name in names}

    for at in range(0, len(small), READY_MAX):
        given |= stage(wanted, partial(some, small[at : at + READY_MAX]))
    return Data(**given)
