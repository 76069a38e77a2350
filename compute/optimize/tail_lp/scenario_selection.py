"""Tail measures as few rows: which scenarios, and which peaks, a linear program has to know.

Every measure here is a tail of losses that are differences of levels,

    loss_t(w) = max over peaks s allowed at t of (level_s - level_t)'w
    measure(w) = min over z of  z + sum_t a_t max(loss_t(w) - z, 0),   a_t = p_t / (1 - tail)

CVaR: level_0 = 0, level_t = r_t, the only peak is 0. CDaR: level_t = r_1 + ... + r_t, every s < t
is allowed. Maximum drawdown: the same with z alone, z >= every loss. (Rockafellar and Uryasev 2000;
Chekhlov, Uryasev and Zabarankin 2005, there with a variable for every running peak.)

Leaving pairs (s, t) out, or counting a scenario t that is surely in the tail as loss_t - z
without max, gives a value that is never too high. So a program with a few hundred pairs bounds the
full one from below, and equals it once no pair left out is violated at its solution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compute.optimize.problem import TailMeasure

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

# Scenarios on either side of the quantile that the first program knows, and added in one round.
_BAND = 64
# Fewer for a small book, whose optimum has few ties: the program then fits the smallest shape.
_BAND_SMALL, _SMALL = 28, 50
_ADDED_MAX = 72
# Pairs nearest the threshold that are never settled, and what counts as no price (share of a_t).
_NEAR = 48
_NEGLIGIBLE = 1e-2
# A maximum drawdown also learns the troughs this close to it, as a share.
_NEARLY = 0.05
# Mass of the tail (of one) that may be counted without excess variables.
_SURE_MAX = 0.9


@dataclass(frozen=True)
class Measure:
    """One tail measure of a problem: its data, its part in the objective and its cap.

    levels: f64[T + 1, n]. excess: a[T], empty for the maximum.
    weight: in the minimised objective, >= 0. cap: None is not limited. scale: a typical loss.
    """

    measure: TailMeasure
    levels: Vector
    excess: Vector
    weight: float
    cap: float | None
    scale: float

    @property
    def name(self) -> str:
        """cvar, cdar or drawdown."""
        return self.measure.name

    def level(self, weights: Vector) -> Vector:
        """Levels [T + 1] at weights [n], from the names that are held.

        A plain loop and not BLAS: waking its threads costs more than this product.
        """
        held = np.flatnonzero(weights)
        few = self.levels if len(held) == len(weights) else self.levels[:, held]
        return np.asarray(np.einsum("tj,j->t", few, weights[held]))

    def losses(self, weights: Vector) -> tuple[Vector, Index]:
        """loss[T] at weights [n] and the peak of each, an index 0..T, the earliest at ties."""
        level = self.level(weights)
        if not self.measure.on_path:
            return -level[1:], np.zeros(len(level) - 1, dtype=np.int64)
        running = np.maximum.accumulate(level)
        risen = np.concatenate([[True], level[1:] > running[:-1]])
        peak = np.maximum.accumulate(np.where(risen, np.arange(len(level)), 0))
        return running[1:] - level[1:], peak[1:]

    def worst(self, losses: Vector) -> Vector:
        """The share [T], summing to 1, that each of losses [T] has in the measure."""
        share, order = np.zeros(len(losses)), np.argsort(-losses, kind="stable")
        if not len(self.excess):
            share[order[0]] = 1.0
            return share
        before = np.concatenate([[0.0], np.cumsum(self.excess[order])[:-1]])
        share[order] = np.clip(1.0 - before, 0.0, self.excess[order])
        return share / share.sum()

    def value(self, losses: Vector) -> float:
        """The measure of losses [T]: the mean of the worst, with the fractional remainder."""
        return float(self.worst(losses) @ losses)


def measure(
    of: TailMeasure,
    scenarios: Vector,
    probability: Vector,
    tail: float,
    weight: float,
    cap: float | None,
) -> Measure:
    """Build a measure from scenarios [T, n]; `tail` is ignored for a maximum."""
    path = np.cumsum(scenarios, axis=0) if of.on_path else scenarios
    levels = np.vstack([np.zeros(scenarios.shape[1]), path])
    excess = np.zeros(0) if of.is_maximum else probability / (1.0 - tail)
    scale = float(np.sqrt(np.mean(path**2))) or 1.0
    return Measure(of, levels, excess, weight, cap, scale)


@dataclass(frozen=True)
class ActiveScenarios:
    """What the program knows of one measure: pairs as rows, sure tail scenarios as one sum.

    pairs, sure: int[:, 2] of (peak, time), time counting from 1 as levels do.
    """

    pairs: Index
    sure: Index

    @property
    def times(self) -> Index:
        """The times that have an excess variable, ascending."""
        return np.unique(self.pairs[:, 1])


@dataclass(frozen=True)
class Columns:
    """The values of a measure's own columns at a solution, in natural units."""

    threshold: float
    excess: Vector


def _pairs(time: Index, peak: Index) -> Index:
    return np.stack([peak[time], time + 1], axis=1).astype(np.int64)


