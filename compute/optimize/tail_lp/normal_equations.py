"""The Newton equations of a linear program, by its rows or by its columns, if those are few.

A step of the interior point is the x, r and y with

    x = G (A'y + p),   r = R (q - y),   A x - r = c        G, R >= 0 diagonal

Without x and r that is (A G A' + R) y = right, of the size of the rows; without r and y it is
(1/G + A'A/R) x = right, of the size of the columns. Excess columns, of which nearly every row has
one at most, are eliminated by hand in the second, and rows that must hold exactly or have many
excesses border it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
# (p of columns, q of rows, c) -> (x, r, y)
Solver = Callable[[Array, Array, Array], tuple[Array, Array, Array]]

BORDER = 4  # rows that border the system by columns: caps, of which there are two, and equalities
_PIVOT_SHIFT = 1e-14
_EXACT = 1e-12  # R of further equalities, relative to their pivot; refinement makes them exact
_FIXED = 1e30  # 1/G of columns that may not move


class Rows(NamedTuple):
    """A = (wide, excess), f64[m, d] and f64[m, g], and what it takes not to multiply by its zeros.

    lone: int[m], the one excess column of each row, and coefficient: f64[m], what it has there
    (0 where it has none or many). border: int[b], rows with many excesses, then equalities;
    many: f64[b, g], the excesses of those with many. reached: f64[m, m], [i, j] what row j has of
    the lone column of row i; empty where the system goes by columns.
    """

    wide: Array
    excess: Array
    lone: Array
    coefficient: Array
    border: Array
    many: Array
    reached: Array

    def apply(self, x: Array) -> Array:
        """A x, f64[m]."""
        d = self.wide.shape[1]
        value = self.wide @ x[:d]
        if not self.many.shape[1]:
            return value
        value = value + self.coefficient * x[d:][self.lone]
        return value.at[self.border].add(self.many @ x[d:])

    def adjoint(self, y: Array) -> Array:
        """A'y, f64[d + g]."""
        value = y @ self.wide
        if not self.many.shape[1]:
            return value
        own = jnp.zeros(self.many.shape[1]).at[self.lone].add(self.coefficient * y)
        return jnp.concatenate([value, own + y[self.border] @ self.many])


def by_columns(rows: int, columns: int) -> bool:
    """True where the equations go by columns: they take about twice the work of as many rows."""
    return 2 * columns <= rows


def rows(wide: Array, excess: Array, exact: Array) -> Rows:
    """Look through A once; exact: bool[m], rows that must hold exactly."""
    count, columns = wide.shape
    several = jnp.sum(excess != 0.0, axis=1) > 1
    border = lax.top_k(2 * several + exact.astype(jnp.int32), min(BORDER, count))[1]
    many = jnp.where(several[border, None], excess[border], 0.0)
    if not excess.shape[1]:
        none = jnp.zeros(0)
        return Rows(wide, excess, none, none, border, many, none)
    lone = jnp.argmax(jnp.abs(excess), axis=1)
    coefficient = jnp.take_along_axis(excess, lone[:, None], axis=1)[:, 0]
    reached = jnp.zeros(0) if by_columns(count, columns) else excess.T[lone]
    alone = jnp.where(several, 0.0, coefficient)
    return Rows(wide, excess, lone, alone, border, many, reached)


def solver(a: Rows, columns: Array, give: Array, exact: Array) -> Solver:
    """Factorise. columns: G, f64[d + g]; give: R, f64[m]; exact: bool[m] where R is 0."""
    by = _by_columns if by_columns(*a.wide.shape) else _by_rows
    return by(a, columns, give, exact)


def _factor(matrix: Array) -> Callable[[Array], Array]:
    """Solve with a positive definite matrix, scaled to a diagonal of ones."""
    pivot = jnp.diagonal(matrix)
    scale = lax.rsqrt(jnp.where(pivot > 0.0, pivot, 1.0))
    at = jnp.arange(len(scale))
    scaled = (matrix * scale[:, None] * scale[None, :]).at[at, at].set(1.0 + _PIVOT_SHIFT)
    root = lax.linalg.cholesky(scaled, symmetrize_input=False)

    def solve(right: Array) -> Array:
        by = scale if right.ndim == 1 else scale[:, None]
        return by * jax.scipy.linalg.cho_solve((root, True), right * by, check_finite=False)

    return solve


