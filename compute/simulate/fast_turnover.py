"""Whole lots within a turnover in the fast mode of backtests: `limits/turnover_lots.py` in arrays.

What limits need goes first, then the other reductions, the smallest first.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from compute.limits.turnover_lots import ROUNDING

STEPS_MAX = 1000
"""Steps in which lots are handed out, for safety: a few a line in practice."""


class _Handed(NamedTuple):
    """Lots, of them those that no limit needs, and where the lots are to go; (m,) each."""

    step: Array
    lots: Array
    spare: Array
    goal: Array


def within_turnover(
    down: Array, safe: Array, needed: Array, lot_weight: Array, turnover_max: Array
) -> Array:
    """See `turnover_lots.within_turnover`; (m,) each, a line that isn't sized has no lots."""
    most = turnover_max * (1.0 + ROUNDING)
    per_lot = jnp.where(lot_weight > 0.0, lot_weight, 1.0)
    order = jnp.argsort(lot_weight, stable=True)
    same = jnp.sign(down) == jnp.sign(needed)
    spare = jnp.maximum(jnp.abs(down) - jnp.where(same, jnp.abs(needed), 0.0), 0.0)

    def missing(state: _Handed) -> Array:
        return (jnp.abs(state.goal) - jnp.abs(state.lots)) * lot_weight

    def goes_on(state: _Handed) -> Array:
        return jnp.any(missing(state) > 0.0) & (state.step < STEPS_MAX)

    def given_back(spare: Array, over: Array) -> Array:
        """As many of `spare` as weigh `over`, the smallest lots first."""
        weighs = (spare * lot_weight)[order]
        earlier = jnp.zeros_like(spare).at[order].set(jnp.cumsum(weighs) - weighs)
        return jnp.clip(jnp.ceil((over - earlier) / per_lot), 0.0, spare)

    def step(state: _Handed) -> _Handed:
        lacks = missing(state)
        line, lacking = jnp.argmax(lacks), jnp.sum(lacks > 0.0)
        mine = jnp.arange(len(lacks)) == line
        room = most - jnp.abs(state.lots) @ lot_weight + state.spare @ lot_weight
        # Alike, but not lot by lot: a part of the room each, at least a lot.
        share = jnp.maximum(jnp.floor(room / per_lot[line] / lacking), 1.0)
        count = jnp.minimum(share, jnp.abs(state.goal[line] - state.lots[line]))
        fits = count * lot_weight[line] <= room
        lots = state.lots + jnp.where(mine, jnp.sign(state.goal) * count, 0.0)
        back = given_back(state.spare, jnp.abs(lots) @ lot_weight - most)
        has_all = jnp.abs(state.goal) <= jnp.abs(lots)
        lots = lots - jnp.sign(lots) * back
        # What is given back is not asked for again: two lines would hand it round for ever.
        goal = jnp.where((back > 0.0) & has_all, lots, state.goal)
        return _Handed(
            state.step + 1,
            jnp.where(fits, lots, state.lots),
            jnp.where(fits, state.spare - back, state.spare),
            jnp.where(fits, goal, jnp.where(mine, state.lots, state.goal)),
        )

    goal = jnp.where(jnp.abs(needed) > jnp.abs(down), needed, down)
    start = _Handed(jnp.asarray(0), down, spare, goal)
    lots = jax.lax.while_loop(goes_on, step, start).lots
    extra = (jnp.abs(safe) - jnp.abs(lots)) * lot_weight
    extra = jnp.where(extra > 0.0, extra, jnp.inf)
    order = jnp.argsort(extra, stable=True)
    sums = jnp.abs(lots) @ lot_weight + jnp.cumsum(extra[order])
    return jnp.where(jnp.zeros(len(lots), bool).at[order].set(sums <= most), safe, lots)
