"""Linear limits of the whole book in the fast mode: what `limits/book_stage.py` does with them.

    a_j'w <= b_j      losses in stress scenarios among them

The nearest weights that keep all rows are w(y) = clip(wanted - A'y, low, high), with prices y >= 0
of the rows, which maximise |w(y) - wanted|^2 / 2 + y'(A w(y) - b): row by row (Hildreth 1957), as
each is monotone in its own price, and by Newton's steps between where these lead higher.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from compute.limits.book_stage import PRICE_MAX, SLACK
from compute.limits.projection import part_needed, without_increase

SWEEPS = 200
"""Over all rows, at most; one is enough for one row."""
RIDGE = 1e-13
"""Of rows that say the same: a step is then not unique."""
HALVINGS = 60
SETTLED = 1e-13
"""Where no price moves further in a sweep, in weights. Prices may still trade places while lines at
the ends of their boxes keep every weight where it is."""
Excess = Callable[[Array], Array]


class Rows(NamedTuple):
    """Coefficients (k, m), and bounds (k,); NO_LIMIT where a setting has fewer rows."""

    coefficient: Array
    bound: Array

    def excess(self, weight: Array) -> Array:
        """How far weights (m,) are beyond each row, (k,)."""
        return self.coefficient @ weight - self.bound


def nearest(wanted: Array, low: Array, high: Array, rows: Rows) -> Array:
    """The weights nearest to `wanted` in the box that keep the rows, or miss them least, (m,)."""
    norm = jnp.sqrt(jnp.sum(rows.coefficient**2, axis=1))
    norm = jnp.where(norm > 1e-100, norm, 1.0)  # no instrument moves the row: nothing to scale
    a, b = rows.coefficient / norm[:, None], rows.bound / norm

    def moved(price: Array) -> Array:
        return jnp.clip(wanted - price @ a, low, high)

    def dual(price: Array) -> Array:
        to = moved(price)
        return 0.5 * jnp.sum((to - wanted) ** 2) + price @ (a @ to - b)

    def newton(price: Array) -> Array:
        """The step for the rows with a price and the lines between their ends."""
        to, held = moved(price), price > 0.0
        free = (to > low) & (to < high)
        inner = jnp.where(jnp.outer(held, held), (a * free[None]) @ a.T, 0.0)
        inner += jnp.diag(jnp.where(held, RIDGE, 1.0))
        step = jnp.linalg.solve(inner, jnp.where(held, a @ to - b, 0.0))
        other = jnp.clip(price + step, 0.0, PRICE_MAX)
        return jnp.where(dual(other) > dual(price), other, price)

    def sweep(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        number, before, _ = state
        price = before
        for j in range(len(b)):
            others = wanted - price @ a + price[j] * a[j]
            price = price.at[j].set(_price(others, low, high, a[j], b[j]))
        price = newton(price) if len(b) > 1 else price
        return number + 1, price, jnp.max(jnp.abs(price - before) / jnp.maximum(1.0, price))

    def goes_on(state: tuple[Array, Array, Array]) -> Array:
        return (state[0] < SWEEPS) & (state[2] > SETTLED)

    is_beyond = jnp.any(a @ moved(jnp.zeros_like(b)) > b)
    start = (jnp.asarray(0), jnp.zeros_like(b), jnp.where(is_beyond, jnp.inf, 0.0))
    return moved(jax.lax.while_loop(goes_on, sweep, start)[1])


def _price(at: Array, low: Array, high: Array, a: Array, b: Array) -> Array:
    """The least price of one row that keeps it; past the largest that moves a line none does."""
    end = jnp.where(a > 0.0, low, high)
    steps = jnp.where(a != 0.0, (at - end) / jnp.where(a != 0.0, a, 1.0), 0.0)
    most = jnp.clip(jnp.max(steps), 0.0, PRICE_MAX)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        less, more = ends
        middle = 0.5 * (less + more)
        keeps = a @ jnp.clip(at - middle * a, low, high) <= b
        return jnp.where(keeps, less, middle), jnp.where(keeps, middle, more)

    _, found = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros(()), most))
    return jnp.where(a @ jnp.clip(at, low, high) <= b, 0.0, found)


def kept(wanted: Array, active: Array, ends: tuple[Array, ...], rows: Rows) -> Array:
    """The nearest weights that keep the rows, by trades as far as the first of `ends` that does.

    ends: where lines may go back to, each further than the one before it, (m,).
    """
    weight = wanted
    for end in ends:
        end = jnp.where(active > 0.0, end, wanted)
        box = jnp.minimum(end, wanted), jnp.maximum(end, wanted)
        is_beyond = jnp.any(rows.excess(weight) > SLACK)
        weight = jnp.where(is_beyond, nearest(wanted, *box, rows), weight)
    return weight


def ends_of(
    wanted: Array, before: Array, leads_back: Array, trade_max: Array
) -> tuple[Array, Array, Array]:
    """Back without increases but those that lead a net back, without any, and as far as can be."""
    base = without_increase(wanted, before)
    smallest = jnp.clip(0.0, before - trade_max, before + trade_max)
    return jnp.where(leads_back, wanted, base), base, smallest


def row_cures(weight: Array, before: Array, rows: Rows) -> Array:
    """How much of each trade brings the book before inside the rows that it is beyond, (m,)."""
    trade, over = weight - before, rows.excess(before)
    over = jnp.where(over > SLACK, over, 0.0)
    help = jnp.maximum(-rows.coefficient * trade[None], 0.0)
    part = part_needed(jnp.sum(help, axis=1), over)
    return jnp.max(jnp.where(help > 0.0, part[:, None] * jnp.abs(trade)[None], 0.0), axis=0)


def reconciled(weight: Array, before: Array, excess: Excess, steps: int, slack: float) -> Array:
    """The largest part of all trades that exceeds no limit by more than before.

    excess: of every limit at weights (m,), above 0 where it is exceeded.
    """
    allowed = jnp.maximum(excess(before), 0.0) + slack

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        good = jnp.all(excess(before + middle * (weight - before)) <= allowed)
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    low, _ = jax.lax.fori_loop(0, steps, halve, (jnp.zeros(()), jnp.ones(())))
    holds = jnp.all(excess(weight) <= allowed)
    return jnp.where(holds, weight, before + low * (weight - before))
