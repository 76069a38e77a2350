"""What a model is made of: members that score features, each with its calibration.

A feature beyond what was seen in training is taken at the end of what was seen: nothing is known
about what lies further out, and a straight line would be sure of it. Sums run line by line: what a
line gets doesn't depend on the lines beside it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.special import expit

from compute.learn.calibration import Calibrator
from compute.market import Floats


class Member(ABC):
    """Features, in the order of its columns, to a calibrated win probability."""

    features: tuple[str, ...]
    calibrator: Calibrator

    @abstractmethod
    def score(self, x: Floats) -> tuple[Floats, Floats]:
        """Scores before calibration and the standard errors of their logits, (n,); x: (n, k)."""

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Calibrated win probabilities and their standard errors, (n,) each."""
        return self.calibrator.apply(*self.score(x))

    def calibrated(self, calibrator: Calibrator) -> Self:
        """The same with this calibration."""
        return replace(self, calibrator=calibrator)  # type: ignore[type-var]


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
class Logistic(Member):
    """A logistic regression on some features, calibrated. See `logistic.Fit`, `Calibrator`."""

    features: tuple[str, ...]
    scaling: Scaling
    coefficients: Floats
    covariance: Floats
    ridge: float
    calibrator: Calibrator

    def score(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Member`."""
        # Sums along the lines: the same whatever their number, which matrix products are not, and
        # in half the time of sums along the few features of each.
        design = np.ones((x.shape[1] + 1, len(x)))
        design[1:] = self.scaling.apply(x).T
        logit = (self.coefficients[:, None] * design).sum(axis=0)
        across = np.zeros_like(design)
        for row, column in zip(self.covariance, design, strict=True):
            across += row[:, None] * column
        spread = (across * design).sum(axis=0)
        return 1.0 / (1.0 + np.exp(-logit)), np.sqrt(np.maximum(spread, 0.0))


def jackknifed(logits: Floats) -> tuple[Floats, Floats]:
    """Score and standard error of the logit from fits that each lack one of G groups of rows.

    logits: (G, n). The score is that of their mean, the error that of the delete-a-group jackknife,
    sqrt((G - 1) / G sum_g (l_g - mean)^2); 0 of a single fit, whose error nobody knows. Groups are
    stretches of time, so that bets that run together leave together (Shao and Tu 1995, 2.3).
    """
    count = len(logits)
    mean = np.zeros(logits.shape[1])
    for row in logits:
        mean += row / count
    squares = np.zeros_like(mean)
    for row in logits:
        squares += (row - mean) ** 2
    error: Floats = np.sqrt(squares * ((count - 1.0) / count))
    score: Floats = expit(mean)
    return score, error
