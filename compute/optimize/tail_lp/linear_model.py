"""The weights, polyhedral limits and linear costs of a problem as columns and rows of a program.

|w - holdings| and |w| are piecewise linear in each weight alone. A weight that carries one of
them is cut at its kinks into pieces that are filled one after the other:

    w = base + unit * sum over its pieces (sign * x),   0 <= x <= length

so turnover, gross exposure and linear costs are linear in x and cost a row, or none, not 2n.
Filling pieces out of order only overstates |.|, so nothing is lost and nothing is gained by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compute.optimize.limits import box
from compute.optimize.problem import Problem

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """Columns x[k] of the weights: asset and sign of each, its bounds, and slopes of the kinks.

    trade_slope, gross_slope [k]: d|w - holdings| and d|w| by sign-free distance along the piece.
    """

    base: Vector
    asset: Index
    sign: Vector
    lower: Vector
    upper: Vector
    trade_slope: Vector
    gross_slope: Vector

    def spread(self, by_weight: Vector) -> Vector:
        """Coefficients by weight [..., n] become coefficients by piece [..., k]."""
        return np.asarray(by_weight[..., self.asset] * self.sign)

    def weights(self, point: Vector, unit: float) -> Vector:
        """The weights [n] at pieces x[k]."""
        moved = np.bincount(self.asset, self.sign * point, minlength=len(self.base))
        return np.asarray(self.base + unit * moved)


@dataclass(frozen=True)
class Owner:
    """Which limit a row states: its family, and the index of a named row."""

    family: str
    index: int = 0


@dataclass(frozen=True)
class Frame:
    """The limits that are no tail measures, in scaled columns; natural = unit * x.

    rows[m, k + e]: pieces, then violations of soft rows (of all hard ones too when `elastic`).
    row_scale[m]: what each natural row was multiplied by (and divided by unit). cost[k + e] in
    objective units per natural unit, before the objective is scaled.
    """

    unit: float
    pieces: Pieces
    cost: Vector
    rows: Vector
    row_min: Vector
    row_max: Vector
    row_scale: Vector
    owners: tuple[Owner, ...]
    lower: Vector
    upper: Vector


def holdings(problem: Problem) -> Vector:
    """Current weights [n], all cash if unset."""
    held = problem.holdings
    return np.zeros(problem.size) if held is None else np.asarray(held, dtype=np.float64)


def finite(bound: float | None) -> bool:
    """True if the bound limits anything."""
    return bound is not None and bool(np.isfinite(bound))


def _unit(problem: Problem, lower: Vector, upper: Vector) -> float:
    """The natural size of the book: the budget, else gross, turnover, or the widest bound."""
    limits = problem.limits
    budgets = [abs(b) for b in (limits.budget_min, limits.budget_max) if b is not None]
    bounds = np.abs(np.concatenate([lower, upper]))
    widest = float(np.max(bounds, where=np.isfinite(bounds), initial=0.0))
    for candidates in (budgets, [limits.gross_max], [limits.turnover_max], [widest]):
        known = [c for c in candidates if c is not None and np.isfinite(c) and c > 0.0]
        if known:
            return float(max(known))
    return 1.0


def _pieces(problem: Problem, lower: Vector, upper: Vector, unit: float) -> Pieces:
    size, limits, held = problem.size, problem.limits, holdings(problem)
    traded = problem.costs.linear is not None or finite(limits.turnover_max)
    kinks = [held] if traded else []
    kinks += [np.zeros(size)] if finite(limits.gross_max) else []
    if not kinks:
        base, none, every = np.zeros(size), np.zeros(size), np.arange(size)
        return Pieces(base, every, np.ones(size), lower / unit, upper / unit, none, none)
    first = np.clip(np.minimum.reduce(kinks), lower, upper)
    second = np.clip(np.maximum.reduce(kinks), lower, upper)
    starts, ends = np.stack([lower, first, second]), np.stack([first, second, upper])
    # A point inside each piece tells on which side of every kink the piece lies.
    inside = np.where(np.isfinite(starts), starts, ends - 1.0)
    inside = 0.5 * (inside + np.where(np.isfinite(ends), ends, inside + 2.0))
    sign = np.array([[-1.0], [1.0], [1.0]]) * np.ones(size)
    used = (ends - starts) > 0.0
    asset = np.broadcast_to(np.arange(size), used.shape)
    return Pieces(
        first,
        asset[used].astype(np.int64),
        sign[used],
        np.zeros(int(used.sum())),
        ((ends - starts) / unit)[used],
        (sign * np.sign(inside - held))[used],
        (sign * np.sign(inside))[used],
    )


@dataclass
class _Rows:
    """Rows under construction: natural coefficients by piece, bounds less the base's value."""

    coefficients: list[Vector]
    low: list[float]
    high: list[float]
    owners: list[Owner]
    prices: list[float]

    def add(self, row: Vector, low: float, high: float, owner: Owner, price: float) -> None:
        # A row whose bounds contradict each other becomes two, so that its violation is defined.
        sides = [(low, high)] if low <= high else [(low, np.inf), (-np.inf, high)]
        for lower, upper in sides:
            if np.isfinite(lower) or np.isfinite(upper):
                self.coefficients.append(row)
                self.low.append(lower)
                self.high.append(upper)
                self.owners.append(owner)
                self.prices.append(price)


