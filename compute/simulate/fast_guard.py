"""The check of whole lots in the fast mode of backtests: limits on sums, as `limits/guard.py` has.

Rules are in the order of that guard: gross, net minimum and net maximum of each sum, turnover,
cash, then rows of the whole book. What a book was beyond before it may stay beyond, not more so.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from compute.limits.guard import REACHED, ROUNDING
from compute.limits.projection import Trades
from compute.money.margin import need
from compute.simulate.fast_decision import Bounds, Features


class Sums(NamedTuple):
    """Limits on sums of weights: members (k, m) with bounds (k,), rows (r, m) with bounds (r,)."""

    member: Array
    gross_max: Array
    net_min: Array
    net_max: Array
    row: Array
    row_max: Array
    turnover_max: Array
    trades: Trades
    free: Array
    at_once: Array


def sums_of(
    sums: list[tuple[Array, Array, Array, Array]],
    rows: tuple[Array, Array],
    trades: Trades,
    free: Array,
    own: Bounds,
) -> Sums:
    """sums: members, gross maximum, net minimum and net maximum of each. rows: of the book."""
    m = trades.low.shape[0]
    members, *bounds = zip(*sums, strict=True) if sums else ((), (), (), ())
    gross_max, net_min, net_max = (jnp.asarray(bound, dtype=free.dtype) for bound in bounds)
    return Sums(
        jnp.stack(members) if members else jnp.zeros((0, m)),
        gross_max,
        net_min,
        net_max,
        rows[0].reshape(-1, m),
        rows[1],
        own.turnover_max,
        trades,
        free,
        own.at_once > 0.0,
    )


def _nets(sums: Sums, weight: Array) -> tuple[Array, Array]:
    """Signed nets and their bounds, (2 k,), the minimum of each sum before its maximum."""
    net = sums.member @ weight
    value = jnp.stack([-net, net], axis=1).ravel()
    return value, jnp.stack([-sums.net_min, sums.net_max], axis=1).ravel()


def reached(sums: Sums, before: Array, trade: Array) -> Array:
    """Nets, then rows, that a book is beyond and that trades (m,) bring inside, (2 k + r,)."""
    then, bound = _nets(sums, before)
    now, _ = _nets(sums, before + trade)
    size = jnp.repeat(sums.member @ jnp.abs(before), 2) + jnp.sum(jnp.abs(trade))
    meant = jnp.maximum(ROUNDING * size, REACHED)
    nets = (then > bound + ROUNDING * size) & (now <= bound + meant)
    rows = (sums.row @ before > sums.row_max) & (
        sums.row @ (before + trade) <= sums.row_max + REACHED
    )
    return jnp.concatenate([nets, rows])


def excess_of(
    trade: Array, before: Array, sums: Sums, strict: Array, features: Features
) -> tuple[Array, Array]:
    """By how much each rule is exceeded after trades (m,) in weights, and whether it is broken.

    strict: rules of `reached` that hold though the book was beyond them.
    """
    after, moved = before + trade, jnp.abs(trade)
    size, grown = jnp.abs(before), jnp.abs(after) - jnp.abs(before)
    total, change = sums.member @ size, sums.member @ grown
    scale = jnp.maximum(total, sums.member @ moved)
    gross = jnp.where(change > ROUNDING * scale, total + change - sums.gross_max, -1.0)
    off = [ROUNDING * jnp.abs(sums.gross_max)]
    value, bound = _nets(sums, after)
    count = len(value)
    most = jnp.where(strict[:count], bound, jnp.maximum(bound, _nets(sums, before)[0]))
    off.append(ROUNDING * jnp.maximum(jnp.abs(most), jnp.repeat(total, 2) + jnp.sum(moved)))
    parts = [gross, value - most]
    if features.turnover:
        parts.append((jnp.sum(moved) - sums.turnover_max)[None])
        off.append(ROUNDING * sums.turnover_max[None])
    t = sums.trades
    needs = need(trade, *t, sums.at_once, jnp)
    bound_before = need(before, 0.0, 0.0, t.rate_long, t.rate_short, 0.0, True, jnp)
    binds = jnp.any(needs - t.fee * moved > ROUNDING * (bound_before + moved))
    parts.append(jnp.where(binds, jnp.sum(needs) - sums.free, -1.0)[None])
    off.append(ROUNDING * (1.0 + jnp.sum(bound_before))[None])
    if features.n_rows:
        room = jnp.maximum(sums.row_max, sums.row @ before)
        room = jnp.where(strict[count:], sums.row_max, room)
        parts.append(sums.row @ after - room)
        off.append(ROUNDING * jnp.maximum(jnp.abs(room), jnp.abs(sums.row) @ jnp.abs(after)))
    excess = jnp.concatenate(parts)
    return excess, excess > jnp.concatenate(off)


def slopes_of(trade: Array, before: Array, sums: Sums, features: Features) -> Array:
    """The slope of each rule by each weight, a row a rule."""
    after, sign = before + trade, jnp.sign(trade)
    nets = jnp.stack([-sums.member, sums.member], axis=1).reshape(-1, len(trade))
    parts = [sums.member * jnp.sign(after)[None], nets]
    if features.turnover:
        parts.append(sign[None])
    parts.append(jnp.where(jnp.abs(after) > jnp.abs(before), sign, 0.0)[None])
    if features.n_rows:
        parts.append(sums.row)
    return jnp.concatenate(parts)
