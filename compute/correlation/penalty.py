"""Stakes that share risk, made smaller: the correlation penalty of the closed form.

Kelly of each line by itself counts the same bet twice where two lines are correlated. With stakes
f_i by themselves (0 or more, on the side of the signal) the growth of all together is, to second
order and up to constants,

    u't - h't - t'G t / 2,   t_i = k_i s_i, u_i = k_i f_i, 0 <= t_i <= u_i

k_i is the scale of a line's own risk, by which s_i = f_i is best alone. For a return of volatility
s it is s; for a bet that wins b or loses a it is sqrt(a b). G has ones on the diagonal and
G_ij = (rho_ij + r_i r_j) / sqrt((1 + r_i^2)(1 + r_j^2)) on the sides taken, r the mean over the
deviation of a bet and 0 for a return (in the limit of small periods): correlations of second
moments. h_i is what is held outside the batch, k_o w_o rho_io.

It is exact for two even-money bets, m / (1 + m^2 + rho (1 - m^2)) each (K4), for alike continuous
returns, f / (1 + (n - 1) rho), and for any continuous returns it is Kelly under 0 <= s <= f: no
stake grows and none changes side, so an error in a correlation can't make a stake larger.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np

from compute.history import Floats, Integers
from compute.optimize.time_limit import checkpoint

RIDGE = 1e-9
"""Taken off all correlations: alike lines of correlation 1 share one stake evenly."""
TOLERANCE = 1e-12
"""Of the largest stake: a gradient step moves none by more at the optimum.

