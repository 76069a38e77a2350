"""Do the limits of a problem need a closer look before it is solved?

Limits without an inside (`limits.forced`, `limits.distinct`) and bounds that cross are dealt with
on the host. They are rare, and to look for them there takes as long as two iterations of a small
book: the kernel asks first, by the same numbers, and hands back what it has doubts about.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from compute.optimize.interior_point.problem_data import Array, Data
from compute.optimize.limits import ALIKE, CANCELLED, FORCED, marks


def doubtful(data: Data) -> Array:
    """True unless surely no bounds cross, no row forces its names and no two rows are parallel.

    Never of a problem that the host has looked at.
    """
    bounded = jnp.isfinite(data.row_min) | jnp.isfinite(data.row_max)
    crossed = jnp.any(data.lower > data.upper) | jnp.any(data.row_min > data.row_max)
    doubts = crossed | _forcing(data) | _parallel(data.rows, bounded)
    return doubts & (data.screened == 0.0)


def _forcing(data: Data) -> Array:
    """True if a row of a closed box has next to no room on one side."""
    reach = jnp.maximum(jnp.abs(data.lower), jnp.abs(data.upper))
    closed = jnp.all(jnp.isfinite(reach))
    low, high, reach = (jnp.where(closed, x, 0.0) for x in (data.lower, data.upper, reach))
    size, middle = jnp.abs(data.rows), data.rows @ (0.5 * (low + high))
    either, near = size @ (0.5 * (high - low)), FORCED * (size @ reach)
    room = jnp.minimum(middle + either - data.row_min, data.row_max - (middle - either))
    return closed & jnp.any(room <= near)


def _parallel(rows: Array, bounded: Array) -> Array:
    """True unless the ratios of two weighted sums tell the rows with bounds apart."""
    first, second = (rows @ marks(rows.shape[-1])).T
    lost = jnp.abs(second) <= CANCELLED * jnp.max(jnp.abs(rows), axis=-1)
    ratios = jnp.where(bounded & ~lost, first / second, 0.0)
    near = jnp.abs(ratios[:, None] - ratios[None, :]) <= ALIKE * jnp.max(jnp.abs(ratios))
    pairs = bounded[:, None] & bounded[None, :] & ~np.eye(len(rows), dtype=bool)
    return jnp.any(bounded & lost) | jnp.any(near & pairs)
