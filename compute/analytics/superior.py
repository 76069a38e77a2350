"""Is any of N strategies better than another way to size, or was one of so many bound to look so?

    d_k,t: log growth of strategy k on day t less that of the same decisions at other sizes

The best mean of N is tested by `simulate.superiority` (White 2000, Hansen 2005) as if none of them
were better. A day without a decision of a strategy adds nothing to it, so that strategies that
decide on different days are compared over the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from compute.analytics.effectiveness import Outcome, chosen_growth, other_growth
from compute.market import Floats
from compute.simulate.bootstrap import OBSERVATIONS_MIN, Interval, mean_interval
from compute.simulate.superiority import superiority

TOO_FEW_OUTCOMES = "TOO_FEW_OUTCOMES"
"""Fewer than `OBSERVATIONS_MIN` days have a decision with an outcome."""
NOTHING_DIFFERS = "NOTHING_DIFFERS"
"""No strategy sized otherwise than the benchmark would have."""
ALL_RUINED = "ALL_RUINED"


@dataclass(frozen=True)
class DatedOutcome:
    """What came of a decision, with the day of the prices that it was made on."""

    day: date
    outcome: Outcome


@dataclass(frozen=True)
class Superiority:
    """The test against one benchmark.

    compared: strategies that were not ruined, N. best: place of the one with the largest mean
    difference, None where there is none; difference: its own, a day, not corrected for being the
    best. consistent_p, reality_check_p: that the best is no better; None, with a reason, where
    that can't be told.
    """

    benchmark: str
    compared: int
    days: int
    best: int | None
    difference: Interval | None
    consistent_p: float | None
    reality_check_p: float | None
    reason: str = ""


def superior(strategies: Sequence[Sequence[DatedOutcome]]) -> list[Superiority]:
    """The best of all strategies against each benchmark of `other_growth`, which are all there are.

    A strategy that is ruined is not among those compared; a decision whose benchmark is ruined
    isn't counted.
    """
    days = sorted({item.day for strategy in strategies for item in strategy})
    place_of = {day: place for place, day in enumerate(days)}
    columns: dict[str, list[Floats]] = {}
    kept = []
    for number, strategy in enumerate(strategies):
        outcomes = [item.outcome for item in strategy]
        chosen = chosen_growth(outcomes)
        if not len(outcomes) or not np.isfinite(chosen).all():
            continue
        kept.append(number)
        places = [place_of[item.day] for item in strategy]
        for name, other in other_growth(outcomes).items():
            column = np.zeros(len(days))
            np.add.at(column, places, np.where(np.isfinite(other), chosen - other, 0.0))
            columns.setdefault(name, []).append(column)
    if not kept:
        reason = ALL_RUINED if days else TOO_FEW_OUTCOMES
        names = other_growth([])
        return [Superiority(name, 0, len(days), None, None, None, None, reason) for name in names]
    return [_tested(name, np.stack(found, axis=1), kept) for name, found in columns.items()]


def _tested(benchmark: str, difference: Floats, kept: Sequence[int]) -> Superiority:
    """difference: (days, N); kept: the place of each column among all strategies."""
    days, compared = difference.shape
    best = int(difference.mean(axis=0).argmax())
    own = mean_interval(difference[:, best])
    told = (benchmark, compared, days, kept[best], own)
    if days < OBSERVATIONS_MIN:
        return Superiority(*told, None, None, TOO_FEW_OUTCOMES)
    found = superiority(difference)
    if found is None:
        return Superiority(*told, None, None, NOTHING_DIFFERS)
    return Superiority(*told, *found)
