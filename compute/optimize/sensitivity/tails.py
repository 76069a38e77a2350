"""Tail measures in the derivative program: which scenarios, and which peaks, are on the edge.

A measure is  min over z of  z + sum_t a_t max(loss_t - z, 0),  loss_t the largest of the pairs
(level_s - level_t)'w (`tail_lp.scenario_selection`). To first order, at its threshold
z, it moves by

    dz + sum_t a_t (dloss_t - dz)      of the scenarios beyond the threshold
       + sum_t a_t max(dloss_t - dz, 0)      of those at it,

dloss_t the largest move of the pairs that are the loss of t now. The maximum drawdown moves by
the largest move of the pairs that attain it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from compute.optimize.problem import Array, Problem
from compute.optimize.sensitivity.program import STEP, Builder
from compute.optimize.tail_lp.scenario_selection import Measure
from compute.optimize.tail_lp.solve import measures_of

EDGE_MAX = 500  # pairs on the edge of one measure: of more (an empty book) too much is open
FULL = 1.0 - 1e-9  # mass that counts as the whole tail


@dataclass(frozen=True)
class _Moving:
    """A measure with its levels a step ahead and behind along the family."""

    now: Measure
    ahead: Measure
    behind: Measure
    weights: Array

    def pair(self, peak: int, time: int) -> tuple[Array, Array, float]:
        """The pair's slope f64[n], how that moves, and how the loss moves at fixed weights.

        In typical losses.
        """
        now, ahead, behind = (
            (each.levels[peak] - each.levels[time]) / self.now.scale
            for each in (self.now, self.ahead, self.behind)
        )
        turn = (ahead - behind) / (2.0 * STEP)
        return now, turn, float(turn @ self.weights)


def add_tails(builder: Builder, problems: tuple[Problem, ...], weights: Array, tie: float) -> None:
    """Columns and rows of every measure in the objective or at its cap.

    problems: now, a step ahead and one behind. tie: losses this close are the same, as a share of
    a typical loss.
    """
    for now, ahead, behind in zip(*(measures_of(problem) for problem in problems), strict=True):
        losses = now.losses(weights)[0]
        if now.cap is None or now.value(losses) >= now.cap - tie * now.scale:
            moved = 0.0
            if now.cap is not None and ahead.cap is not None:
                moved = (ahead.cap - now.cap) / STEP
            _add(builder, _Moving(now, ahead, behind, weights), losses, tie * now.scale, moved)


def _add(builder: Builder, moving: _Moving, losses: Array, tie: float, moved: float) -> None:
    """One measure: the move of its value in the objective, or as a row beside its cap's.

    ArithmeticError where more than `EDGE_MAX` pairs are on its edge.
    """
    term, n = moving.now, len(moving.weights)
    threshold = _threshold(term, losses)
    at = np.abs(losses - threshold) <= tie
    worth = term.weight * term.scale
    edge = builder.column(0.0)
    slope, turn, shift, value, count = np.zeros(n), np.zeros(n), 0.0, {edge: 1.0}, 0
    levels = term.level(moving.weights)
    for period in np.flatnonzero((at | (losses > threshold)) & _possible(term)).tolist():
        time = period + 1
        peaks = _peaks(term, levels, time, tie)
        pairs = [moving.pair(peak, time) for peak in peaks[: EDGE_MAX + 1]]
        own = float(term.excess[period]) if len(term.excess) else 0.0
        if not at[period] and len(pairs) == 1:
            # Surely in the tail, with one peak: its excess is linear, and needs no column.
            (line, turned, push), *_ = pairs
            slope, turn, shift = slope + own * line, turn + own * turned, shift + own * push
            value[edge] -= own
            continue
        count += len(pairs)
        if count > EDGE_MAX:
            raise ArithmeticError(f"{term.name}: too many losses are the same")
        below = {edge: -1.0}
        if own:
            excess = builder.column(worth * own)
            value[excess], below[excess] = own, -1.0
            if at[period]:
                builder.bound(excess, -1.0, 0.0)
        for line, turned, push in pairs:
            builder.row(line, -push, below, turned)
    if not len(term.excess) and threshold <= tie:
        builder.bound(edge, -1.0, 0.0)
    if term.cap is None:
        builder.cost[:n] += worth * slope
        builder.drift[:n] += worth * turn
        builder.price(edge, worth * value[edge])
    else:
        builder.row(slope, moved / term.scale - shift, value, turn)


def _threshold(term: Measure, losses: Array) -> float:
    """The loss beyond which the whole tail lies; for a maximum the largest."""
    if not len(term.excess):
        return float(losses.max())
    order = np.argsort(-losses, kind="stable")
    mass = np.cumsum(term.excess[order])
    return float(losses[order[int(np.searchsorted(mass, FULL))]])


def _possible(term: Measure) -> Any:
    """bool[T], scenarios that have a probability."""
    return term.excess > 0.0 if len(term.excess) else np.ones(len(term.levels) - 1, bool)


def _peaks(term: Measure, levels: Array, time: int, tie: float) -> list[int]:
    """The peaks that a time's loss may be counted from: all that are the highest so far."""
    if not term.measure.on_path:
        return [0]
    known = levels[: time + 1]
    return np.flatnonzero(known >= known.max() - tie).tolist()
