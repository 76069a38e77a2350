"""From past bets to a model and what it was worth on bets that it had not seen.

Everything that is chosen (scaling, ridge, calibration, weights of an ensemble) is chosen inside
each fold, from outcomes known before the fold's bets; the model that is kept is made from all rows
by the same steps.
"""

from dataclasses import dataclass
from math import log

import numpy as np

from compute.learn import logistic, multiplier
from compute.learn.calibration import Calibration, Calibrator, calibrator, chosen
from compute.learn.evidence import Evidence, by_start, evidence
from compute.learn.labels import uniqueness
from compute.learn.models import Logistic, Model, ModelKind, Scaling, combined
from compute.learn.pools import log_wealth, regret, stacked_weights, wealth_weights
from compute.learn.rows import Rows
from compute.learn.scores import log_losses
from compute.learn.splits import Fold, before, held_back, walk_forward, windows
from compute.market import Floats, Integers
from compute.simulate.bootstrap import Interval, mean_interval

RIDGES = (1e-2, 1.0, 10.0, 100.0, 1000.0)
"""Tried where none is given; of the sum of log losses, on features of deviation 1."""
CALIBRATION_SHARE = 0.25
"""Of the rows in time: the last, which fit no weights but the calibration."""
ROWS_MIN = 60
OF_EACH_MIN = 10
"""Wins and losses that a fit needs."""


class TooFewRowsError(ValueError):
    """Why rows can't teach: the message says what is wanting."""


@dataclass(frozen=True)
class Plan:
    """What to train. members: names of the features of each member, one but for ensembles.

    embargo: nanoseconds; ridge and calibration: None chooses; fraction: of Kelly, for what bets
    earn.
    """

    kind: ModelKind
    members: tuple[tuple[str, ...], ...]
    folds: int = 5
    embargo: int = 0
    ridge: float | None = None
    calibration: Calibration | None = None
    fraction: float = 0.5


@dataclass(frozen=True)
class Trained:
    """A model and its out-of-sample record.

    evidence: None of a SIZE_MULTIPLIER, whose growth is that of its bets less that of the whole
    stakes; of the others growth is that of `fraction` of Kelly on the model's probabilities, per
    start time. regret: of ensembles, how far in log wealth the mixture of the members' bets fell
    behind the best of them; regret_max: ln N, which it can't exceed.
    """

    model: Model
    evidence: Evidence | None
    growth: Interval
    tested: int
    tested_from: int
    trained_until: int
    regret: float | None
    regret_max: float | None

    @property
    def is_proven(self) -> bool:
        """Whether the record is evidence enough to decide sizes."""
        if self.evidence is not None:
            return self.evidence.beats_bars
        return self.growth.low is not None and self.growth.low > 0.0


def train(rows: Rows, plan: Plan) -> Trained:
    """Trains and tests. Raises `TooFewRowsError`."""
    rows = rows.by_time()
    _check(rows)
    folds = [fold for fold in walk_forward(rows, plan.folds, plan.embargo) if _can(rows, fold)]
    if not folds:
        text = "no block of rows has enough before it: give more rows, or a shorter embargo"
        raise TooFewRowsError(text)
    if plan.kind is ModelKind.SIZE_MULTIPLIER:
        return _train_multiplier(rows, plan, folds)
    said = out_of_sample(rows, plan, folds)
    tested, p, out = rows.take(said.places), said.members, said.probability
    growth = log_wealth(
        out[None], tested.won, tested.payoff, tested.loss, tested.start, plan.fraction
    )
    wealth = _wealth(plan, p, tested)
    features = tuple(dict.fromkeys(name for member in plan.members for name in member))
    weights = _weights(plan, p, tested)
    return Trained(
        model=Model(plan.kind, features, tuple(_members(rows, plan)), weights),
        evidence=evidence(tested, out, said.climatology),
        growth=mean_interval(growth[0]),
        tested=len(tested),
        tested_from=int(tested.start[0]),
        trained_until=int(rows.end.max()),
        regret=regret(wealth) if len(p) > 1 else None,
        regret_max=log(len(p)) if len(p) > 1 else None,
    )


@dataclass(frozen=True)
class Forecasts:
    """Of the rows at `places`, (n,), each from what was known before its block: the win
    probability, those of the members (m, n), and the win rate until then."""

    places: Integers
    members: Floats
    probability: Floats
    climatology: Floats


def out_of_sample(rows: Rows, plan: Plan, folds: list[Fold]) -> Forecasts:
    """Forecasts of the tested rows; rows: by time."""
    seen = np.concatenate([fold.test for fold in folds])
    tested = rows.take(seen)
    p, out, climatology = np.empty((len(plan.members), len(seen))), *np.empty((2, len(seen)))
    for fold in folds:
        here = np.searchsorted(seen, fold.test)
        members = _members(rows.take(fold.train), plan)
        p[:, here] = _said(members, rows.take(fold.test))
        known = before(tested, int(rows.start[fold.test[0]]), plan.embargo)
        weights = _weights(plan, p[:, known], tested.take(known))
        nothing = np.zeros((len(p), len(here)))
        out[here], _ = combined(plan.kind, p[:, here], nothing, weights, tested.implied[here])
        climatology[here] = (rows.won[fold.train].sum() + 1.0) / (len(fold.train) + 2.0)
    return Forecasts(seen, p, out, climatology)


