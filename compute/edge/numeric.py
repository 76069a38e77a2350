"""The numerical tools the closed forms share: float64 conversion, a safe logarithm, a root.

Each works element by element on arrays of any one shape, inside ``jit``, ``vmap`` and ``grad``,
with a bounded amount of work.
"""

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from numpy.typing import NDArray

ROUNDING = 1e-13  # a step of a root search below this share of where it leads is its last


def floats(*values: ArrayLike) -> tuple[Array, ...]:
    """Return every value as a float64 array; integers and Python numbers are converted."""
    return tuple(jnp.asarray(value, dtype=jnp.float64) for value in values)


def weighted_log1p(weight: Array, x: Array) -> Array:
    """Return ``weight * ln(1 + x)``, the term of a growth rate.

    Ruin (``x <= -1``) with a positive weight gives ``-inf``; a weight of zero gives 0 whatever
    ``x`` is, so that an outcome that can't happen can't ruin. NaN in either gives NaN. The
    gradient is finite wherever the value is.
    """
    ruined = x <= -1.0
    value = weight * jnp.log1p(jnp.where(ruined, 0.0, x))
    return jnp.where(ruined & (weight > 0.0), -jnp.inf, value)


@lru_cache(maxsize=8)
def gauss_legendre(n_nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the nodes and weights, each (n_nodes,), of Gauss-Legendre quadrature on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    return (nodes + 1.0) / 2.0, weights / 2.0


def decreasing_root(
    function: Callable[[Array], Array], lower: ArrayLike, upper: ArrayLike, *, steps: int = 64
) -> Array:
    """Return the x in [lower, upper] where an elementwise ``function`` goes from + to -.

    Newton's method, replaced by a bisection whenever it would leave the bracket or fails to
    halve its own step; ``steps`` evaluations at most. An element stays where it is from when its
    step is rounding, so its answer does not depend on the others, and the last one to get there
    ends the loop. Without a sign change the answer is the end the sign points to: ``lower`` if the
    function is negative throughout, ``upper`` if positive. The function is never evaluated at the
    ends, which may therefore be poles.

    The derivative of the answer with respect to what ``function`` closes over is that of the
    implicit function theorem, because the last Newton step is the only one differentiated. NaN
    from the function gives NaN. Call it under ``jit``, as the public functions that use it are:
    outside, the loop is compiled anew for every closure.
    """
    lower, upper = jnp.broadcast_arrays(*floats(lower, upper))
    frozen, constants = jax.closure_convert(function, jax.lax.stop_gradient(lower))
    constants = [jax.lax.stop_gradient(constant) for constant in constants]

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        count, _, low, high, x, stride, best, best_size = state
        value, slope = _value_and_slope(lambda y: frozen(y, *constants), x)
        low, high = jnp.where(value > 0.0, x, low), jnp.where(value < 0.0, x, high)
        better = jnp.abs(value) < best_size
        best, best_size = jnp.where(better, x, best), jnp.where(better, jnp.abs(value), best_size)
        newton, middle = x - value / slope, 0.5 * (low + high)
        useful = (newton >= low) & (newton <= high) & (2.0 * jnp.abs(newton - x) <= stride)
        moving = stride > ROUNDING * jnp.abs(x)
        following = jnp.where(moving, jnp.where(useful, newton, middle), x)
        stride = jnp.abs(following - x)
        return count + 1, jnp.any(moving), low, high, following, stride, best, best_size

    def unsettled(state: tuple[Array, ...]) -> Array:
        return (state[0] < steps) & state[1]

    low, high = jax.lax.stop_gradient((lower, upper))
    start = 0.5 * (low + high)
    counted = (jnp.asarray(0), jnp.asarray(True))
    unseen = (start, jnp.full_like(start, jnp.inf))
    initial: tuple[Array, ...] = (*counted, low, high, start, high - low, *unseen)
    best = jax.lax.while_loop(unsettled, step, initial)[6]
    value, slope = _value_and_slope(function, best)
    slope = jax.lax.stop_gradient(jnp.where(slope == 0.0, -jnp.inf, slope))
    return jnp.clip(best - value / slope, lower, upper)


def _value_and_slope(function: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
    value, slope = jax.jvp(function, (x,), (jnp.ones_like(x),))
    return value, slope