Ten times the rounding of a thousand lines; the factor of a millionth of that stake has six digits.
"""
GRADIENT_STEPS = 8
"""They find most of the lines at a bound, each for one product with the whole matrix."""
FACTOR_STEPS = 2
"""The same from the optimum of one factor, where that has most lines at their bounds already."""
INSIDE_MAX = 0.25
"""Share of lines inside their bounds there, at most: else risk is shared in other ways too."""
OWN_MIN = 0.1
"""Share of its risk that a line has to itself in that optimum, at least."""
HALVINGS = 40
ROUNDS_MAX = 200
INNER_STEPS = 24
"""The same of an optimum over some lines, each for a small product."""
SHORTENED = (1.0, 0.25, 0.0625, 0.015625)
DESCENT = 1e-4
"""Share of the decrease that the slope promises which a step has to give (Armijo)."""
ROWS = 64
"""Of a matrix at a time, so that what is made of it stays in the cache of the processor."""


class CorrelationPenalty(IntEnum):
    """The numbers are those of the contract."""

    NONE = 1
    PROPORTIONAL = 2
    QUADRATIC = 3


@dataclass(frozen=True)
class Gram:
    """G (n, n) of lines, not formed, from the covariance (n, n) of their instruments.

    side: 1 or -1; ratio: r, (n,). An instrument without variance correlates with nothing.
    """

    covariance: Floats
    side: Floats
    ratio: Floats

    @cached_property
    def _deviation(self) -> Floats:
        deviation = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        return np.where(deviation > 0.0, deviation, 1.0)

    @cached_property
    def _scale(self) -> Floats:
        return np.asarray(1.0 / np.sqrt(1.0 + self.ratio**2))

    @cached_property
    def _turned(self) -> Floats:
        """Of the covariance, to correlations on the sides taken."""
        return np.asarray(self.side / self._deviation)

    @cached_property
    def _own(self) -> Floats:
        """What the diagonal lacks to one."""
        return np.where(np.diag(self.covariance) > 0.0, 0.0, self._scale**2)

    @cached_property
    def _has_no_hedge(self) -> bool:
        """Whether no entry is below 0, as of long stocks that rise and fall together."""
        one_side = bool((self.side[:1] == self.side).all())
        return one_side and self.ratio.min() >= 0.0 and self.covariance.min() >= 0.0

    def block(self, lines: Integers) -> Floats:
        """G of some lines alone, (k, k)."""
        turned, ratio, scale = self._turned[lines], self.ratio[lines], self._scale[lines]
        out: Floats = self.covariance[np.ix_(lines, lines)] * np.outer(turned, turned)
        out = (out + np.outer(ratio, ratio)) * np.outer(scale, scale)
        np.fill_diagonal(out, 1.0)
        return out

    def dot(self, vector: Floats) -> Floats:
        """G x."""
        scaled = self._scale * vector
        product = self._turned * (self.covariance @ (self._turned * scaled))
        product += self.ratio * (self.ratio @ scaled)
        return np.asarray(self._scale * product + self._own * vector)

    def overlap(self, vector: Floats) -> Floats:
        """sum_j max(G_ij, 0) x_j, (n,)."""
        if self._has_no_hedge:
            return self.dot(vector)
        scaled, out = self._scale * vector, np.empty(len(vector))
        for start in range(0, len(out), ROWS):
            rows = slice(start, start + ROWS)
            part = self.covariance[rows] * self._turned
            part *= self._turned[rows, None]
            part += np.multiply.outer(self.ratio[rows], self.ratio)
            out[rows] = np.maximum(part, 0.0, out=part) @ scaled
        return np.asarray(self._scale * out + self._own * vector)


def proportional(stake: Floats, gram: Gram, held: Floats) -> Floats:
    """u_i^2 / (sum_j max(G_ij, 0) u_j + max(h_i, 0)), (n,): each its share of what it overlaps.

    Exact for alike lines. Unlike `quadratic` it never leaves one of two alike lines at zero, and
    takes no account of hedges.
    """
    overlap = gram.overlap(stake) + np.maximum(held, 0.0)
    return np.divide(stake**2, overlap, out=np.zeros_like(stake), where=overlap > 0.0)


def quadratic(stake: Floats, gram: Gram, held: Floats) -> Floats:
    """The t in [0, u] that maximises (u - h)'t - t'G t / 2, (n,).

    A few gradient steps find most of the lines that stay at a bound; of lines that share one risk
    above all, the optimum by that risk alone does. The optimum over the others is found by itself,
    and over those again that it leaves where a step would gain.
    """
    descent = _Descent(gram, stake - held, stake)
    steps = FACTOR_STEPS if descent.start_at_factor() else GRADIENT_STEPS
    for _ in range(steps):
        descent.gradient_step()
    for _ in range(ROUNDS_MAX):
        if descent.is_over():
            break
        descent.optimise(descent.open_lines())
    return descent.point


@dataclass(frozen=True)
class _Matrix:
    """G of some lines, formed."""

    values: Floats

    def block(self, lines: Integers) -> Floats:
        return self.values[np.ix_(lines, lines)]

    def dot(self, vector: Floats) -> Floats:
        return np.asarray(self.values @ vector)


class _Descent:
    """t in [0, u], the slope G t - l there, and the length of the next gradient step.

    Spectral projected gradient steps (Birgin, Martinez and Raydan 2000) and projected Newton steps
    (Bertsekas 1982) in the lines that no bound holds. Each gains; with the right lines at their
    bounds a Newton step is exact.
    """

    def __init__(self, gram: Gram | _Matrix, linear: Floats, upper: Floats) -> None:
        self._gram, self._linear, self._upper, self._length = gram, linear, upper, 1.0
        self._product = self._dot(upper)
        curvature = float(upper @ self._product)
        # Of all multiples of the stakes the best.
        share = min(max(float(linear @ upper) / curvature, 0.0), 1.0) if curvature > 0.0 else 0.0
        self._curvature = curvature
        self.point: Floats = share * upper
        self._slope: Floats = share * self._product - linear

    def start_at_factor(self) -> bool:
        """Moves to the optimum by the risk that all share, where it leaves few lines inside.

        G is taken as v v' + diag(1 - v^2), v = G u / sqrt(u'G u). Its optimum is that of each line
        by itself at the right s = v't, which is found by halving: what lines ask for falls in it.
        """
        if self._curvature <= 0.0:
            return False
        loading = self._product / np.sqrt(self._curvature)
        own = np.maximum(1.0 - loading**2, OWN_MIN)
        high = float(np.abs(loading) @ self._upper)
        low = -high
        for _ in range(HALVINGS):
            shared = 0.5 * (low + high)
            point = np.clip((self._linear - loading * shared) / own, 0.0, self._upper)
            low, high = (shared, high) if float(loading @ point) > shared else (low, shared)
        if np.count_nonzero((point > 0.0) & (point < self._upper)) > INSIDE_MAX * len(point):
            return False
        self.point = point
        self._slope = self._dot(point) - self._linear
        return True

    def _dot(self, vector: Floats) -> Floats:
        return (1.0 - RIDGE) * self._gram.dot(vector) + RIDGE * vector

    def _towards(self, end: Floats) -> Floats:
        return np.clip(end, 0.0, self._upper) - self.point

    def _move(self, step: Floats, product: Floats) -> None:
        self.point = np.clip(self.point + step, 0.0, self._upper)
        self._slope = self._slope + product

    def is_over(self) -> bool:
        """Whether a gradient step of length 1, G's diagonal, moves nothing."""
        step = np.abs(self._towards(self.point - self._slope))
        return bool(step.max(initial=0.0) <= TOLERANCE * self._upper.max(initial=0.0))

    def gradient_step(self) -> None:
        """To the lowest point on the way to the projected end of a step of spectral length."""
        step = self._towards(self.point - self._length * self._slope)
        product = self._dot(step)
        curvature = float(step @ product)
        if curvature <= 0.0:
            return
        self._length = float(step @ step) / curvature
        share = min(-float(self._slope @ step) / curvature, 1.0)
        self._move(share * step, share * product)

    def open_lines(self) -> Integers:
        """The lines that their bound does not hold."""
        below = (self.point <= 0.0) & (self._slope > 0.0)
        above = (self.point >= self._upper) & (self._slope < 0.0)
        return np.flatnonzero(~(below | above))

    def optimise(self, lines: Integers) -> None:
        """To the optimum over some lines, the others staying where they are."""
        part = _Matrix(self._gram.block(lines))
        inner = _Descent(part, np.zeros(len(lines)), self._upper[lines])
        inner.point, inner._slope = self.point[lines], self._slope[lines]
        for _ in range(INNER_STEPS):
            inner.gradient_step()
        for _ in range(ROUNDS_MAX):
            checkpoint()
            if inner.is_over():
                break
            if not inner.newton_step():
                inner.gradient_step()
        step = np.zeros(len(self.point))
        step[lines] = inner.point - self.point[lines]
        self._move(step, self._dot(step))

    def newton_step(self) -> bool:
        """To the optimum of the lines that no bound holds, less far where that is none; if any."""
        free = self.open_lines()
        if not len(free):
            return False
        matrix = (1.0 - RIDGE) * self._gram.block(free)
        matrix[np.diag_indices(len(free))] += RIDGE
        ahead = np.zeros(len(self.point))
        ahead[free] = np.linalg.solve(matrix, -self._slope[free])
        for length in SHORTENED:
            step = self._towards(self.point + length * ahead)
            promised = float(self._slope @ step)
            if promised < 0.0:
                product = self._dot(step)
                if promised + 0.5 * float(step @ product) <= DESCENT * promised:
                    self._move(step, product)
                    return True
        return False


def penalty_factors(
    stake: Floats, scale: Floats, gram: Gram, held: Floats, penalty: CorrelationPenalty
) -> Floats:
    """By what each stake f (n,) is multiplied, in [0, 1]; 1 where it is zero.

    scale: k (n,) > 0; held: h (n,).
    """
    units = scale * stake
    if penalty is CorrelationPenalty.NONE:
        return np.ones(len(stake))
    shrink = proportional if penalty is CorrelationPenalty.PROPORTIONAL else quadratic
    shared = shrink(units, gram, held)
    factors = np.divide(shared, units, out=np.ones_like(units), where=units > 0.0)
    return np.clip(factors, 0.0, 1.0)