def _by_rows(a: Rows, columns: Array, give: Array, exact: Array) -> Solver:
    d = a.wide.shape[1]
    matrix = (a.wide * columns[None, :d]) @ a.wide.T + jnp.diag(give)
    if a.excess.shape[1]:
        own = columns[d:]
        shared = (a.coefficient * own[a.lone])[:, None] * a.reached
        full = (a.many * own[None, :]) @ a.excess.T
        is_many = jnp.any(a.many != 0.0, axis=1)
        matrix = matrix + shared.at[a.border].set(
            jnp.where(is_many[:, None], full, shared[a.border])
        )
    back = _factor(matrix)

    def solve(p: Array, q: Array, c: Array) -> tuple[Array, Array, Array]:
        def of(y: Array) -> tuple[Array, Array, Array]:
            return columns * (a.adjoint(y) + p), give * (q - y), y

        x, r, y = of(back(c - a.apply(columns * p) + give * q))
        # Refined on A x - r itself, not on the matrix, which has lost its last digits.
        return of(y + back(c - a.apply(x) + r))

    return solve


def _by_columns(a: Rows, columns: Array, give: Array, exact: Array) -> Solver:
    d, free = a.wide.shape[1], columns > 0.0
    stiff = jnp.where(free, 1.0 / jnp.where(free, columns, 1.0), _FIXED)  # 1/G
    pivot = (a.wide**2) @ columns[:d]
    give = jnp.where(exact, _EXACT * pivot, give)
    weight = jnp.where(give > 0.0, 1.0 / jnp.where(give > 0.0, give, 1.0), 0.0)
    weight = weight.at[a.border].set(0.0)  # 1/R of the rows within
    inner = _eliminated(a, stiff, weight)
    outer = jnp.zeros((len(a.border), len(columns))).at[:, :d].set(a.wide[a.border])
    if a.excess.shape[1]:
        at = jnp.arange(len(a.border)), d + a.lone[a.border]
        outer = outer.at[:, d:].add(a.many).at[at].add(a.coefficient[a.border])
    across = inner(outer.T)
    bent = jnp.where(exact, 0.0, give)
    corner = outer @ across + jnp.diag(bent[a.border])
    empty = jnp.diagonal(corner) <= 0.0  # padding
    back = _factor(corner + jnp.diag(empty.astype(jnp.float64)))

    def once(p: Array, q: Array, c: Array) -> tuple[Array, Array]:
        x = inner(p + a.adjoint(weight * c + jnp.where(weight > 0.0, q, 0.0)))
        own = back((c + bent * q)[a.border] - outer @ x)
        own = jnp.where(empty, 0.0, own)
        x = x + across @ own
        y = jnp.where(weight > 0.0, q - weight * (a.apply(x) - c), 0.0)
        return free * x, y.at[a.border].set(own)

    def solve(p: Array, q: Array, c: Array) -> tuple[Array, Array, Array]:
        x, y = once(p, q, c)
        left = jnp.where(free, p + a.adjoint(y) - stiff * x, 0.0)
        more = once(left, jnp.zeros_like(q), c - a.apply(x) + bent * (q - y))
        x, y = x + more[0], y + more[1]
        return x, bent * (q - y), y

    return solve


def _eliminated(a: Rows, stiff: Array, weight: Array) -> Callable[[Array], Array]:
    """Solve (diag(stiff) + A' diag(weight) A) x = right, f64[d + g] or with columns of its own.

    The rows of one excess, weighted and divided by their coefficients, count by their mean and by
    what they differ from it: no difference of large numbers is ever taken.
    """
    d = a.wide.shape[1]
    if not a.excess.shape[1]:
        return _factor(jnp.diag(stiff) + (a.wide * weight[:, None]).T @ a.wide)
    alone = a.coefficient != 0.0
    unit = jnp.where(alone, a.coefficient, 1.0)
    scaled, weight = a.wide / unit[:, None], weight * unit**2
    own = jnp.where(alone, weight, 0.0)
    nothing = jnp.zeros(a.excess.shape[1])
    total = nothing.at[a.lone].add(own)
    pulled = jnp.zeros((len(nothing), d)).at[a.lone].add(own[:, None] * scaled)
    mean = pulled / jnp.where(total > 0.0, total, 1.0)[:, None]
    apart = scaled - jnp.where(alone[:, None], mean[a.lone], 0.0)
    pivot = stiff[d:] + total
    matrix = (apart * weight[:, None]).T @ apart
    matrix = matrix + (mean * (total * stiff[d:] / pivot)[:, None]).T @ mean
    back = _factor(matrix + jnp.diag(stiff[:d]))

    def solve(right: Array) -> Array:
        by = pivot if right.ndim == 1 else pivot[:, None]
        x = back(right[:d] - pulled.T @ (right[d:] / by))
        return jnp.concatenate([x, (right[d:] - pulled @ x) / by])

    return solve