def _check(rows: Rows) -> None:
    wins = int(rows.won.sum())
    least = min(wins, len(rows) - wins)
    if len(rows) < ROWS_MIN or least < OF_EACH_MIN:
        text = (
            f"{len(rows)} rows with {wins} wins are too few: at least {ROWS_MIN} are needed, "
            f"with {OF_EACH_MIN} wins and {OF_EACH_MIN} losses"
        )
        raise TooFewRowsError(text)


def _can(rows: Rows, fold: Fold) -> bool:
    wins = float(rows.won[fold.train].sum())
    return min(wins, len(fold.train) - wins) >= OF_EACH_MIN


def _members(rows: Rows, plan: Plan) -> list[Logistic]:
    return [_fitted(rows.columns(names), plan) for names in plan.members]


def _said(members: list[Logistic], rows: Rows) -> Floats:
    """Probabilities of each member, (m, n)."""
    return np.stack([m.predict(rows.columns(m.features).features)[0] for m in members])


def _weights(plan: Plan, p: Floats, rows: Rows) -> Floats:
    """Of the members, from their out-of-sample p (m, n) of rows whose outcome is known by then."""
    even = np.full(len(plan.members), 1.0 / len(plan.members))
    if len(plan.members) == 1 or len(rows) == 0:
        return even
    if plan.kind is ModelKind.WEALTH_MIXTURE:
        return wealth_weights(_wealth(plan, p, rows))
    return stacked_weights(p, rows.won)


def _wealth(plan: Plan, p: Floats, rows: Rows) -> Floats:
    growth = log_wealth(p, rows.won, rows.payoff, rows.loss, rows.start, plan.fraction)
    wealth: Floats = growth.sum(axis=1)
    return wealth


def _fitted(rows: Rows, plan: Plan) -> Logistic:
    """One member from rows by time: its weights on the earlier ones, its calibration on the later.

    With few rows there is nothing to hold back, and the score is left as it is.
    """
    held = held_back(rows, CALIBRATION_SHARE, plan.embargo)
    kind = chosen(len(held.test)) if plan.calibration is None else plan.calibration
    if kind is Calibration.NONE or not _can(rows, held):
        return _logistic(rows, plan)
    raw = _logistic(rows.take(held.train), plan)
    later = rows.take(held.test)
    won = float(later.won.sum())
    if min(won, len(later) - won) < OF_EACH_MIN:
        return _logistic(rows, plan)
    found = calibrator(kind, raw.score(later.features)[0], later.won, _clusters(later))
    return Logistic(raw.features, raw.scaling, raw.coefficients, raw.covariance, raw.ridge, found)


def _logistic(rows: Rows, plan: Plan) -> Logistic:
    ridge = _ridge(rows, plan) if plan.ridge is None else plan.ridge
    scaling = Scaling.of(rows.features)
    x = scaling.apply(rows.features)
    found = logistic.fit(x, rows.won, sample_weights(rows), ridge, _clusters(rows))
    return Logistic(rows.names, scaling, found.coefficients, found.covariance, ridge, Calibrator())


def _ridge(rows: Rows, plan: Plan) -> float:
    """The one of `RIDGES` with the least log loss on the last rows; the largest where too few."""
    held = held_back(rows, CALIBRATION_SHARE, plan.embargo)
    if not _can(rows, held):
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


def sample_weights(rows: Rows) -> Floats:
    """Average uniqueness of each row among those of its group, (n,)."""
    times = np.unique(np.concatenate([rows.start, rows.end]))
    first, last = np.searchsorted(times, rows.start), np.searchsorted(times, rows.end)
    weights = np.empty(len(rows))
    for group in np.unique(rows.group):
        own = rows.group == group
        weights[own] = uniqueness(first[own], last[own])
    return weights


def _clusters(rows: Rows) -> Integers:
    """Rows that run together have one number; those between windows go with the one before."""
    clusters: Integers = np.maximum.accumulate(windows(rows))
    return clusters


def _train_multiplier(rows: Rows, plan: Plan, folds: list[Fold]) -> Trained:
    seen = np.concatenate([fold.test for fold in folds])
    tested = rows.take(seen)
    m = np.concatenate(
        [
            _multiplier(rows.take(fold.train), plan).score(
                rows.take(fold.test).columns(plan.members[0]).features
            )[0]
            for fold in folds
        ]
    )
    whole = multiplier.bet_growth(tested, plan.fraction, np.ones(len(tested)))
    gained = multiplier.bet_growth(tested, plan.fraction, m) - whole
    last = _multiplier(rows, plan)
    return Trained(
        model=Model(plan.kind, last.features, (last,), np.ones(1)),
        evidence=None,
        growth=mean_interval(by_start(tested.start, gained)),
        tested=len(tested),
        tested_from=int(tested.start[0]),
        trained_until=int(rows.end.max()),
        regret=None,
        regret_max=None,
    )


def _multiplier(rows: Rows, plan: Plan) -> Logistic:
    """A multiplier has no calibration and no error: its score is what stakes are multiplied by."""
    rows = rows.columns(plan.members[0])
    scaling = Scaling.of(rows.features)
    ridge = 1.0 if plan.ridge is None else plan.ridge
    x, weight = scaling.apply(rows.features), sample_weights(rows)
    beta = multiplier.fit(x, rows, weight, plan.fraction, ridge)
    none = np.zeros((len(beta), len(beta)))
    return Logistic(rows.names, scaling, beta, none, ridge, Calibrator())
