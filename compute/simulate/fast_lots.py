"""Whole lots of the fast mode of backtests: what `limits/lots.py` does, in arrays of one setting.

Positions are rounded towards zero, turnover is shared out in lots, trades too small are dropped;
where that breaks a limit on a sum, single lots are taken back, or all trades alike.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from compute.limits.lots import PARTS
from compute.limits.repair import STEPS_MAX
from compute.limits.rounded_lots import NEAR_BOUND, NEAR_LOT, NEAR_SIZE_MAX
from compute.simulate.fast_decision import Bounds, Features
from compute.simulate.fast_guard import Sums, excess_of, reached, slopes_of
from compute.simulate.fast_turnover import within_turnover
from compute.waterfall.stages import GRID


class Line(NamedTuple):
    """What is traded, (m,) each: weights before, units held, a lot in weights, who is sized."""

    before: Array
    held: Array
    lot_weight: Array
    active: Array


class _Rounded(NamedTuple):
    """See `rounded_lots.Rounded`; (m,) each."""

    exact: Array
    safe: Array
    down: Array
    near: Array
    increase: Array


def whole_lots(
    weight: Array,
    line: Line,
    most: Array,
    needed: Array,
    least: Array,
    sums: Sums,
    own: Bounds,
    features: Features,
) -> Array:
    """Whole lots to trade towards `weight`, signed, (m,).

    most: the largest change of each weight. needed: the part of each trade that brings the book
    inside limits, signed weights. least: the smallest change of a weight worth a trade.
    """
    found = _rounded(weight, line, most, own, features)
    if features.trade_min or features.turnover:
        needed = _whole_needed(needed, line)
        largest = _largest(most, line)
        needed = jnp.clip(needed, -largest, largest)
    if features.turnover:
        found = _turned(found, needed, line, own)
    if features.trade_min:
        found = _worth_it(found, needed, least, line, sums, own)
    return _inside(found, least, line, sums, own, features)


def _rounded(weight: Array, line: Line, most: Array, own: Bounds, features: Features) -> _Rounded:
    before, held, lot_weight = line.before, line.held, line.lot_weight
    known = (line.active > 0.0) & (lot_weight > 0.0)
    per_lot = jnp.where(known, lot_weight, 1.0)
    weight = jnp.where(jnp.abs(weight - before) <= 1.0 / GRID, before, weight)
    exact = jnp.where(known, (weight - before) / per_lot, 0.0)
    nearest = jnp.round(exact)
    rounding = NEAR_LOT * jnp.clip(jnp.abs(exact), 1.0, NEAR_SIZE_MAX)
    near = jnp.abs(exact - nearest) <= jnp.maximum(rounding, _grid_slack(per_lot))
    long = (weight > 0.0) | ((weight == 0.0) & (before > 0.0))
    safe = jnp.where(near, nearest, jnp.where(long, jnp.floor(exact), jnp.ceil(exact)))
    if features.split:  # only odd lots can be crossed
        after, wanted = held + safe * own.lot_size, weight * own.lot_size / per_lot
        crossed = jnp.where(long, after < 0.0, after > 0.0) & ~near
        closer = safe + jnp.where(long, 1.0, -1.0)
        beyond = jnp.abs(held + closer * own.lot_size) > jnp.abs(wanted)
        back = jnp.where(beyond & (wanted * held < 0.0), jnp.trunc(exact), closer)
        safe = jnp.where(crossed, back, safe)
    down = jnp.trunc(exact)
    if features.liquidity:  # a position rounded towards zero is sold by a larger trade
        largest = _largest(most, line)
        down = jnp.clip(down, -largest, largest)
        safe = jnp.where(jnp.abs(safe) > largest, down, safe)
    increase = _increases(safe, line, own)
    return _Rounded(exact, safe, jnp.where(increase, safe, down), near, increase)


def _largest(most: Array, line: Line) -> Array:
    known = line.lot_weight > 0.0
    lots = jnp.floor(most / jnp.where(known, line.lot_weight, 1.0) * (1.0 + NEAR_BOUND))
    return jnp.where(known, lots, 0.0)


def _increases(lots: Array, line: Line, own: Bounds) -> Array:
    return jnp.abs(line.held + lots * own.lot_size) > jnp.abs(line.held)


def _grid_slack(lot_weight: Array) -> Array:
    return jnp.minimum(1.0 / GRID / lot_weight, NEAR_LOT * NEAR_SIZE_MAX)


def _whole_needed(needed: Array, line: Line) -> Array:
    """See `turnover_lots.whole_needed`."""
    known = line.lot_weight > 0.0
    per_lot = jnp.where(known, line.lot_weight, 1.0)
    exact, held = jnp.abs(needed) / per_lot, jnp.abs(line.before) / per_lot
    slack = jnp.maximum(_grid_slack(per_lot), NEAR_LOT * jnp.maximum(exact, 1.0))
    up = jnp.minimum(jnp.ceil(exact - slack), jnp.floor(held + slack))
    whole = jnp.where(needed * line.before < 0.0, up, jnp.floor(exact + slack))
    return jnp.where(known & (needed != 0.0), jnp.sign(needed) * whole, 0.0)


def _turned(found: _Rounded, needed: Array, line: Line, own: Bounds) -> _Rounded:
    """Within turnover, and as near to what limits ask for as it leads."""
    most, size = own.turnover_max, jnp.abs(found.safe)
    keeps = (size @ line.lot_weight <= most) & ~jnp.any(jnp.abs(needed) > size)
    down = jnp.where(found.near & ~found.increase, jnp.round(found.exact), found.down)
    down = jnp.where(jnp.abs(down) @ line.lot_weight > most, found.down, down)
    # Where turnover holds nothing is missing, and nothing goes round.
    needed = jnp.where(keeps, 0.0, needed)
    lots = within_turnover(down, found.safe, needed, line.lot_weight, most)
    lots = jnp.where(keeps, found.safe, lots)
    down = jnp.where(keeps, found.down, lots)
    return found._replace(safe=lots, down=down, increase=_increases(lots, line, own))


def _worth_it(
    found: _Rounded, needed: Array, least: Array, line: Line, sums: Sums, own: Bounds
) -> _Rounded:
    """Without reductions that limits made too small, but what closes or a limit asks for."""
    after = jnp.abs(line.held + found.safe * own.lot_size)
    closes = (after < (1.0 - NEAR_LOT) * own.lot_size) & (after < jnp.abs(line.held))
    small = _too_small(found.safe, least, line) & ~found.increase & ~closes & (needed == 0.0)
    small &= sums.free >= 0.0
    safe, down = jnp.where(small, 0.0, found.safe), jnp.where(small, 0.0, found.down)
    return found._replace(safe=safe, down=down)


def _too_small(lots: Array, least: Array, line: Line) -> Array:
    return (jnp.abs(lots) * line.lot_weight < least) & (lots != 0.0)


class _Tried(NamedTuple):
    """attempt: -1 with nets that are reached, then by parts. steps: lots taken back in it."""

    attempt: Array
    steps: Array
    lots: Array
    is_done: Array


def _inside(
    found: _Rounded, least: Array, line: Line, sums: Sums, own: Bounds, features: Features
) -> Array:
    """Lots that break no limit on a sum, near the rounded ones; see `lots._Search`."""
    strict = reached(sums, line.before, found.exact * line.lot_weight)
    attempts, parts = 2 * len(PARTS), jnp.asarray(PARTS)

    def start(attempt: Array) -> Array:
        """The trades of an attempt: parts of the increases, then of all trades, then none."""
        of_all = attempt >= len(PARTS)
        part = parts[jnp.maximum(attempt, 0) % len(PARTS)]
        trade = jnp.where(of_all, found.down, found.safe)
        scaled = of_all | found.increase
        kept = jnp.where(scaled & (part < 1.0), jnp.trunc(part * trade), trade)
        if features.trade_min:
            kept = jnp.where(found.increase & _too_small(kept, least, line), 0.0, kept)
        return jnp.where(attempt < attempts, kept, 0.0)

    def broken(lots: Array, attempt: Array) -> tuple[Array, Array]:
        is_strict = strict & (attempt < 0)
        return excess_of(lots * line.lot_weight, line.before, sums, is_strict, features)

    def goes_on(state: _Tried) -> Array:
        return ~state.is_done

    def again(state: _Tried) -> _Tried:
        excess, is_broken = broken(state.lots, state.attempt)
        first = jnp.argmax(is_broken)
        slope = slopes_of(state.lots * line.lot_weight, line.before, sums, features)[first]
        back = _taken_back(state.lots, slope, excess[first], line)
        lots = state.lots - jnp.sign(state.lots) * back
        if features.trade_min:
            small = _too_small(lots, least, line) & found.increase & (back > 0.0)
            lots = jnp.where(small, 0.0, lots)
        repairs = (state.attempt <= 0) | (state.attempt == len(PARTS))
        repairs &= (state.steps < STEPS_MAX) & jnp.any(back > 0.0)
        attempt = jnp.where(repairs, state.attempt, state.attempt + 1)
        lots = jnp.where(repairs, lots, start(attempt))
        is_done = ~jnp.any(is_broken)
        return _Tried(
            attempt=attempt,
            steps=jnp.where(repairs, state.steps + 1, 0),
            lots=jnp.where(is_done, state.lots, lots),
            is_done=is_done | (attempt >= attempts),
        )

    at = jnp.where(jnp.any(strict), -1, 0)
    lots = start(at)
    known = ~jnp.any(broken(lots, at)[1])
    return jax.lax.while_loop(goes_on, again, _Tried(at, jnp.asarray(0), lots, known)).lots


def _taken_back(lots: Array, slope: Array, excess: Array, line: Line) -> Array:
    """Lots to take back of the one line that mends an excess at the least loss, (m,)."""
    gain = slope * jnp.sign(lots) * line.lot_weight  # of one lot taken back
    usable, excess = gain > 0.0, jnp.maximum(excess, 1e-300)
    gain = jnp.where(usable, gain, 1.0)
    count = jnp.minimum(jnp.maximum(jnp.ceil(excess / gain), 1.0), jnp.abs(lots))
    # A step back too far is a step to take again on another line: rather one lot less.
    count = jnp.where((count > 1.0) & (count * gain > 1.5 * excess), count - 1.0, count)
    loss = count * line.lot_weight / jnp.minimum(count * gain, excess)
    best = jnp.argmin(jnp.where(usable, loss, jnp.inf))
    return jnp.where((jnp.arange(len(lots)) == best) & usable, count, 0.0)
