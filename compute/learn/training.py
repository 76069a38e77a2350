"""From past bets to a model and what it was worth on bets that it had not seen.

    learners.py    one member from rows: its weights on the earlier, its calibration on the later
    here           out-of-sample forecasts block by block, weights of ensembles, the record

Everything that is chosen (scaling, ridge, calibration, weights of an ensemble) is chosen inside
each fold, from outcomes known before the fold's bets; the model that is kept is made from all rows
by the same steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np

from compute.learn import multiplier
from compute.learn.calibration import Calibrator
from compute.learn.combinatorial import splits
from compute.learn.evidence import Evidence, by_start, evidence
from compute.learn.learners import OF_EACH_MIN, Plan, can_teach, fitted, sample_weights
from compute.learn.members import Logistic, Member, Scaling
from compute.learn.models import Model, ModelKind, combined
from compute.learn.paths import PathScores, path_scores
from compute.learn.pools import log_wealth, regret, stacked_weights, wealth_weights
from compute.learn.rows import Rows
from compute.learn.splits import Fold, before, walk_forward
from compute.market import Floats, Integers
from compute.simulate.bootstrap import Interval, mean_interval

ROWS_MIN = 60


class TooFewRowsError(ValueError):
    """Why rows can't teach: the message says what is wanting."""


@dataclass(frozen=True)
class Trained:
    """A model and its out-of-sample record.

    evidence: None of a SIZE_MULTIPLIER, whose growth is that of its bets less that of the whole
    stakes; of the others growth is that of `fraction` of Kelly on the model's probabilities, per
    start time. regret: of ensembles, how far in log wealth the mixture of the members' bets fell
    behind the best of them; regret_max: ln N, which it can't exceed. paths: of combinatorial
    cross-validation, where it was asked for.
    """

    model: Model
    evidence: Evidence | None
    growth: Interval
    tested: int
    tested_from: int
    trained_until: int
    regret: float | None
    regret_max: float | None
    paths: PathScores | None = None

    @property
    def is_proven(self) -> bool:
        """Whether the record is evidence enough to decide sizes."""
        if self.evidence is not None:
            return self.evidence.beats_bars
        return self.growth.low is not None and self.growth.low > 0.0


def train(rows: Rows, plan: Plan, told: Callable[[float], None] = lambda part: None) -> Trained:
    """Trains and tests. told: hears the part that is done. Raises `TooFewRowsError`."""
    rows = rows.by_time()
    _check(rows)
    folds = [fold for fold in walk_forward(rows, plan.folds, plan.embargo) if can_teach(rows, fold)]
    if not folds:
        text = (
            f"no block has {OF_EACH_MIN} wins and {OF_EACH_MIN} losses known before it: "
            "give rows of a longer time, or a shorter embargo"
        )
        raise TooFewRowsError(text)
    if plan.kind is ModelKind.SIZE_MULTIPLIER:
        return _train_multiplier(rows, plan, folds)
    tests = 0 if plan.combinatorial is None else plan.combinatorial.splits
    share = (len(folds) + 1.0) / (len(folds) + 1.0 + tests)
    said = out_of_sample(rows, plan, folds, lambda part: told(share * part))
    tested, p, out = rows.take(said.places), said.members, said.probability
    growth = log_wealth(
        out[None], tested.won, tested.payoff, tested.loss, tested.start, plan.fraction
    )
    wealth = _wealth(plan, p, tested)
    features = tuple(dict.fromkeys(name for member in plan.members for name in member))
    weights = _weights(plan, p, tested)
    return Trained(
        model=Model(plan.kind, features, tuple(_members(rows, plan)), weights),
        evidence=evidence(tested, out, said.error, said.climatology),
        growth=mean_interval(growth[0]),
        tested=len(tested),
        tested_from=int(tested.start[0]),
        trained_until=int(rows.end.max()),
        regret=regret(wealth) if plan.is_ensemble else None,
        regret_max=log(len(p)) if plan.is_ensemble else None,
        paths=_paths(rows, plan, lambda part: told(share + (1.0 - share) * part)),
    )


