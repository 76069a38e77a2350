"""The answer of the derivative program: the direction in which the weights move.

First the prices: nonnegative multipliers of the rows that carry the cost (Lawson and Hanson 1974,
chapter 23). Where several do, those that count are the optimal duals of the linear program

    minimise  cost'x   subject to   rows x <= move,

and x lies where these rows hold: priced ones as equalities (Bonnans and Shapiro 2000, 5.2). There
x minimises  1/2 d'Hd + h'd  with H and h of the Lagrangian at those prices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import nnls

from compute.optimize.execution import Execution
from compute.optimize.interior_point import solve
from compute.optimize.linear_program import LinearProgram, LpStatus, maximise
from compute.optimize.problem import Array, Limits, Objective, ObjectiveKind, Problem, Rows, Status
from compute.optimize.sensitivity.program import Program

PRICED = 1e-5  # a price above this, relative to the largest slope, is positive
CARRIED = 1e-6  # of the largest slope may be left by the prices
MET = 1e-7  # by which a row may be missed, relative to the largest move
RANK = 1e-9  # singular values below this share of the largest are none
FLAT = 1e-9  # of the curvature, below which there is none
CONVEX = 1e-6  # of the curvature may be negative along the limits by rounding
TURNED = 1e-6  # of the largest turn of a row may be left where the turns of rows cancel


@dataclass(frozen=True)
class Curve:
    """H f64[n, n] of the Lagrangian at the prices of the curved limits, by `of`."""

    of: Callable[[Array], Array]
    scale: float  # of the objective's slopes
    execution: Execution


def prices_of(program: Program, scale: float) -> Array | None:
    """Some prices f64[m] >= 0 that carry the cost; None where none do."""
    if not len(program.move):
        return np.zeros(0) if np.abs(program.cost).max() <= CARRIED * scale else None
    try:
        price, _ = nnls(program.rows.T, -program.cost / scale)
    except RuntimeError:  # it stopped at its own limit of iterations
        return None
    left = program.cost / scale + price @ program.rows
    if np.abs(left).max() > CARRIED:
        return None
    return np.asarray(np.where(price > PRICED, price, 0.0) * scale)


def derivative(program: Program, price: Array, curve: Curve) -> Array:
    """d f64[n]; NaN where there is none, no single one, or none that is known for sure."""
    n = program.turn.shape[1]
    found = _at(program, price, curve)
    if found is None:
        suited = _first_order(program, price, curve.scale)
        found = None if suited is None else _at(program, suited, curve)
    if found is None or not _certain(program, found):
        return np.full(n, np.nan)
    return found[:n]


def _first_order(program: Program, price: Array, scale: float) -> Array | None:
    """Prices that carry the cost and are optimal for these moves; None where no x is feasible."""
    cost = price @ program.rows / scale  # what the prices carry exactly
    found = maximise(_free(cost, program.rows, program.move))
    if found.status is not LpStatus.OPTIMAL:
        return None
    return np.where(found.row_dual > PRICED, found.row_dual, 0.0) * scale


def _free(cost: Array, rows: Array, most: Array, size: float = np.inf) -> LinearProgram:
    """max cost'x over rows x <= most, |x| <= size."""
    low, wide = np.full(len(most), -np.inf), np.full(len(cost), size)
    return LinearProgram(cost, sparse.csr_array(rows), low, most, -wide, wide)


def _at(program: Program, price: Array, curve: Curve) -> Array | None:
    """x that minimises the second-order program where rows with a price hold.

    None where they can't; NaN where the minimum has no single d.
    """
    equal = np.asarray(price > 0.0)
    first, second = program.pairs.T
    alike = np.abs(program.move[first] + program.move[second]) <= MET * _reach(program)
    equal[first[alike]], equal[second[alike]] = True, True
    line = _affine(program.rows[equal], program.move[equal], MET * _reach(program))
    if line is None:
        return None
    start, basis = line
    n = program.turn.shape[1]
    natural = np.append(price / program.size, 0.0)  # the last for limits that do not hold
    hessian, slope = curve.of(natural[program.curved]), program.drift.copy()
    slope[:n] += price @ program.turn
    square = basis[:n].T @ hessian @ basis[:n]
    push = hessian @ start[:n]
    gradient = basis.T @ slope + basis[:n].T @ push
    noise = RANK * max(float(np.abs(slope).max()), float(np.abs(push).max()))
    gradient[np.abs(gradient) <= noise] = 0.0
    rows = program.rows[~equal] @ basis
    room = program.move[~equal] - program.rows[~equal] @ start
    size = np.linalg.norm(rows, axis=1)
    if np.any(room[size <= RANK] < -MET * _reach(program)):
        return None
    keep = size > RANK
    inner = _Inner(
        square, gradient, rows[keep] / size[keep, None], room[keep] / size[keep], curve.execution
    )
    y = inner.answer(basis[:n], float(np.abs(hessian).max(initial=0.0)))
    return None if y is None else start + basis @ y


def _reach(program: Program) -> float:
    return max(1.0, float(np.abs(program.move).max(initial=0.0)))