def first(term: Measure, weights: Vector) -> ActiveScenarios:
    """The scenarios around the quantile at `weights`; those far beyond it are sure."""
    losses, peak = term.losses(weights)
    order = np.argsort(-losses, kind="stable")
    none = np.zeros((0, 2), dtype=np.int64)
    if not len(term.excess):
        return ActiveScenarios(_pairs(troughs(losses, peak)[: _BAND // 2], peak), none)
    quantile = int(np.searchsorted(np.cumsum(term.excess[order]), 1.0 - 1e-12)) + 1
    # Twice the width on the safe side, and no sure ones while the tail is short.
    band = _BAND if len(weights) > _SMALL else _BAND_SMALL
    begin = max(0, quantile - band)
    end = quantile + min(band, max(quantile, 8))
    return ActiveScenarios(_pairs(order[begin:end], peak), _pairs(order[:begin], peak))


def troughs(losses: Vector, peak: Index) -> Index:
    """The deepest time of every episode (same peak), deepest first: what a maximum needs."""
    begin = np.flatnonzero(np.diff(peak, prepend=-1))
    episode = np.repeat(np.arange(len(begin)), np.diff(np.append(begin, len(peak))))
    order = np.lexsort((-losses, episode))
    deepest = order[np.unique(episode[order], return_index=True)[1]]
    return np.asarray(deepest[np.argsort(-losses[deepest], kind="stable")], dtype=np.int64)


def _deepest(losses: Vector, over: Vector, tolerance: float, threshold: float) -> Index:
    """For a maximum: local troughs above the threshold, then, if any, those just below it."""
    local = losses >= np.maximum(np.append(losses[1:], -np.inf), np.append(-np.inf, losses[:-1]))
    violated = np.flatnonzero(local & (over > tolerance))
    if not len(violated):
        return violated
    near = np.flatnonzero(local & (over > -_NEARLY * threshold))
    chosen = near if len(near) > len(violated) else violated
    return chosen[np.argsort(-over[chosen], kind="stable")][:_BAND]


def extend(
    term: Measure, kept: ActiveScenarios, weights: Vector, at: Columns, tolerance: float
) -> tuple[ActiveScenarios, int, float]:
    """Add the pairs most violated at a solution; returns how many are violated, and the worst.

    A sure scenario whose peak moved, or that fell below the threshold, becomes an ordinary one.
    """
    losses, peak = term.losses(weights)
    bar = np.full(len(losses), at.threshold)
    if len(term.excess):
        bar[kept.times - 1] += at.excess
    misjudged, broken = _misjudged(term, kept, weights, losses, at, tolerance)
    bar[kept.sure[:, 1] - 1] = np.inf
    over = losses - bar
    if len(term.excess):
        found = np.argsort(-over, kind="stable")[: int(np.sum(over > tolerance))]
    else:
        found = _deepest(losses, over, tolerance, at.threshold)
    added = _pairs(found[:_ADDED_MAX], peak)
    moved = kept.sure[misjudged]
    turned = _pairs(moved[:, 1] - 1, peak)
    pairs = _distinct(np.concatenate([kept.pairs, added, moved, turned]), len(term.levels))
    worst = max(float(over.max(initial=0.0)), broken)
    count = int(np.sum(over[found] > tolerance)) + len(moved)
    return ActiveScenarios(pairs, kept.sure[~misjudged]), count, worst


def _distinct(pairs: Index, size: int) -> Index:
    """Each pair of numbers below `size` once, in order; sorting one number is faster than rows."""
    return np.stack(np.divmod(np.unique(pairs[:, 0] * size + pairs[:, 1]), size), axis=1)


def _misjudged(
    term: Measure,
    kept: ActiveScenarios,
    weights: Vector,
    losses: Vector,
    at: Columns,
    tolerance: float,
) -> tuple[npt.NDArray[np.bool_], float]:
    """Which sure scenarios are not what was assumed of them, and by how much at most."""
    if not len(kept.sure):
        return np.zeros(0, dtype=bool), 0.0
    level = term.level(weights)
    assumed = level[kept.sure[:, 0]] - level[kept.sure[:, 1]]
    actual = losses[kept.sure[:, 1] - 1]
    error = np.maximum(actual - assumed, at.threshold - assumed)
    return error > tolerance, float(error.max(initial=0.0))


def settle(
    term: Measure, kept: ActiveScenarios, weights: Vector, at: Columns, share: Vector
) -> ActiveScenarios:
    """Forget what a loose solution says is beyond doubt, so that the next program is small.

    share: f64[K], the price of each pair over the most it can be (its a_t). A pair without price
    and far from the threshold is dropped; a time whose single pair carries its full price, far
    above the threshold, becomes sure. The `_NEAR` pairs closest to the threshold always stay.
    Wrong guesses cost a round: what was dropped comes back when it is violated, what was sure when
    it is misjudged.
    """
    level = term.level(weights)
    loss = level[kept.pairs[:, 0]] - level[kept.pairs[:, 1]]
    distance = np.abs(loss - at.threshold)
    if len(distance) <= _NEAR:
        return kept
    far = distance > np.partition(distance, _NEAR)[_NEAR]
    below = loss < at.threshold
    dropped = far & (share < _NEGLIGIBLE) & below
    stays = kept.pairs[~dropped]
    single = np.bincount(stays[:, 1], minlength=len(level))[kept.pairs[:, 1]] == 1
    full = far & ~below & single & (share > 1.0 - _NEGLIGIBLE)
    full = _within(term, kept, full, loss)
    sure = np.concatenate([kept.sure, kept.pairs[full]])
    return ActiveScenarios(kept.pairs[~dropped & ~full], sure)


def _within(
    term: Measure, kept: ActiveScenarios, chosen: npt.NDArray[np.bool_], loss: Vector
) -> npt.NDArray[np.bool_]:
    """Only so many of the chosen pairs, worst first, that the threshold keeps a positive price."""
    taken = float(term.excess[kept.sure[:, 1] - 1].sum())
    order = np.argsort(np.where(chosen, -loss, np.inf), kind="stable")
    mass = np.cumsum(np.where(chosen, term.excess[kept.pairs[:, 1] - 1], 0.0)[order])
    fits = np.zeros(len(chosen), dtype=bool)
    fits[order] = taken + mass < _SURE_MAX
    return chosen & fits
