"""How long to wait before trying again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential, capped, with jitter so that replicas don't come back in step.

    After the k-th failure in a row (k = 0, 1, ...) the wait is uniform between half and all of
    min(max_s, first_s 2^k), in seconds.
    """

    first_s: float = 0.1
    max_s: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.max_s:
            raise ValueError("a backoff needs 0 < first_s <= max_s")

    def delay_s(self, n_failures: int, rng: random.Random) -> float:
        """Seconds to wait after `n_failures` >= 0 earlier failures and this one."""
        longest = min(self.max_s, self.first_s * 2.0 ** min(n_failures, 60))
        return longest * rng.uniform(0.5, 1.0)
