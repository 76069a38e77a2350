"""One member of a model from rows by time: weights of the earlier, calibration of the later."""

from dataclasses import dataclass

import numpy as np

from compute.learn import boosting, bootstrap, logistic, network
from compute.learn.calibration import Calibration, Calibrator, calibrator, chosen
from compute.learn.combinatorial import Combinatorial
from compute.learn.labels import uniqueness
from compute.learn.members import Logistic, Member, Scaling
from compute.learn.models import ModelKind
from compute.learn.rows import Rows
from compute.learn.scores import log_losses
from compute.learn.splits import Fold, held_back, windows
from compute.learn.trees import Trees
from compute.market import Floats, Integers

RIDGES = (1e-2, 1.0, 10.0, 100.0, 1000.0)
"""Tried where none is given; of the sum of log losses, on features of deviation 1."""
CALIBRATION_SHARE = 0.25
"""Of the rows in time: the last, which fit no weights but the calibration."""
OF_EACH_MIN = 10
"""Wins and losses that a fit needs."""


@dataclass(frozen=True)
class Plan:
    """What to train. members: names of the features of each member, one but for ensembles.

    learners: the kind of each member, empty: the kind itself, or logistic regressions. imported:
    trees that were made elsewhere from earlier bets; only their calibration is fitted. embargo:
    nanoseconds; ridge and calibration: None chooses; fraction: of Kelly, for what bets earn. draws:
    so many members of the same features, each taught by a sequential bootstrap; 0: one, taught by
    all bets. combinatorial: a validation beside walk-forward. rising, falling: features with which
    trees only rise or fall.
    """

    kind: ModelKind
    members: tuple[tuple[str, ...], ...]
    folds: int = 5
    embargo: int = 0
    ridge: float | None = None
    calibration: Calibration | None = None
    fraction: float = 0.5
    learners: tuple[ModelKind, ...] = ()
    imported: Trees | None = None
    draws: int = 0
    combinatorial: Combinatorial | None = None
    rising: tuple[str, ...] = ()
    falling: tuple[str, ...] = ()

    @property
    def is_ensemble(self) -> bool:
        """Whether its members are others and get weights of their own."""
        return len(self.members) > 1 and not self.draws

    def learner(self, place: int) -> ModelKind:
        """What member `place` is."""
        if self.learners:
            return self.learners[place]
        is_alone = self.kind in (ModelKind.BOOSTED_TREES, ModelKind.NETWORK)
        return self.kind if is_alone else ModelKind.LOGISTIC


def fitted(rows: Rows, plan: Plan, place: int) -> Member:
    """Member `place`. With few rows nothing is held back, and the score is left as it is.

    Imported trees have seen none of the rows, so all of them calibrate; nothing is known of the
    error of their scores but what that of the calibration says.
    """
    rows = rows.columns(plan.members[place])
    if plan.imported is not None:
        kind = plan.calibration or max(chosen(len(rows)), Calibration.PLATT)
        return _calibrated(plan.imported, kind, rows)
    held = held_back(rows, CALIBRATION_SHARE, plan.embargo)
    kind = chosen(len(held.test)) if plan.calibration is None else plan.calibration
    later = rows.take(held.test)
    if kind is Calibration.NONE or not can_teach(rows, held) or _of_each(later) < OF_EACH_MIN:
        return _raw(rows, plan, place)
    return _calibrated(_raw(rows.take(held.train), plan, place), kind, later)


def can_teach(rows: Rows, fold: Fold) -> bool:
    """Whether what comes before a block has enough of both outcomes."""
    return _of_each(rows.take(fold.train)) >= OF_EACH_MIN


def sample_weights(rows: Rows) -> Floats:
    """Average uniqueness of each row among those of its group, (n,)."""
    first, last = bootstrap.bars(rows)
    weights = np.empty(len(rows))
    for group in np.unique(rows.group):
        own = rows.group == group
        weights[own] = uniqueness(first[own], last[own])
    return weights


def _of_each(rows: Rows) -> float:
    """The number of wins or of losses, whichever is less."""
    wins = float(rows.won.sum())
    return min(wins, len(rows) - wins)


def _calibrated(member: Member, kind: Calibration, rows: Rows) -> Member:
    score, _ = member.score(rows.features)
    return member.calibrated(calibrator(kind, score, rows.won, _clusters(rows)))


def _raw(rows: Rows, plan: Plan, place: int) -> Member:
    """The member without calibration."""
    learner = plan.learner(place)
    weight = sample_weights(rows)
    if plan.draws:
        count = bootstrap.drawn(rows, len(rows), place)
        if _of_each(rows.take(np.flatnonzero(count))) > 0.0:
            rows, weight = rows.take(np.flatnonzero(count)), count[count > 0].astype(np.float64)
    if learner is ModelKind.LOGISTIC:
        return _logistic(rows, plan, weight)
    held = held_back(rows, CALIBRATION_SHARE, plan.embargo)
    late = held.test if can_teach(rows, held) else held.test[:0]
    if learner is ModelKind.NETWORK:
        return network.fit(rows, weight, held.train, late)
    return boosting.fit(rows, weight, held.train, late, (plan.rising, plan.falling))


def _logistic(rows: Rows, plan: Plan, weight: Floats) -> Logistic:
    ridge = _ridge(rows, plan) if plan.ridge is None else plan.ridge
    scaling = Scaling.of(rows.features)
    x = scaling.apply(rows.features)
    found = logistic.fit(x, rows.won, weight, ridge, _clusters(rows))
    return Logistic(rows.names, scaling, found.coefficients, found.covariance, ridge, Calibrator())


def _ridge(rows: Rows, plan: Plan) -> float:
    """The one of `RIDGES` with the least log loss on the last rows; the largest where too few."""
    held = held_back(rows, CALIBRATION_SHARE, plan.embargo)
    if not can_teach(rows, held):
        return RIDGES[-1]
    early, late = rows.take(held.train), rows.take(held.test)
    scaling, weight = Scaling.of(early.features), sample_weights(early)
    x, later = scaling.apply(early.features), scaling.apply(late.features)
    losses = []
    for ridge in RIDGES:
        beta = logistic.fit(x, early.won, weight, ridge).coefficients
        p = 1.0 / (1.0 + np.exp(-(beta[0] + later @ beta[1:])))
        losses.append(float(log_losses(np.clip(p, 1e-12, 1.0 - 1e-12), late.won).mean()))
    return RIDGES[int(np.argmin(losses))]


def _clusters(rows: Rows) -> Integers:
    """Rows that run together have one number; those between windows go with the one before."""
    clusters: Integers = np.maximum.accumulate(windows(rows))
    return clusters
