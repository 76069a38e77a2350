"""Prices of names that a row leaves no choice: which part is the bound's, which the row's.

Such names are fixed for the kernel (`limits.forced`), so that their slopes reduced by the prices of
rows may have any sign. A name at its upper bound cannot lean on its lower one: the row that
holds it there pays as much as the neediest of its names asks for, and the others have more than
enough of it at the bounds they are at.
"""

from __future__ import annotations

import numpy as np

from compute.optimize.limits import Linear
from compute.optimize.problem import Array

HELD = 1e-9  # of a row's size, within which its value is its bound


def row_prices(
    linear: Linear, box: tuple[Array, Array], weights: Array, slope: Array
) -> tuple[Array, Array]:
    """What to add to the prices of rows' lowest and highest values, f64[m] each.

    linear: the limits with forced names fixed; box: the bounds without that; slope: f64[n] of the
    Lagrangian, positive where more of a name is worse. For one problem.
    """
    rows, fixed = linear.rows, linear.lower >= linear.upper
    free = fixed & (box[0] < box[1])
    up, down = free & (weights >= box[1]), free & (weights <= box[0])
    value, size = rows @ weights, np.abs(rows) @ np.maximum(np.abs(weights), HELD)
    full = np.isinf(linear.price) & (fixed | (rows == 0.0)).all(axis=-1)
    low = full & (value - linear.row_min <= HELD * size)
    high = full & (linear.row_max - value <= HELD * size)
    added = np.zeros(len(rows)), np.zeros(len(rows))
    for _ in range(len(rows)):  # a row may force names through those of another
        lifted = np.where(up, np.maximum(slope, 0.0), 0.0)
        sunk = np.where(down, np.maximum(-slope, 0.0), 0.0)
        needs = _needs(rows, lifted, sunk) * low, _needs(-rows, lifted, sunk) * high
        side = int(needs[1].max() > needs[0].max())
        row = int(needs[side].argmax())
        price = needs[side][row]
        if price == 0.0:
            break
        added[side][row] += price
        slope = slope + (price if side else -price) * rows[row]
    return added


def _needs(rows: Array, lifted: Array, sunk: Array) -> Array:
    """The least price of each row that carries what its names want, f64[m].

    lifted: of names at their upper bounds, sunk: of those at their lower ones.
    """
    wanting = np.where(rows > 0.0, lifted, 0.0) + np.where(rows < 0.0, sunk, 0.0)
    need = np.divide(wanting, np.abs(rows), out=np.zeros_like(rows), where=rows != 0.0)
    return np.asarray(need.max(axis=-1))
