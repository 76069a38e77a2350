"""At most so many positions in a book: which lines of a batch get the places there are.

A place is taken by every position that may turn out to be one, whichever reserved trades fill. What
is held outside the batch keeps its place. Of the batch the positions that there are come first,
then those that would be opened, each by expected growth at the weight that all other limits leave,
the larger weight first where that is equal, and then by name. A position that gets no place is
closed. A line that would be closed anyhow, or is too small for one lot, takes no place.
"""

import numpy as np
from numpy.typing import NDArray

from compute.inputs import Inputs
from compute.market import DUST, Floats, Market, Positions
from compute.waterfall.growth import growth


def taken_places(market: Market, positions: Positions) -> NDArray[np.bool_]:
    """The instruments of which there is a position, or may be one, (m,)."""
    least = DUST * market.lot_size
    return np.asarray((np.abs(positions.held) + positions.open_buy + positions.open_sell) > least)


def without_place(inputs: Inputs, lines: Floats, weight: Floats) -> NDArray[np.bool_] | None:
    """The lines that are to be without a position, (n,); None where there are places for all.

    lines: the kernel's input (len(Line), n). weight: where all other limits leave each line, (n,).
    """
    limit_bounds, index = inputs.limit_bounds, inputs.index
    most = limit_bounds.limits.positions_max
    if most is None or limit_bounds.is_closing:
        return None
    taken = taken_places(limit_bounds.market, limit_bounds.positions)
    mine = np.where(inputs.active, taken[index], False)
    pending = limit_bounds.positions.open_buy[index] + limit_bounds.positions.open_sell[index] > 0.0
    lot_weight = limit_bounds.unit_weight[index] * limit_bounds.market.lot_size[index]
    kept = np.abs(weight) > DUST * lot_weight
    kept = np.where(mine, kept | pending, np.abs(weight) >= lot_weight * (1.0 - DUST))
    kept &= inputs.active
    places = max(int(most) - int(taken.sum() - mine.sum()), 0)
    if int(kept.sum()) <= places:
        return None
    value, _ = growth(weight * inputs.signals.side, lines, inputs)
    names = np.array(limit_bounds.market.instrument_ids)[index]
    asking = np.flatnonzero(kept)
    order = np.lexsort((names[asking], -np.abs(weight[asking]), -value[asking], ~mine[asking]))
    without = inputs.active.copy()
    without[asking[order[:places]]] = False
    return without
