"""A problem without what bounds a single decision: where a book would go, had it several."""

from dataclasses import replace

import numpy as np

from compute.inputs import Inputs
from compute.limits.projection import NO_LIMIT


def without_limits_of_one_decision(inputs: Inputs) -> Inputs:
    """The same without turnover, sizes of trades and free capital.

    The way from the book held to an optimum of these is a straight line, along which every limit is
    exceeded less and less: the part of it that one decision may go is a step towards the limits.
    """
    limit_bounds = inputs.limit_bounds
    free = np.full_like(limit_bounds.buy_max, NO_LIMIT)
    limits = replace(limit_bounds.limits, turnover_max=None)
    return replace(
        inputs,
        limit_bounds=replace(
            limit_bounds, limits=limits, free=NO_LIMIT, buy_max=free, sell_max=free
        ),
    )
