"""Risk budgeting by Newton's method on its convex form (Spinu 2013).

    minimise  1/2 y'Cy - b'log y     =>     y_i (Cy)_i = b_i

with C the correlation matrix and y = volatility * x. Any multiple of x has the same shares of
risk, so the weights are x scaled to the budget. The function is self-concordant: a step damped by
1 / (1 + decrement) always descends, and a full one squares the error near the end. Where long
positions nearly cancel all risk y is large and damped steps towards it are short, so the full
step (as far as y stays positive) is taken wherever it leads lower.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from compute.optimize.interior_point.batching import of_each
from compute.optimize.interior_point.blocked_cholesky import Array, factor, lower, upper
from compute.optimize.interior_point.diagonal import diagonal, raised

ITERATIONS_MAX = 100
TOLERANCE = 1e-8  # decrement before the last step, which squares it
FULL_STEP = 0.25  # decrement below which full steps converge quadratically
ROOM = 0.9  # share of the way to y = 0 that a step may go


def spinu(covariance: Array, budgets: Array) -> Array:
    """y / volatility of the minimiser, f64[n], with the Newton decrement and iterations appended.

    covariance: f64[n, n], positive definite on the support of any positive weights. budgets:
    f64[n] summing to 1; where it is 0 (padding) the answer is 0.
    """
    live = budgets > 0.0
    volatility = jnp.where(live, jnp.sqrt(jnp.where(live, diagonal(covariance), 1.0)), 1.0)
    mask = live[:, None] & live[None, :]
    correlation = jnp.where(mask, covariance / volatility[:, None] / volatility[None, :], 0.0)
    correlation = raised(correlation, 1.0 - live)
    smallest = jnp.min(jnp.where(live, budgets, 1.0))
    first = jnp.sqrt(budgets / jnp.maximum(correlation @ jnp.sqrt(budgets), 1e-3)) + 1.0 - live
    first = first / jnp.sqrt(jnp.maximum(first @ correlation @ first, 1e-300))

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        _, decrement, count = carry
        return (decrement > TOLERANCE) & (count < ITERATIONS_MAX)

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        y, _, count = carry
        gradient = jnp.where(live, correlation @ y - budgets / y, 0.0)
        curve = raised(correlation, jnp.where(live, budgets / y**2, 0.0))
        root = factor(curve)
        half = lower(root, gradient[:, None])
        change = upper(root, half)[:, 0]
        # Self-concordance holds after dividing by the smallest budget.
        decrement = jnp.sqrt(jnp.sum(half * half) / smallest)
        relative = jnp.where(live, change / y, 0.0)
        full = ROOM / jnp.maximum(jnp.max(relative), ROOM)
        damped = jnp.minimum(1.0 / (1.0 + decrement), full)
        slope, bend = gradient @ change, change @ (correlation @ change)

        def fall(length: Array) -> Array:
            """How far the function falls over a step; its linear part without the logarithm's."""
            logs = budgets @ (jnp.log1p(-length * relative) + length * relative)
            return length * slope - 0.5 * length**2 * bend + logs

        longer = (decrement < FULL_STEP) | (fall(full) > fall(damped))
        return y - jnp.where(longer, full, damped) * change, decrement, count + 1

    y, decrement, count = lax.while_loop(
        unfinished, step, (first, jnp.array(jnp.inf), jnp.zeros((), jnp.int64))
    )
    tail = jnp.stack([decrement, count * 1.0])
    return jnp.concatenate([jnp.where(live, y / volatility, 0.0), tail])


run_spinu = jax.jit(spinu)


@jax.jit
def run_spinu_batch(covariance: Array, budgets: Array) -> Array:
    """`spinu` for every problem of a stack, f64[batch, n + 2]."""
    return of_each(spinu, budgets.shape[-1])(covariance, budgets)
