"""Whole lots near the trades that were worked out, where rounding towards zero breaks a limit.

A least net exposure, or the lower end of a linear limit, is missed by positions that all got a
little smaller. Taking lots back (`repair.py`) doesn't mend that: some have to be rounded the other
way. Which ones is an integer program over the lots next to the trades,

    minimise the weight moved away from the rounding   over whole lots between low and high,

whose rows are cuts: each limit that the guards find broken adds its slope there. Limits are convex
in the trades, so that a cut takes no lots that keep them.
"""

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from compute.limits.policy import LimitKind
from compute.limits.repair import Repair
from compute.market import Floats, Integers

ROUNDS_MAX = 40
NODES_MAX = 2000
"""Branches of each program: the same everywhere, so that a replay finds the same lots."""

FAR = 1
"""Lots beyond the two next to a trade that may be traded."""


def window(
    exact: Floats, base: Integers, lot: Floats, before: Floats, ends: tuple[Floats, Floats]
) -> tuple[Integers, Integers]:
    """The fewest and the most lots of each line, (n,): next to `exact`, and within its bounds.

    lot, before: weights; ends: least and largest weight of each line. The rounding itself may stay.
    """
    least, most = ((end - before) / lot for end in ends)
    slack = 1e-9 * np.maximum(np.abs(exact), 1.0)
    low = np.maximum(np.floor(exact) - FAR, np.ceil(least - slack))
    high = np.minimum(np.ceil(exact) + FAR, np.floor(most + slack))
    return (
        np.minimum(low, base).astype(np.int64),
        np.maximum(high, base).astype(np.int64),
    )


def nearest_inside(
    repair: Repair, base: Integers, exact: Floats, ends: tuple[Integers, Integers]
) -> Integers | None:
    """Lots (n,) between the two of `ends` that break no limit; None where none are found.

    base: the trades rounded to the safe side, from which as little weight as possible is moved.
    """
    low, high = ends
    bounds, n = repair.limit_bounds, len(base)
    weight = (bounds.unit_weight * bounds.market.lot_size)[repair.index]
    lots, rows, most = base, np.empty((0, n)), np.empty(0)
    cost = np.concatenate([weight * (1.0 + np.abs(base + step - exact)) for step in (1.0, -1.0)])
    for _ in range(ROUNDS_MAX):
        found = repair.find(lots)
        if not found:
            return lots
        for broken in found:
            told = None
            if broken.kind is not LimitKind.POSITIONS_MAX:
                told = repair.slope(lots, broken)
            if told is None:
                return None
            slope, excess = told
            row = slope * weight
            unit = float(np.abs(row).max())
            if unit == 0.0:
                return None
            rows = np.vstack([rows, row / unit])
            most = np.append(most, (row @ (lots - base) - excess) / unit)
        # Lots more and lots fewer than the rounding.
        program = milp(
            cost,
            integrality=np.ones(2 * n),
            bounds=Bounds(0.0, np.concatenate([high - base, base - low])),
            constraints=LinearConstraint(np.hstack([rows, -rows]), -np.inf, most),
            options={"node_limit": NODES_MAX},
        )
        if program.x is None:
            return None
        moved = np.rint(program.x).astype(np.int64)
        step = base + moved[:n] - moved[n:]
        if (step == lots).all():
            return None
        lots = step
    return None