def _affine(rows: Array, move: Array, allowed: float) -> tuple[Array, Array] | None:
    """A point f64[k] with rows x = move, and a basis f64[k, r] of what is free; None without one.

    Columns that a row fixes by itself go first: most rows are bounds.
    """
    width = rows.shape[1]
    known, point, there = np.zeros(width, bool), np.zeros(width), rows != 0.0
    while True:
        single = np.flatnonzero(there[:, ~known].sum(axis=1) == 1)
        if not len(single):
            break
        column = np.argmax(there[single] & ~known, axis=1)
        left = move[single] - rows[single] @ point
        point[column], known[column] = left / rows[single, column], True
    rest = there[:, ~known].any(axis=1)
    basis = np.zeros((width, 0))
    matrix = rows[np.ix_(rest, ~known)]
    left, values, right = np.linalg.svd(matrix, full_matrices=True)
    rank = int(np.sum(values > RANK * values.max(initial=0.0)))
    value = left[:, :rank].T @ (move[rest] - rows[rest] @ point) / values[:rank]
    point[~known] = right[:rank].T @ value
    basis = np.zeros((width, right.shape[0] - rank))
    basis[~known] = right[rank:].T
    missed = np.abs(rows @ point - move).max(initial=0.0)
    return None if missed > allowed else (point, basis)


@dataclass(frozen=True)
class _Inner:
    """min 1/2 y'Qy + g'y over C y <= b, rows of size one."""

    square: Array
    gradient: Array
    rows: Array
    room: Array
    execution: Execution

    def answer(self, basis: Array, curvature: float) -> Array | None:
        """y f64[r]; NaN where basis @ y, f64[n], has no minimum or more than one."""
        count = len(self.gradient)
        if not count:
            return np.zeros(0)
        values, vectors = np.linalg.eigh(0.5 * (self.square + self.square.T))
        curvature = max(curvature, 1e-300)
        if values[0] < -CONVEX * curvature:
            return np.full(count, np.nan)
        flat = values <= FLAT * curvature
        loose = vectors[:, flat]
        # Columns that are free but move no weight leave the others alone.
        moves = bool(np.abs(basis @ loose).max(initial=0.0) > RANK)
        if not len(self.room):
            curved = vectors[:, ~flat]
            y = -curved @ ((curved.T @ self.gradient) / values[~flat])
            return np.full(count, np.nan) if moves else np.asarray(y)
        y = self._linear() if flat.all() else self._quadratic()
        if y is None or not moves or np.isnan(y).any() or self._single(y, loose, basis):
            return y
        return np.full(count, np.nan)

    def _linear(self) -> Array | None:
        """The linear program's answer; None where it is infeasible."""
        scale = float(np.abs(self.gradient).max()) or 1.0
        found = maximise(_free(-self.gradient / scale, self.rows, self.room))
        if found.status is LpStatus.INFEASIBLE:
            return None
        is_optimal = found.status is LpStatus.OPTIMAL
        return found.point if is_optimal else np.full(len(self.gradient), np.nan)

    def _quadratic(self) -> Array | None:
        """The same by the solver of the problems themselves."""
        names = tuple(map(str, range(len(self.room))))
        rows = Rows(self.rows, np.full(len(self.room), -np.inf), self.room, names)
        objective = Objective(ObjectiveKind.MEAN_VARIANCE)
        inner = Problem(objective, Limits(rows=rows), mean=-self.gradient, covariance=self.square)
        found = solve(inner, execution=self.execution)
        return None if found.status is Status.INFEASIBLE else found.weights

    def _single(self, y: Array, loose: Array, basis: Array) -> bool:
        """Whether no other minimum has another basis @ y: along `loose` nothing is curved."""
        tight = self.room - self.rows @ y <= MET * max(1.0, float(np.abs(y).max()))
        gradient = (self.gradient + self.square @ y) @ loose
        rows = np.vstack(
            [self.rows[tight] @ loose, gradient / max(float(np.abs(gradient).max()), 1e-12)]
        )
        # A cone is the origin if some vector's product with it is zero, unless by bad luck.
        some = np.random.default_rng(0).standard_normal(len(basis)) @ basis @ loose
        ends = [
            maximise(_free(side * some, rows, np.zeros(len(rows)), 1.0)) for side in (1.0, -1.0)
        ]
        return all(abs(end.value) <= MET for end in ends)


def _certain(program: Program, found: Array) -> bool:
    """Whether all prices that carry the cost and suit these moves give the same H and h.

    They differ along null vectors of the rows that hold at x: what these turn must cancel.
    """
    curved = program.curved[program.curved >= 0]
    if np.isnan(found).any() or not (len(curved) or program.turn.any()):
        return True
    slack = program.move - program.rows @ found
    tight = slack <= MET * max(_reach(program), float(np.abs(found).max()))
    single = (program.rows != 0.0).sum(axis=1) == 1
    # A column with a bound of its own takes whatever the other rows leave there.
    free = ~(program.rows[tight & single] != 0.0).any(axis=0)
    others = np.flatnonzero(tight & ~single)
    left, values, _ = np.linalg.svd(program.rows[np.ix_(others, free)], full_matrices=True)
    null = left[:, int(np.sum(values > RANK * values.max(initial=0.0))) :]
    turned = np.abs(null.T @ program.turn[others]).max(initial=0.0)
    bent = np.abs(null[np.isin(others, curved)]).max(initial=0.0)
    return bool(turned <= TURNED * np.abs(program.turn).max(initial=0.0) and bent <= TURNED)
