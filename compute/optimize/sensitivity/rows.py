"""The limits that hold, and the kinks the weights sit on, as rows of the derivative program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.optimize.execution import Execution
from compute.optimize.limits import Linear, linear
from compute.optimize.problem import Array, Problem
from compute.optimize.sensitivity.lagrangian import Smooth, smooth
from compute.optimize.sensitivity.program import STEP, Builder, Program
from compute.optimize.sensitivity.tails import add_tails

Mask = NDArray[np.bool_]

HELD = 1e-6  # a slack below this holds its limit (without a price it ends near sqrt(mu))
NEAR = 1e-4  # a slack below this may hold it, if its price is of the size of curvature times slack
DEGENERATE = 1e-2  # ... within this factor


@dataclass(frozen=True)
class State:
    """One problem of the family at the weights: its linear limits, costs and smooth part."""

    problem: Problem
    limits: Linear
    held: Array
    toll: Array
    smooth: Smooth


@dataclass(frozen=True)
class Bounds:
    """Prices f64[n] of the box that the solver reports, and the curvature f64[n] there."""

    lower: Array
    upper: Array
    bend: Array

    def holds(self, slack: Array, price: Array) -> Mask:
        """bool[n]: the bound holds.

        An interior point ends between a bound and its price where both are zero in the end.
        """
        dear = (slack < NEAR) & (price > DEGENERATE * self.bend * slack)
        return np.asarray((slack < HELD) | dear)


def state(problem: Problem, weights: Array, execution: Execution) -> State:
    """A problem as it stands at the weights."""
    zero = np.zeros(problem.size)
    held = zero if problem.holdings is None else problem.holdings
    toll = zero if problem.costs.linear is None else problem.costs.linear
    return State(problem, linear(problem), held, toll, smooth(problem, weights, execution))


@dataclass(frozen=True)
class Neighbours:
    """A problem now, a step ahead along the family and a step behind, at fixed weights.

    Bounds are linear in the parameter as far as the next kink, so their move is the difference
    ahead; functions are smooth, and theirs is central.
    """

    now: State
    ahead: State
    behind: State
    weights: Array

    def program(self, bounds: Bounds, tie: float) -> Program:
        """The derivative program as the parameter rises."""
        drift = self._central([x.smooth.gradient for x in (self.ahead, self.behind)])
        builder = Builder(self.now.smooth.gradient, drift)
        self._box(builder, bounds)
        self._linear(builder)
        self._curved(builder)
        self._kinks(builder)
        add_tails(builder, tuple(x.problem for x in self._states()), self.weights, tie)
        return builder.build()

    def _states(self) -> tuple[State, State, State]:
        return self.now, self.ahead, self.behind

    @staticmethod
    def _central(ends: list[Array]) -> Array:
        return np.asarray((ends[0] - ends[1]) / (2.0 * STEP))

    def _box(self, builder: Builder, bounds: Bounds) -> None:
        """Bounds of single weights."""
        now, ahead = self.now.limits, self.ahead.limits
        below, above = self.weights - now.lower, now.upper - self.weights
        low, high = bounds.holds(below, bounds.lower), bounds.holds(above, bounds.upper)
        for i in np.flatnonzero(low | high).tolist():
            rows = []
            if low[i]:
                rows.append(builder.bound(i, -1.0, -(ahead.lower[i] - now.lower[i]) / STEP))
            if high[i]:
                rows.append(builder.bound(i, 1.0, (ahead.upper[i] - now.upper[i]) / STEP))
            if len(rows) == 2:
                builder.pair(rows[0], rows[1])

    def _linear(self, builder: Builder) -> None:
        """Budget and named rows, the violation of a soft one a column of its own."""
        n, now, ahead = len(self.weights), self.now.limits, self.ahead.limits
        turns = self._central([x.limits.rows for x in (self.ahead, self.behind)])
        for k, row in enumerate(now.rows):
            ends = []
            for side, name in ((1.0, "row_max"), (-1.0, "row_min")):
                bound, price = float(getattr(now, name)[k]), float(now.price[k])
                excess = side * (float(row @ self.weights) - bound)
                if np.isfinite(price) and excess > HELD:
                    builder.cost[:n] += price * side * row
                    builder.drift[:n] += price * side * turns[k]
                if not abs(excess) < HELD:
                    continue
                moved = side * (getattr(ahead, name)[k] - bound) / STEP
                moved -= side * float(turns[k] @ self.weights)
                others = {}
                if np.isfinite(price):
                    others[builder.column(price)] = -1.0
                    builder.bound(next(iter(others)), -1.0, 0.0)
                ends.append(builder.row(side * row, moved, others, side * turns[k]))
            if len(ends) == 2 and np.isinf(now.price[k]):
                builder.pair(ends[0], ends[1])

    def _curved(self, builder: Builder) -> None:
        """Volatility, normal value at risk and drawdown risk."""
        now, (ahead, behind) = self.now.smooth, (self.ahead.smooth, self.behind.smooth)
        values = self._central([ahead.limits, behind.limits])
        turns = self._central([ahead.slopes, behind.slopes])
        for k, slope in enumerate(now.slopes):
            held = abs(now.limits[k]) < HELD
            builder.curved(builder.row(slope, -values[k], turn=turns[k]) if held else -1)

    def _kinks(self, builder: Builder) -> None:
        """Costs and turnover around the holdings, gross exposure around zero."""
        now, ahead, behind = self._states()
        zero = np.zeros_like(self.weights)
        most = [np.inf if x.limits.turnover is None else x.limits.turnover for x in (now, ahead)]
        centre = now.held, (ahead.held - now.held) / STEP
        toll = now.toll, self._central([ahead.toll, behind.toll])
        self._distance(builder, centre, toll, most)
        most = [np.inf if x.limits.gross is None else x.limits.gross for x in (now, ahead)]
        self._distance(builder, (zero, zero), (zero, zero), most)

    def _distance(
        self,
        builder: Builder,
        centre: tuple[Array, Array],
        toll: tuple[Array, Array],
        most: list[Any],
    ) -> None:
        """toll'|w - centre| in the objective and sum |w - centre| <= most; each with its move.

        At its kink a distance is 2 p - (d - dcentre) with p >= max(d - dcentre, 0).
        """
        n, trade = len(self.weights), self.weights - centre[0]
        held = bool(abs(float(np.abs(trade).sum()) - most[0]) < HELD)
        kink = (np.abs(trade) < HELD) & ((toll[0] > 0.0) | held)
        sign = np.where(kink, -1.0, np.sign(trade))
        builder.cost[:n] += toll[0] * sign
        builder.drift[:n] += toll[1] * sign
        beyond = {}
        for i in np.flatnonzero(kink).tolist():
            column = builder.column(2.0 * float(toll[0][i]), 2.0 * float(toll[1][i]))
            builder.bound(column, -1.0, 0.0)
            builder.row(np.eye(n)[i], float(centre[1][i]), {column: -1.0})
            beyond[column] = 2.0
        if held:
            move = (most[1] - most[0]) / STEP + float(sign @ centre[1])
            builder.row(sign, move, beyond)
