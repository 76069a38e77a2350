"""Models as numbers, and what they say of new features.

A feature beyond what was seen in training is taken at the end of what was seen: nothing is known
about what lies further out, and a straight line would be sure of it.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from compute.learn.calibration import Calibrator
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


@dataclass(frozen=True)
class Scaling:
    """Features as the fit saw them: inside [low, high], less the mean, over the deviation; (k,)."""

    low: Floats
    high: Floats
    mean: Floats
    deviation: Floats

    @staticmethod
    def of(x: Floats) -> "Scaling":
        """Of training features (n, k); a feature without variation is divided by 1."""
        deviation = x.std(axis=0)
        flat = deviation <= 1e-12 * np.maximum(np.abs(x).max(axis=0), 1e-300)
        return Scaling(x.min(axis=0), x.max(axis=0), x.mean(axis=0), np.where(flat, 1.0, deviation))

    def apply(self, x: Floats) -> Floats:
        """(n, k) scaled."""
        scaled: Floats = (np.clip(x, self.low, self.high) - self.mean) / self.deviation
        return scaled


@dataclass(frozen=True)
class Logistic:
    """A logistic regression on some features, calibrated. See `logistic.Fit`, `Calibrator`."""

    features: tuple[str, ...]
    scaling: Scaling
    coefficients: Floats
    covariance: Floats
    ridge: float
    calibrator: Calibrator

    def score(self, x: Floats) -> tuple[Floats, Floats]:
        """Scores before calibration and the standard errors of their logits; x: (n, k).

        Sums run line by line: what a line gets doesn't depend on the lines beside it.
        """
        scaled = self.scaling.apply(x)
        logit = self.coefficients[0] + (scaled * self.coefficients[1:]).sum(axis=1)
        design = np.concatenate([np.ones((len(x), 1)), scaled], axis=1)
        across = np.zeros_like(design)
        for place, row in enumerate(self.covariance):
            across += design[:, place, None] * row
        spread = (across * design).sum(axis=1)
        return 1.0 / (1.0 + np.exp(-logit)), np.sqrt(np.maximum(spread, 0.0))

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Calibrated win probabilities and their standard errors, (n,) each."""
        return self.calibrator.apply(*self.score(x))


@dataclass(frozen=True)
class Model:
    """A model that can be served; features: all that it reads, in the order of its columns.

    members: one, or several with `weights` that sum to 1. A SIZE_MULTIPLIER has one member whose
    score is the multiplier.
    """

    kind: ModelKind
    features: tuple[str, ...]
    members: tuple[Logistic, ...]
    weights: Floats

    def predict(self, x: Floats, implied: Floats) -> tuple[Floats, Floats]:
        """Win probabilities and standard errors of lines (n,); x: (n, k), implied: (n,)."""
        each = [member.predict(x[:, self._places(member)]) for member in self.members]
        p, error = np.stack([item[0] for item in each]), np.stack([item[1] for item in each])
        return combined(self.kind, p, error, self.weights, implied)

    def multiplier(self, x: Floats) -> Floats:
        """What a SIZE_MULTIPLIER multiplies the stakes of lines by, (n,), in (0, 1)."""
        return self.members[0].score(x)[0]

    def _places(self, member: Logistic) -> list[int]:
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
