"""Dividing what portfolios share: each gets the same part of the increase it wants.

    sum_i before_i + s sum_i increase_i <= bound,   0 <= s <= 1 as large as possible

Reductions always go through, and free no room for the others before they are filled. Where all fits
(s = 1), each gets an equal part of what is left too: a bound that holds nobody must not look, a
rounding away, as if it held one.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compute.limits.policy import SharedLimits
from compute.market import Floats, SharedUse


def allocate(
    before: Floats, wanted: Floats, bound: float | Floats, outside: float | Floats
) -> Floats:
    """What each portfolio may use, (p, ...), of a bound shared with `outside` use.

    before, wanted: absolute notionals of each portfolio, (p, ...), before and as it would like.
    """
    increase = np.maximum(wanted - before, 0.0)
    room = np.maximum(bound - outside - before.sum(axis=0), 0.0)
    total = increase.sum(axis=0)
    fits = total <= room
    part = np.where(fits, 1.0, room / np.where(fits, 1.0, total))
    spare = np.where(fits, room - total, 0.0) / len(before)
    allowed: Floats = before + part * increase + spare
    return allowed


def divided(
    uses: Sequence[SharedUse], before: Floats, wanted: Floats, members_before: Floats
) -> list[SharedUse]:
    """The shared use each of p portfolios has to respect so that together they keep the limits.

    uses: what every other member of the group uses, from each portfolio's own view. before,
    wanted: absolute notional per instrument of each portfolio, (p, m). members_before: the same
    of the group's members that are not among the p, summed, (m,), in the first one's currency.

    Each is in its portfolio's base currency, and so are the limits of its use: they are the same
    amounts, whose ratio is the exchange rate.
    """
    limits: SharedLimits = uses[0].limits
    rate = np.array([_rate(use.limits, limits) for use in uses])
    before, wanted = before * rate[:, None], wanted * rate[:, None]
    gross_max, instrument_max = limits.gross_notional_max, limits.instrument_notional_max
    out = list(uses)
    if gross_max is not None:
        gross = allocate(
            before.sum(axis=1), wanted.sum(axis=1), gross_max, float(members_before.sum())
        )
        out = [
            replace(use, gross_notional=(gross_max - float(own)) / float(r))
            for use, own, r in zip(out, gross, rate, strict=True)
        ]
    if instrument_max is not None:
        each = allocate(before, wanted, instrument_max, members_before)
        out = [
            replace(use, instrument_notional=(instrument_max - own) / r)
            for use, own, r in zip(out, each, rate, strict=True)
        ]
    return out


def _rate(own: SharedLimits, first: SharedLimits) -> float:
    """Units of the first portfolio's currency for one of another's; 1 where no bound is above 0."""
    for mine, theirs in (
        (own.gross_notional_max, first.gross_notional_max),
        (own.instrument_notional_max, first.instrument_notional_max),
    ):
        if mine and theirs:
            return theirs / mine
    return 1.0
