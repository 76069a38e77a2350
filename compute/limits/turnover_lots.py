"""Whole lots within a turnover: what limits need goes first, in lots as in weights.

Rounded to the safe side, reductions are up to a lot larger than worked out, which can be more
than the turnover. Rounded down all alike, a book beyond a limit by less than a lot would stay there
for ever. So each line begins with its trade rounded down, and what turnover is left goes by lots
to trades that bring the book inside, to the one furthest from it first, for which others are made
smaller where it takes that; then to other reductions.
"""

import numpy as np

from compute.market import Floats

ROUNDING = 1e-12
"""Relative: a sum of weights is no more exact."""


def within_turnover(
    down: Floats, safe: Floats, needed: Floats, lot_weight: Floats, turnover_max: float
) -> Floats:
    """Whole trades (n,), signed, whose weights add up to `turnover_max` at most.

    down, safe: rounded towards no trade, and to the safe side. needed: those that limits ask for,
    signed; as near as turnover lets to the larger of both.
    """
    most = turnover_max * (1.0 + ROUNDING)
    goal = np.where(np.abs(needed) > np.abs(down), needed, down)
    lots, spare = down.copy(), _spare(down, needed)
    while ((missing := (np.abs(goal) - np.abs(lots)) * lot_weight) > 0.0).any():
        line, lacking = int(np.argmax(missing)), np.count_nonzero(missing > 0.0)
        room = most - np.abs(lots) @ lot_weight + spare @ lot_weight
        # Alike, but not lot by lot: a part of the room each, at least a lot.
        share = np.floor(room / lot_weight[line] / lacking)
        count = min(max(share, 1.0), abs(goal[line] - lots[line]))
        if count * lot_weight[line] > room:
            goal[line] = lots[line]
            continue
        lots[line] += np.sign(goal[line]) * count
        back = _given_back(spare, lot_weight, float(np.abs(lots) @ lot_weight) - most)
        has_all = np.abs(goal) <= np.abs(lots)
        lots, spare = lots - np.sign(lots) * back, spare - back
        # What is given back is not asked for again: two lines would hand it round for ever.
        goal = np.where((back > 0.0) & has_all, lots, goal)
    extra = (np.abs(safe) - np.abs(lots)) * lot_weight
    for line in np.argsort(extra, kind="stable"):
        if extra[line] > 0.0 and np.abs(lots) @ lot_weight + extra[line] <= most:
            lots[line] = safe[line]
    return lots


def _spare(lots: Floats, needed: Floats) -> Floats:
    """Lots of each trade that no limit needs, (n,) >= 0."""
    same = np.sign(lots) == np.sign(needed)
    return np.maximum(np.abs(lots) - np.where(same, np.abs(needed), 0.0), 0.0)


def _given_back(spare: Floats, lot_weight: Floats, over: float) -> Floats:
    """As many of `spare` as weigh `over`, the smallest lots first, (n,)."""
    back = np.zeros(len(spare))
    for line in np.argsort(lot_weight, kind="stable"):
        if over <= 0.0:
            break
        back[line] = min(spare[line], np.ceil(over / lot_weight[line]))
        over -= back[line] * lot_weight[line]
    return back


def whole_needed(needed: Floats, before: Floats, lot_weight: Floats, slack: Floats) -> Floats:
    """Whole lots of what limits need of each trade, (n,), signed as `needed`.

    needed, before: weights. Reductions are rounded up, at most to no position; what has to be
    bought or sold short is rounded down. slack: lots that are rounding.
    """
    asked = needed != 0.0
    exact, held = np.zeros(len(needed)), np.zeros(len(needed))
    np.divide(np.abs(needed), lot_weight, out=exact, where=asked)
    np.divide(np.abs(before), lot_weight, out=held, where=asked)
    slack = np.maximum(slack, 1e-9 * np.maximum(exact, 1.0))
    up = np.minimum(np.ceil(exact - slack), np.floor(held + slack))
    whole: Floats = np.where(needed * before < 0.0, up, np.floor(exact + slack))
    return np.sign(needed) * whole + 0.0
