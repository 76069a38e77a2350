"""The compiled solver: iterations until the conditions hold or no longer improve, and its answer.

One problem or a stack of them; the best state met is what counts.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from compute.optimize.problem import Array as HostArray
from compute.optimize.solver.curvature import Curvature, refreshed, unformed
from compute.optimize.solver.interior import LAG, iterate, start
from compute.optimize.solver.model import Data
from compute.optimize.solver.newton import Array, split
from compute.optimize.solver.stack import of_each
from compute.optimize.solver.state import Frame, State, frame
from compute.shapes import unpacked

ITERATIONS_MAX = 100
TOLERANCE = 1e-12  # of the scaled primal residual
MU_TOLERANCE = 2e-13  # of complementarity: the gap is the sum of this over all inequalities
DUAL_TOLERANCE = 1e-11  # of the scaled dual residual, which rounding limits
PATIENCE = 4  # iterations without progress before the best point so far is taken
ACCEPTABLE = 1e-9  # patience is not tried before this error is reached


def _size(errors: Array) -> Array:
    """One number of the three errors, 1 at their tolerances."""
    return jnp.max(errors / jnp.array([DUAL_TOLERANCE, TOLERANCE, MU_TOLERANCE])) * TOLERANCE


def interior_point(data: Data, lag: Array) -> Array:
    """Solve one problem: the best state met, packed into one vector (see `pack`)."""
    fixed = frame(data, lag)

    def unfinished(carry: tuple[State, State, Curvature]) -> Array:
        now, best, _ = carry
        size = _size(best.error)
        waiting = (now.iteration - best.iteration < PATIENCE) | (size > ACCEPTABLE)
        going = (size > TOLERANCE) & (now.iteration < ITERATIONS_MAX) & waiting
        return going & ~jnp.any(jnp.isnan(now.x.w))

    def step(carry: tuple[State, State, Curvature]) -> tuple[State, State, Curvature]:
        now, best, kept = carry
        duals, exact = split(data, now.z).limits, fixed.lag > LAG
        kept = refreshed(data, now.kkt.point, duals, fixed.scale, kept, exact)
        new = iterate(data, fixed, now, kept)
        better = _size(new.error) < _size(best.error)
        return new, jax.tree.map(lambda a, b: jnp.where(better, a, b), new, best), kept

    first = start(data, fixed)
    best = lax.while_loop(unfinished, step, (first, first, unformed(data)))[1]
    return pack(data, fixed, best)


def pack(data: Data, fixed: Frame, state: State) -> Array:
    """What the host needs in one vector, because every array returned costs a fixed time.

    w f64[n]; gradient f64[n] of the scaled objective and of rows and nonlinear limits times their
    duals; y f64[m]; z and e of every inequality; error f64[3], iterations, scale.
    """
    point, duals = state.kkt.point, split(data, state.z)
    net = duals.row_high - duals.row_low + state.y
    gradient = point.gradient + net @ data.rows + duals.limits @ point.slopes
    tail = jnp.concatenate([state.error, jnp.stack([state.iteration * 1.0, fixed.scale])])
    return jnp.concatenate([state.x.w, gradient, state.y, state.z, state.e, tail])


Layout = tuple[tuple[str, tuple[int, ...]], ...]


def run(data: Data, lag: float) -> HostArray:
    """`interior_point` on the host, compiled for what `data` has.

    All but the scenarios is handed over as one array: between two calls the caches have forgotten
    how JAX takes one, which costs as much as an iteration of a small problem.
    """
    small = [
        (name, x) for name, x in data._asdict().items() if x is not None and x is not data.returns
    ]
    layout = tuple([(name, x.shape) for name, x in small])
    buffer = np.concatenate([*(x.ravel() for _, x in small), [lag]])
    return np.asarray(_on_buffer(buffer, data.returns, layout))


@partial(jax.jit, static_argnames="layout")
def _on_buffer(buffer: Array, returns: Array | None, layout: Layout) -> Array:
    *parts, lag = unpacked(buffer, (*(shape for _, shape in layout), ()))
    fields: dict[str, Any] = dict(zip((name for name, _ in layout), parts, strict=True))
    return interior_point(Data(returns=returns, **fields), lag)


@jax.jit
def run_batch(data: Data, lag: Array) -> Array:
    """`interior_point` for every problem of a stack, f64[batch, ...].

    Those with scenarios run one after another, as large ones do: see `of_each`.
    """

    def one(data: Data) -> Array:
        return interior_point(data, lag)

    if data.returns is not None:
        return lax.map(one, data)
    return of_each(one, data.lower.shape[1])(data)
