"""Models as numbers, and what they say of new features: members, and how they are made one."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from compute.learn.members import Member
from compute.learn.pools import log_pool, mixture
from compute.market import Floats

PROBABILITY_MARGIN = 1e-6
"""No model is surer than this."""


class ModelKind(IntEnum):
    """What a model is. The numbers are those of the contract."""

    LOGISTIC = 1
    LOG_POOL = 2
    WEALTH_MIXTURE = 3
    SIZE_MULTIPLIER = 4
    BOOSTED_TREES = 5
    NETWORK = 6


@dataclass(frozen=True)
class Model:
    """A model that can be served; features: all that it reads, in the order of its columns.

    members: one, or several with `weights` that sum to 1. A SIZE_MULTIPLIER has one member whose
    score is the multiplier.
    """

    kind: ModelKind
    features: tuple[str, ...]
    members: tuple[Member, ...]
    weights: Floats

    def predict(self, x: Floats, implied: Floats) -> tuple[Floats, Floats]:
        """Win probabilities and standard errors of lines (n,); x: (n, k), implied: (n,)."""
        each = [member.predict(x[:, self._places(member)]) for member in self.members]
        p, error = np.stack([item[0] for item in each]), np.stack([item[1] for item in each])
        return combined(self.kind, p, error, self.weights, implied)

    def multiplier(self, x: Floats) -> Floats:
        """What a SIZE_MULTIPLIER multiplies the stakes of lines by, (n,), in (0, 1)."""
        return self.members[0].score(x)[0]

    def _places(self, member: Member) -> list[int]:
        return [self.features.index(name) for name in member.features]


def combined(
    kind: ModelKind, p: Floats, error: Floats, weights: Floats, implied: Floats
) -> tuple[Floats, Floats]:
    """One probability of those of members (m, n), with the members' disagreement in its error.

    error^2 = sum_i w_i (error_i^2 + (p_i - p)^2): the variance of a member drawn by its weight.
    """
    if len(p) == 1:
        pooled = p[0]
    elif kind is ModelKind.WEALTH_MIXTURE:
        pooled = mixture(p, weights, implied)
    else:
        pooled = log_pool(p, weights)
    pooled = np.clip(pooled, PROBABILITY_MARGIN, 1.0 - PROBABILITY_MARGIN)
    away = np.maximum(p, implied) - pooled if kind is ModelKind.WEALTH_MIXTURE else p - pooled
    return pooled, np.sqrt((weights[:, None] * (error**2 + away**2)).sum(axis=0))
