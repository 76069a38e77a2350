"""What was known of features when: the last value that was known before a moment.

A value says when it was true (`as_of`) and when it became known (`known`), which is never
earlier. At a moment t it counts where known < t; of those the one with the latest as_of, and of
these the one that became known last: a restatement of an older day never hides a newer day. A value
older than the age limit at t is missing; the one before it is older still.

Times are nanoseconds since 1970.
"""

from dataclasses import dataclass

import numpy as np

from compute.market import Integers

NOWHERE = -1


@dataclass(frozen=True)
class KnownTimes:
    """Of n stored rows, in any order: whose they are (a number), as_of and known, (n,) each."""

    group: Integers
    as_of: Integers
    known: Integers


def as_of_join(
    stored: KnownTimes, group: Integers, moment: Integers, age_max: int | None
) -> tuple[Integers, Integers]:
    """Places of the stored rows that m lines see, each of its `group` at its `moment`, (m,).

    NOWHERE where nothing was known, or what was known is older than `age_max` nanoseconds; the
    second answer, (m,), has the place of the latter all the same. What becomes known at a moment or
    later changes nothing, and neither does the order of the rows.
    """
    place, seen = np.full(len(group), NOWHERE), np.full(len(group), NOWHERE)
    order = np.lexsort((stored.as_of, stored.known, stored.group))
    starts = np.searchsorted(stored.group[order], np.unique(group), "left")
    ends = np.searchsorted(stored.group[order], np.unique(group), "right")
    for name, start, end in zip(np.unique(group), starts, ends, strict=True):
        lines = np.flatnonzero(group == name)
        own = order[start:end]
        newest = _newest_so_far(stored.as_of[own])
        count = np.searchsorted(stored.known[own], moment[lines], "left")
        found = lines[count > 0]
        seen[found] = own[newest[count[count > 0] - 1]]
    known = np.flatnonzero(seen != NOWHERE)
    age = moment[known] - stored.as_of[seen[known]]
    young = known if age_max is None else known[age <= age_max]
    place[young] = seen[young]
    return place, seen


def _newest_so_far(as_of: Integers) -> Integers:
    """After each row the place of the one with the latest as_of, the later of equal ones, (n,)."""
    latest = np.maximum.accumulate(as_of) if len(as_of) else as_of
    places: Integers = np.maximum.accumulate(np.where(as_of == latest, np.arange(len(as_of)), 0))
    return places
