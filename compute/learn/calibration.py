"""From a score in (0, 1) to a probability that means what it says, fitted on bets of its own.

    Platt     logit p = a logit s + c, with targets (N+ + 1)/(N+ + 2) and 1/(N- + 2)
    beta      logit p = a ln s - b ln(1 - s) + c, a and b >= 0 (Kull, Silva Filho, Flach 2017)
    isotonic  the best rising step function (pool adjacent violators)
    Venn-Abers  two of those, with the new bet as a loss and as a win (`venn_abers.py`)

Few outcomes can't bear many parameters: below 300 the score is left as it is, below 2,000 it is
Platt's, above that beta; isotonic and Venn-Abers are for who asks for them. No probability is
nearer to 0 or 1 than 1/(n + 2): Kelly would stake all.
"""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from compute.learn import logistic, venn_abers
from compute.learn.scores import rising
from compute.learn.venn_abers import VennAbers
from compute.market import Floats, Integers

PLATT_MIN, BETA_MIN = 300, 2_000
"""Outcomes from which on each is chosen."""
SCORE_MARGIN = 1e-12


def _empty() -> Floats:
    return np.zeros(0)


def _square() -> Floats:
    return np.zeros((0, 0))


class Calibration(IntEnum):
    """The kind of map. The numbers are those of the contract."""

    NONE = 1
    PLATT = 2
    BETA = 3
    ISOTONIC = 4
    VENN_ABERS = 5


@dataclass(frozen=True)
class Calibrator:
    """coefficients: of Platt (c, a), of beta (c, a, b), with their covariance.

    knots, values, counts: of isotonic, the highest score, the probability and the number of
    outcomes of each step. bounds: of Venn-Abers. outcomes: the number it was fitted on, 0 for NONE.
    """

    kind: Calibration = Calibration.NONE
    outcomes: int = 0
    coefficients: Floats = field(default_factory=_empty)
    covariance: Floats = field(default_factory=_square)
    knots: Floats = field(default_factory=_empty)
    values: Floats = field(default_factory=_empty)
    counts: Floats = field(default_factory=_empty)
    bounds: VennAbers | None = None

    def apply(self, score: Floats, error: Floats) -> tuple[Floats, Floats]:
        """Probabilities and standard errors of scores (n,) with standard errors `error` of their
        logits; the errors of both fits add as variances do."""
        score = np.clip(score, SCORE_MARGIN, 1.0 - SCORE_MARGIN)
        if self.kind is Calibration.NONE:
            return score, score * (1.0 - score) * error
        margin = 1.0 / (self.outcomes + 2.0)
        if self.kind is Calibration.ISOTONIC:
            place = np.minimum(np.searchsorted(self.knots, score), len(self.knots) - 1)
            p = np.clip(self.values[place], margin, 1.0 - margin)
            return p, np.sqrt(p * (1.0 - p) / self.counts[place])
        if self.bounds is not None:
            at = self.bounds.at(score)
            p = np.clip(venn_abers.merged(*at[:2]), margin, 1.0 - margin)
            return p, venn_abers.standard_error(*at)
        design = _design(self.kind, score)
        logit = (design * self.coefficients).sum(axis=1)
        p = np.clip(1.0 / (1.0 + np.exp(-logit)), margin, 1.0 - margin)
        own = ((design @ self.covariance) * design).sum(axis=1)
        slope = (_slopes(self.kind, score) * self.coefficients[1:]).sum(axis=1)
        return p, p * (1.0 - p) * np.sqrt(np.maximum(own, 0.0) + (slope * error) ** 2)


def chosen(outcomes: int) -> Calibration:
    """The kind for so many outcomes."""
    if outcomes < PLATT_MIN:
        return Calibration.NONE
    return Calibration.PLATT if outcomes < BETA_MIN else Calibration.BETA


def calibrator(
    kind: Calibration, score: Floats, won: Floats, cluster: Integers | None = None
) -> Calibrator:
    """The map of that kind fitted to scores and outcomes, (n,); cluster: see `logistic.fit`."""
    n = len(score)
    score = np.clip(score, SCORE_MARGIN, 1.0 - SCORE_MARGIN)
    if kind is Calibration.NONE:
        return Calibrator()
    if kind is Calibration.VENN_ABERS:
        return Calibrator(kind, n, bounds=venn_abers.fit(score, won))
    if kind is Calibration.ISOTONIC:
        order = np.argsort(score, kind="stable")
        fitted, sorted_score = rising(score, won)[order], score[order]
        last = np.append(np.flatnonzero(np.diff(fitted) > 0.0), n - 1)
        return Calibrator(
            kind,
            n,
            knots=sorted_score[last],
            values=fitted[last],
            counts=np.diff(np.concatenate([[-1.0], last])),
        )
    target = won
    if kind is Calibration.PLATT:
        wins = float(won.sum())
        target = np.where(won > 0.0, (wins + 1.0) / (wins + 2.0), 1.0 / (n - wins + 2.0))
    design, weight = _design(kind, score)[:, 1:], np.ones(n)
    kept = np.arange(design.shape[1])
    while True:
        found = logistic.fit(design[:, kept], target, weight, 0.0, cluster)
        falling = found.coefficients[1:] < 0.0
        if not falling.any():
            break
        kept = np.delete(kept, int(np.argmin(found.coefficients[1:])))  # else it would not rise
    places = np.concatenate([[0], kept + 1])
    coefficients, covariance = np.zeros(design.shape[1] + 1), np.zeros((design.shape[1] + 1,) * 2)
    own = found.covariance
    if kind is Calibration.PLATT:  # its targets stay short of 0 and 1, so residuals vanish before
        own = found.covariance_at_least_of_model
    coefficients[places], covariance[np.ix_(places, places)] = found.coefficients, own
    return Calibrator(kind, n, coefficients, covariance)


def _design(kind: Calibration, score: Floats) -> Floats:
    """What the logit of the calibrated probability is linear in, (n, 2) or (n, 3)."""
    one = np.ones(len(score))
    if kind is Calibration.PLATT:
        return np.stack([one, np.log(score) - np.log1p(-score)], axis=1)
    return np.stack([one, np.log(score), -np.log1p(-score)], axis=1)


def _slopes(kind: Calibration, score: Floats) -> Floats:
    """d design / d logit of the score, without the constant."""
    if kind is Calibration.PLATT:
        return np.ones((len(score), 1))
    return np.stack([1.0 - score, score], axis=1)