def _collect(problem: Problem, pieces: Pieces) -> _Rows:
    limits, rows = problem.limits, _Rows([], [], [], [], [])
    base, named = pieces.base, limits.rows
    if named is not None:
        prices = np.full(len(named.row_min), np.inf) if named.price is None else named.price
        for i, row in enumerate(named.matrix):
            value = float(row @ base)
            low, high = float(named.row_min[i]) - value, float(named.row_max[i]) - value
            rows.add(pieces.spread(row), low, high, Owner("row", i), float(prices[i]))
    low = -np.inf if limits.budget_min is None else limits.budget_min - float(base.sum())
    high = np.inf if limits.budget_max is None else limits.budget_max - float(base.sum())
    rows.add(pieces.sign, low, high, Owner("budget"), np.inf)
    if limits.gross_max is not None:
        room = limits.gross_max - float(np.abs(base).sum())
        rows.add(pieces.gross_slope, -np.inf, room, Owner("gross"), np.inf)
    if limits.turnover_max is not None:
        room = limits.turnover_max - float(np.abs(base - holdings(problem)).sum())
        rows.add(pieces.trade_slope, -np.inf, room, Owner("turnover"), np.inf)
    return rows


def build(problem: Problem, gain: Vector, *, elastic: bool = False) -> Frame:
    """The frame of minimising -gain'w plus linear costs and soft prices under the limits.

    gain: f64[n]. With `elastic` the objective is the total violation of the hard rows instead.
    """
    lower, upper = box(problem)
    unit = _unit(problem, lower, upper)
    pieces = _pieces(problem, lower, upper, unit)
    rows = _collect(problem, pieces)
    count = len(rows.low)
    matrix = np.array(rows.coefficients).reshape(count, len(pieces.asset))
    scale = 1.0 / np.maximum(np.max(np.abs(matrix), axis=1, initial=0.0), 1e-100)
    scale = np.where(scale > 1e99, 1.0, scale)
    prices = np.array(rows.prices).reshape(count)
    give, price = _violations(np.array(rows.low), np.array(rows.high), prices, elastic)
    cost = -pieces.spread(gain)
    if problem.costs.linear is not None:
        cost = cost + problem.costs.linear[pieces.asset] * pieces.trade_slope
    cost = np.concatenate([np.zeros_like(cost) if elastic else cost, price])
    spare = give.shape[1]
    return Frame(
        unit,
        pieces,
        cost,
        np.hstack([matrix, give]) * scale[:, None],
        np.array(rows.low).reshape(count) * scale / unit,
        np.array(rows.high).reshape(count) * scale / unit,
        scale,
        tuple(rows.owners),
        np.concatenate([pieces.lower, np.zeros(spare)]),
        np.concatenate([pieces.upper, np.full(spare, np.inf)]),
    )


def _violations(low: Vector, high: Vector, prices: Vector, elastic: bool) -> tuple[Vector, Vector]:
    """Columns [m, e] by which a row may be broken, one for each finite side, and their price."""
    columns, price = [], []
    for i, row_price in enumerate(prices):
        soft = bool(np.isfinite(row_price))
        if not (soft or elastic):
            continue
        for bound, side in ((low[i], 1.0), (high[i], -1.0)):
            if np.isfinite(bound):
                column = np.zeros(len(prices))
                column[i] = side
                columns.append(column)
                price.append((0.0 if elastic else float(row_price)) if soft else 1.0)
    return np.array(columns).reshape(len(columns), len(prices)).T, np.array(price)
