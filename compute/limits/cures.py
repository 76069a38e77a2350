"""Which part of trades brings a book inside limits that it is beyond: on the host, of any weights.

Limits on single instruments and on sums; `book_stage.py` adds those of the whole book.
"""

import numpy as np
from numpy.typing import NDArray

from compute.limits.bounds import LimitBounds
from compute.limits.projection import Sums, cures
from compute.market import Floats, Integers
from compute.waterfall.layout import Exposure

Mask = NDArray[np.bool_]


def own_bounds(bounds: LimitBounds, index: Integers) -> tuple[Floats, Floats]:
    """Least and largest weight that each line may have by itself, (n,) each."""
    low, high = bounds.least[index], bounds.most[index]
    if not bounds.limits.allow_short:
        low = np.maximum(low, 0.0)
    # Where reserved trades make the ends cross, it is what lies between.
    return np.minimum(low, high), np.maximum(low, high)


def sums_excess(
    bounds: LimitBounds, index: Integers, active: Mask, before: Floats, weight: Floats
) -> Floats:
    """Value less bound of gross, net maximum and net minimum of each membership, (3, g)."""
    change = np.where(active, weight - before, 0.0)
    grown = np.where(active, np.abs(weight) - np.abs(before), 0.0)
    members = bounds.members[:, index]
    gross = bounds.bounds[Exposure.OTHER_GROSS] + members @ grown
    net = bounds.bounds[Exposure.OTHER_NET] + members @ change
    return np.stack(
        [
            gross - bounds.bounds[Exposure.GROSS_MAX],
            net - bounds.bounds[Exposure.NET_MAX],
            bounds.bounds[Exposure.NET_MIN] - net,
        ]
    )


def needed(
    bounds: LimitBounds, index: Integers, active: Mask, before: Floats, weight: Floats
) -> Floats:
    """How much of each trade to `weight` brings the book inside, (n,), see `projection.cures`."""
    excess = sums_excess(bounds, index, active, before, before)
    sums = Sums(bounds.members[:, index] * active, excess)
    found: Floats = cures(weight, before, own_bounds(bounds, index), sums, np)
    return found
