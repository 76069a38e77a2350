"""Past bets with what was known before each of them."""

from dataclasses import dataclass, replace

import numpy as np

from compute.market import Floats, Integers


@dataclass(frozen=True)
class Rows:
    """n bets. Times in nanoseconds since 1970.

    features: (n, k), finite, as known at `start`; start: when the bet was taken; end: when its
    outcome was known, after `start`; won: 1 or 0, after costs; payoff and loss: gain and loss per
    unit staked, > 0; group: bets of one group (an instrument) overlap each other; claimed: the win
    probability that was sized with, where there was one.
    """

    names: tuple[str, ...]
    features: Floats
    start: Integers
    end: Integers
    won: Floats
    payoff: Floats
    loss: Floats
    group: Integers
    claimed: Floats | None = None

    def __len__(self) -> int:
        return len(self.start)

    @property
    def implied(self) -> Floats:
        """Win probability at which each bet is fair, a / (a + b): what its odds say, (n,)."""
        fair: Floats = self.loss / (self.loss + self.payoff)
        return fair

    def take(self, places: Integers) -> "Rows":
        """The rows at `places`, in that order."""
        return replace(
            self,
            features=self.features[places],
            start=self.start[places],
            end=self.end[places],
            won=self.won[places],
            payoff=self.payoff[places],
            loss=self.loss[places],
            group=self.group[places],
            claimed=None if self.claimed is None else self.claimed[places],
        )

    def columns(self, names: tuple[str, ...]) -> "Rows":
        """The same bets with these features only, in this order."""
        places = [self.names.index(name) for name in names]
        return replace(self, names=names, features=self.features[:, places])

    def by_time(self) -> "Rows":
        """In the order of `start`, those of one time in the order of `end`, then of `group`."""
        return self.take(np.lexsort((self.group, self.end, self.start)))
