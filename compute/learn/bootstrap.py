"""Sequential bootstrap: draws that say little twice (Lopez de Prado 2018, 4.5).

    u_i = mean over the bars t of bet i of 1 / (1 + c_t)

with c_t the drawn bets of its group that are alive at t. Each draw takes bet i with probability
u_i / sum u: what overlaps those drawn before is less likely, itself most of all.
"""

import numpy as np

from compute.learn.rows import Rows
from compute.market import Integers

_BLOCK = 512
"""Of probabilities that are summed together: a draw looks at the blocks, then into one."""


def bars(rows: Rows) -> tuple[Integers, Integers]:
    """First and last bar of each bet, (n,), both included: all times of rows are the bars."""
    times = np.unique(np.concatenate([rows.start, rows.end]))
    return np.searchsorted(times, rows.start), np.searchsorted(times, rows.end)


def drawn(rows: Rows, count: int, seed: int) -> Integers:
    """How often each of the rows is drawn, (n,), of `count` draws; rows: by time."""
    generator = np.random.default_rng(seed)
    draws, odds = np.zeros(len(rows), dtype=np.int64), _Odds(rows)
    for point in generator.random(count):
        place = odds.at(float(point))
        draws[place] += 1
        odds.draw(place)
    return draws


class _Odds:
    """Uniqueness of each bet given those drawn so far; a draw changes those that overlap it."""

    def __init__(self, rows: Rows) -> None:
        self._first, self._last = bars(rows)
        self._group = np.unique(rows.group, return_inverse=True)[1]
        self._own = [np.flatnonzero(self._group == g) for g in range(self._group.max() + 1)]
        self._alive = np.zeros((len(self._own), int(self._last.max()) + 1))
        self._longest = int((self._last - self._first).max())
        self.uniqueness = np.ones(len(rows))
        starts = np.arange(0, len(rows), _BLOCK)
        self._blocks = np.add.reduceat(self.uniqueness, starts)

    def at(self, point: float) -> int:
        """The bet at this part, in [0, 1), of all uniqueness."""
        sums = np.cumsum(self._blocks)
        left = point * sums[-1]
        block = min(int(np.searchsorted(sums, left, "right")), len(sums) - 1)
        left -= sums[block - 1] if block else 0.0
        inner = np.cumsum(self.uniqueness[block * _BLOCK : (block + 1) * _BLOCK])
        return block * _BLOCK + min(int(np.searchsorted(inner, left, "right")), len(inner) - 1)

    def draw(self, place: int) -> None:
        """One more of the bet is there."""
        first, last, group = self._first[place], self._last[place], self._group[place]
        alive, own = self._alive[group], self._own[group]
        alive[first : last + 1] += 1.0
        near = own[
            np.searchsorted(self._first[own], first - self._longest) : np.searchsorted(
                self._first[own], last, "right"
            )
        ]
        near = near[self._last[near] >= first]
        begin = int(self._first[near].min())
        share = 1.0 / (1.0 + alive[begin : int(self._last[near].max()) + 1])
        sums = np.concatenate([[0.0], np.cumsum(share)])
        one, after = self._first[near] - begin, self._last[near] + 1 - begin
        self.uniqueness[near] = (sums[after] - sums[one]) / (after - one)
        for block in np.unique(near // _BLOCK):
            part = self.uniqueness[block * _BLOCK : (block + 1) * _BLOCK]
            self._blocks[block] = part.sum()
