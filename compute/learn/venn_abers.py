"""Venn-Abers prediction, inductive: a probability with bounds that come from no assumption but one.

A new score is put among those of the calibration bets twice, once as a loss and once as a win, and
the best rising step function is fitted each time. What the two fits say at the score are p0 <= p1.
Where bets are exchangeable one of the two is perfectly calibrated, whatever the scores are worth
(Vovk and Petej 2014, Venn-Abers predictors). Merged to the one probability that log loss asks for:

    p = p1 / (1 - p0 + p1)

The width p1 - p0 says how much one more bet changes, which is far less than the sampling error: of
2,000 bets p +- (p1 - p0) holds the truth about one time in five. So the standard error that sizes
are shrunk by has the error of the win rate of the bets pooled at that place in it as well:

    error^2 = ((p1 - p0) / 2)^2 + p (1 - p) / m

Both fits depend on the new score only by its place among the old ones, so all of them are made
beforehand: k different scores have 2k + 1 places, each between two of them or on one.
"""

from dataclasses import dataclass

import numpy as np

from compute.market import Floats

Block = tuple[float, float]
"""Wins and bets of scores that were pooled."""


@dataclass(frozen=True)
class VennAbers:
    """knots: different scores, rising, (k,). lower, upper: p0 and p1 at each place, (2k + 1,), and
    pooled: bets in the smaller of their blocks, the new one among them. Place 2i is between knots
    i - 1 and i, place 2i + 1 on knot i."""

    knots: Floats
    lower: Floats
    upper: Floats
    pooled: Floats

    def at(self, score: Floats) -> tuple[Floats, Floats, Floats]:
        """p0, p1 and the bets pooled at scores (n,)."""
        place = np.searchsorted(self.knots, score, "left")
        place = place + np.searchsorted(self.knots, score, "right")
        return self.lower[place], self.upper[place], self.pooled[place]


def merged(lower: Floats, upper: Floats) -> Floats:
    """The one probability of p0 and p1 whose largest regret in log loss is the least."""
    p: Floats = upper / (1.0 - lower + upper)
    return p


def standard_error(lower: Floats, upper: Floats, pooled: Floats) -> Floats:
    """Of `merged`, (n,), see above."""
    p = merged(lower, upper)
    error: Floats = np.sqrt(0.25 * (upper - lower) ** 2 + p * (1.0 - p) / pooled)
    return error


def fit(score: Floats, won: Floats) -> VennAbers:
    """The bounds at every place among scores (n,) with outcomes (n,)."""
    knots, places, counts = np.unique(score, return_inverse=True, return_counts=True)
    wins = np.bincount(places, weights=won)
    blocks = list(zip(wins.tolist(), counts.astype(np.float64).tolist(), strict=True))
    below = _prefixes(blocks, 1.0)
    above = _prefixes(blocks[::-1], -1.0)[::-1]
    found = np.empty((3, 2 * len(knots) + 1))
    found[2] = np.inf
    for place in range(2 * len(knots) + 1):
        knot, is_on = divmod(place, 2)
        own = blocks[knot] if is_on else (0.0, 0.0)
        sides = below[knot], above[knot + is_on]
        for outcome in (0, 1):
            sum_won, bets = _pooled((own[0] + outcome, own[1] + 1.0), *sides)
            found[outcome, place] = sum_won / bets
            found[2, place] = min(found[2, place], bets)
    return _without_repeats(knots, found)


Stack = tuple[Block, "Stack"] | None
"""Pooled blocks on one side of a place, the nearest first."""


def _prefixes(blocks: list[Block], direction: float) -> list[Stack]:
    """Of the first 0, 1, ... blocks, the pooled ones; values rise (1) or fall (-1) along them."""
    stack: Stack = None
    found: list[Stack] = [None]
    for wins, bets in blocks:
        while stack is not None and direction * _crossed(stack[0], (wins, bets)) >= 0.0:
            (more, of), stack = stack
            wins, bets = wins + more, bets + of
        stack = ((wins, bets), stack)
        found.append(stack)
    return found


def _pooled(block: Block, below: Stack, above: Stack) -> Block:
    """A new block between those pooled below and above, after all violators pool."""
    while True:
        if below is not None and _crossed(below[0], block) >= 0.0:
            (wins, bets), below = below
        elif above is not None and _crossed(block, above[0]) >= 0.0:
            (wins, bets), above = above
        else:
            return block
        block = block[0] + wins, block[1] + bets


def _crossed(first: Block, second: Block) -> float:
    """Of the sign of the first mean less the second, exact for counts."""
    return first[0] * second[1] - second[0] * first[1]


def _without_repeats(knots: Floats, found: Floats) -> VennAbers:
    """Without the knots below, on and above which all is the same."""
    changes = (found[:, 1:] != found[:, :-1]).any(axis=0)
    kept = np.flatnonzero(changes[0::2] | changes[1::2])
    places = np.concatenate([[0], np.stack([2 * kept + 1, 2 * kept + 2], axis=1).ravel()])
    return VennAbers(knots[kept], *found[:, places])
