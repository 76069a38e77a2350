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

from compute.optimize.interior_point.batching import of_each
from compute.optimize.interior_point.iteration import LAG, iterate, start
from compute.optimize.interior_point.kkt_system import Array, split
from compute.optimize.interior_point.lazy_hessian import Curvature, formed, refreshed
from compute.optimize.interior_point.prices import prices
from compute.optimize.interior_point.problem_data import Data
from compute.optimize.interior_point.screening import doubtful
from compute.optimize.interior_point.state import Frame, State, best_of, frame, kept, kept_size
from compute.optimize.interior_point.xla_scheduling import Part, at_once, in_stages, stage
from compute.optimize.problem import Array as HostArray
from compute.shapes import unpacked

ITERATIONS_MAX = 100
TOLERANCE = 1e-12  # of the scaled primal residual
MU_TOLERANCE = 2e-13  # of complementarity: the gap is the sum of this over all inequalities
DUAL_TOLERANCE = 1e-11  # of the scaled dual residual, which rounding limits
PATIENCE = 4  # iterations without progress before the best point so far is taken
ACCEPTABLE = 1e-9  # patience is not tried before this error is reached


def _size(dual: Array, primal: Array, mu: Array) -> Array:
    """One number of the three errors, 1 at their tolerances, times that of the primal one."""
    largest = jnp.maximum(jnp.maximum(dual / DUAL_TOLERANCE, primal / TOLERANCE), mu / MU_TOLERANCE)
    return largest * TOLERANCE


def interior_point(data: Data, lag: Array, *, screening: bool) -> Array:
    """Solve one problem: the best state met, packed into one vector (see `_packed`).

    screening: doubts about its limits are looked for, unless it says they were.
    """
    plain = ~doubtful(data) if screening else jnp.ones((), bool)
    return _solved(data, lag, plain, at_once)


def _solved(data: Data, lag: Array, plain: Array, part: Part) -> Array:
    """The answer, nothing being done unless it is `plain` that the limits have an inside."""
    fixed = part(plain, lambda: frame(data, lag))

    def iterated() -> Array:
        first, curvature = part(plain, lambda: _begun(data, fixed))
        return _iterated(data, fixed, plain, first, curvature)

    nothing = jax.ShapeDtypeStruct((kept_size(data),), jnp.float64)
    best = part(plain, iterated, nothing)
    names = part(plain, lambda: _packed(data, fixed, best)[0])
    sums = part(plain, lambda: _packed(data, fixed, best)[1])
    return jnp.concatenate([names, sums, (1.0 - plain)[None]])


def _begun(data: Data, fixed: Frame) -> tuple[State, Curvature]:
    """Where the iteration starts."""
    first = start(data, fixed)
    duals = split(data, first.z).limits
    return first, formed(data, first.kkt.point, duals, fixed.scale)


def _iterated(data: Data, fixed: Frame, plain: Array, first: State, curvature: Curvature) -> Array:
    """The best state met, as `kept` has it."""

    def unfinished(carry: tuple[State, Array, Curvature]) -> Array:
        now, best, _ = carry
        *error, _, met = best[-5:]
        size = _size(*error)
        waiting = (now.iteration - met < PATIENCE) | (size > ACCEPTABLE)
        going = (size > TOLERANCE) & (now.iteration < ITERATIONS_MAX) & waiting
        return plain & going & ~jnp.any(jnp.isnan(now.x.w))

    def step(carry: tuple[State, Array, Curvature]) -> tuple[State, Array, Curvature]:
        now, best, formed_at = carry
        duals, exact = split(data, now.z).limits, fixed.lag > LAG
        curve = refreshed(data, now.kkt.point, duals, fixed.scale, formed_at, exact)
        new = iterate(data, fixed, now, curve)
        better = _size(*new.error) < _size(*best[-5:-2])
        return new, jnp.where(better, kept(new), best), curve

    return lax.while_loop(unfinished, step, (first, kept(first), curvature))[1]


def _packed(data: Data, fixed: Frame, best: Array) -> tuple[Array, Array]:
    """What the host needs in one vector, because every array returned costs a fixed time.

    The fields of `output.Answer` one after another, those of names and those of sums.
    """
    met = best_of(data, best)
    price = prices(data, fixed, met)
    slopes = price.trade_slope, price.gross_slope
    report = [met.violation, fixed.pairs, *met.error, met.iteration, price.scale]
    return (
        jnp.concatenate([met.w * data.unit, price.lower, price.upper, price.reduced_cost, *slopes]),
        jnp.concatenate([price.row_min, price.row_max, price.numbers, jnp.stack(report)]),
    )


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
    def read() -> Data:
        parts = unpacked(buffer[:-1], tuple(shape for _, shape in layout))
        fields: dict[str, Any] = dict(zip((name for name, _ in layout), parts, strict=True))
        return Data(returns=returns, **fields)

    plain = ~stage(read().screened == 0.0, lambda: doubtful(read()))
    return _solved(in_stages(plain, read), buffer[-1], plain, stage)


@jax.jit
def run_batch(data: Data, lag: Array) -> Array:
    """`interior_point` for every problem of a stack, f64[batch, ...].

    Those with scenarios run one after another, as large ones do: see `of_each`.
    """

    def one(data: Data) -> Array:
        return interior_point(data, lag, screening=True)

    if data.returns is not None:
        return lax.map(one, data)
    return of_each(one, data.lower.shape[1])(data)