def _paths(rows: Rows, plan: Plan, told: Callable[[float], None]) -> PathScores | None:
    """Scores on the paths that a plan asks for. Raises `TooFewRowsError`."""
    if plan.combinatorial is None:
        return None
    found = splits(rows, plan.combinatorial, plan.embargo)
    for split in found:
        if not can_teach(rows, split.fold):
            groups = ", ".join(str(group + 1) for group in split.tested)
            text = f"without groups {groups} too little is left to learn from"
            raise TooFewRowsError(f"{text}: give more rows, fewer tested groups, less embargo")
    done = iter(range(len(found)))

    def forecast(train: Rows, test: Rows) -> Floats:
        told(next(done) / len(found))
        weights = np.full(len(plan.members), 1.0 / len(plan.members))
        if plan.is_ensemble:  # weights as well are of the teaching rows alone
            inner = [
                f for f in walk_forward(train, plan.folds, plan.embargo) if can_teach(train, f)
            ]
            if inner:
                said = out_of_sample(train, plan, inner)
                weights = _weights(plan, said.members, train.take(said.places))
        p, errors = _said(_members(train, plan), test)
        return combined(plan.kind, p, errors, weights, test.implied)[0]

    return path_scores(rows, found, forecast, plan.fraction)


@dataclass(frozen=True)
class Forecasts:
    """Of the rows at `places`, (n,), each from what was known before its block: the win
    probability and its standard error, the probabilities of the members (m, n), and the win rate
    until then."""

    places: Integers
    members: Floats
    probability: Floats
    error: Floats
    climatology: Floats


def out_of_sample(
    rows: Rows, plan: Plan, folds: list[Fold], told: Callable[[float], None] = lambda part: None
) -> Forecasts:
    """Forecasts of the tested rows; rows: by time. told: see `train`."""
    seen = np.concatenate([fold.test for fold in folds])
    tested = rows.take(seen)
    p = np.empty((len(plan.members), len(seen)))
    out, error, climatology = np.empty((3, len(seen)))
    for place, fold in enumerate(folds):
        told(place / (len(folds) + 1))  # the model that is kept takes as long as the last
        here = np.searchsorted(seen, fold.test)
        members = _members(rows.take(fold.train), plan)
        p[:, here], errors = _said(members, rows.take(fold.test))
        known = before(tested, int(rows.start[fold.test[0]]), plan.embargo)
        weights = _weights(plan, p[:, known], tested.take(known))
        implied = tested.implied[here]
        out[here], error[here] = combined(plan.kind, p[:, here], errors, weights, implied)
        climatology[here] = (rows.won[fold.train].sum() + 1.0) / (len(fold.train) + 2.0)
    return Forecasts(seen, p, out, error, climatology)


def _check(rows: Rows) -> None:
    wins = int(rows.won.sum())
    least = min(wins, len(rows) - wins)
    if len(rows) < ROWS_MIN or least < OF_EACH_MIN:
        text = (
            f"{len(rows)} rows with {wins} wins are too few: at least {ROWS_MIN} are needed, "
            f"with {OF_EACH_MIN} wins and {OF_EACH_MIN} losses"
        )
        raise TooFewRowsError(text)


def _members(rows: Rows, plan: Plan) -> list[Member]:
    return [fitted(rows, plan, place) for place in range(len(plan.members))]


def _said(members: list[Member], rows: Rows) -> Floats:
    """Probabilities of each member and their standard errors, (2, m, n)."""
    said = [member.predict(rows.columns(member.features).features) for member in members]
    return np.stack(said, axis=1)


def _weights(plan: Plan, p: Floats, rows: Rows) -> Floats:
    """Of the members, from their out-of-sample p (m, n) of rows whose outcome is known by then."""
    even = np.full(len(plan.members), 1.0 / len(plan.members))
    if not plan.is_ensemble or len(rows) == 0:
        return even
    if plan.kind is ModelKind.WEALTH_MIXTURE:
        return wealth_weights(_wealth(plan, p, rows))
    return stacked_weights(p, rows.won)


def _wealth(plan: Plan, p: Floats, rows: Rows) -> Floats:
    growth = log_wealth(p, rows.won, rows.payoff, rows.loss, rows.start, plan.fraction)
    wealth: Floats = growth.sum(axis=1)
    return wealth


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
