"""Scaling weights back until a limit on their sum holds.

Every function takes the weights wanted and the weights before, both signed (n,), and returns
weights that keep the limit, or come as near to it as the batch can. First the increases are
scaled back together, each towards its weight before; only if the positions themselves are too
large are they scaled towards zero, and what one trade can't take off a line is taken off the
others. Weights never change side, and lines outside `member` or not `active` never move. A bound of
`NO_LIMIT` does nothing.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from compute.money.margin import need

NO_LIMIT = 1e30
"""Stands for a bound that is not set: finite, so that arithmetic with it stays free of NaN."""

# A sum of thousands of weights carries rounding errors of this order. Aiming below the bound by
# more keeps the exact sum inside it.
SAFETY = 1e-12


def inside(bound: Any, xp: Any = jnp) -> Any:
    """The bound less a margin for rounding errors of sums."""
    return bound - SAFETY * xp.maximum(1.0, xp.abs(bound))


def without_increase(weight: Any, before: Any, xp: Any = jnp) -> Any:
    """The part of `weight` that is not an increase of an existing position on the same side."""
    same_side = weight * before > 0
    held = xp.where(same_side, before, 0.0)
    return xp.where(xp.abs(weight) > xp.abs(held), held, weight)


class TradeMax(NamedTuple):
    """The largest change of each weight upwards and downwards, (n,) each, >= 0."""

    buy: Array
    sell: Array


def trade_cap(weight: Array, before: Array, trade_max: TradeMax) -> Array:
    """`weight` moved no further from `before` than `trade_max`."""
    return before + jnp.clip(weight - before, -trade_max.sell, trade_max.buy)


def _share(room: Any, wanted: Any, xp: Any = jnp) -> Any:
    """The factor in [0, 1] by which `wanted` >= 0 has to be scaled to fit into `room`."""
    fits = wanted <= room
    # Nothing wanted and no room at all: any factor is right, 0/0 is not.
    divisor = xp.where(fits | (wanted <= 0.0), 1.0, wanted)
    return xp.where(fits, 1.0, xp.maximum(room, 0.0) / divisor)


def _part_left(
    base: Array, before: Array, member: Array, room: Array, trade_max: TradeMax
) -> Array:
    """The part s of the sizes of `base` at which sum_i member_i max(s |base_i|, stop_i) = room.

    stop: the smallest size that one trade reaches. What a line can't give up the others do: each
    round leaves out those that are stopped, of which there are only more as s gets smaller, so that
    the rounds end. 0 where all are stopped; exact in no round where none is.
    """
    size, stop = member * jnp.abs(base), member * jnp.abs(trade_cap(0.0 * base, before, trade_max))

    def is_stopped(part: Array) -> Array:
        return stop > part * size

    def again(state: tuple[Array, Array]) -> tuple[Array, Array]:
        stopped = is_stopped(state[0])
        left = room - jnp.sum(jnp.where(stopped, stop, 0.0))
        return _share(left, jnp.sum(jnp.where(stopped, 0.0, size))), stopped

    def goes_on(state: tuple[Array, Array]) -> Array:
        return jnp.any(is_stopped(state[0]) & ~state[1])

    start = _share(room, jnp.sum(size)), jnp.zeros_like(size, dtype=bool)
    return jax.lax.while_loop(goes_on, again, start)[0]


def shrink_gross(
    weight: Array, before: Array, member: Array, other: Array, bound: Array, trade_max: TradeMax
) -> Array:
    """sum_i member_i |w_i| + other <= bound.

    `member` (n,) in {0, 1}; `other` is the gross weight that the batch can't change.
    """
    room = inside(bound) - other
    base = without_increase(weight, before)
    gross_base = jnp.sum(member * jnp.abs(base))
    increase = jnp.sum(member * (jnp.abs(weight) - jnp.abs(base)))
    grown = base + _share(room - gross_base, increase) * (weight - base)
    part = _part_left(base, before, member, room, trade_max)
    shrunk = trade_cap(part * base, before, trade_max)
    projected = jnp.where(gross_base > room, shrunk, grown)
    return jnp.where(member > 0, projected, weight)


def shrink_net(
    weight: Array,
    before: Array,
    member: Array,
    other: Array,
    bound: Array,
    trade_max: TradeMax,
    own: Array,
) -> Array:
    """sum_i member_i w_i + other <= bound.

    First by less buying, then by smaller long positions, in the end by shorts that are kept.
    own: the weights before, brought inside each line's own limits: of those nothing is taken back.
    """
    room = inside(bound) - other
    longer = (weight > 0) & (weight > before)
    base = jnp.where(longer, jnp.maximum(before, 0.0), weight)
    net_base = jnp.sum(member * base)
    increase = jnp.sum(member * (weight - base))
    grown = base + _share(room - net_base, increase) * (weight - base)
    long = jnp.maximum(base, 0.0)
    left = room - (net_base - jnp.sum(member * long))
    part = _part_left(long, jnp.maximum(before, 0.0), member, left, trade_max)
    shrunk = trade_cap(jnp.where(base > 0, part * base, base), before, trade_max)
    covered = jnp.where(before < 0.0, jnp.maximum(shrunk - own, 0.0), 0.0)
    still = jnp.sum(member * (shrunk - covered))
    shrunk = shrunk - (1.0 - _share(room - still, jnp.sum(member * covered))) * covered
    projected = jnp.where(net_base > room, shrunk, grown)
    return jnp.where(member > 0, projected, weight)


def raise_net(
    weight: Array,
    before: Array,
    member: Array,
    other: Array,
    bound: Array,
    trade_max: TradeMax,
    own: Array,
) -> Array:
    """sum_i member_i w_i + other >= bound: `shrink_net` seen from the other side."""
    turned = TradeMax(buy=trade_max.sell, sell=trade_max.buy)
    return -shrink_net(-weight, -before, member, -other, -bound, turned, -own)


def cap_turnover(weight: Any, before: Any, bound: Any, cured: Any = 0.0, xp: Any = jnp) -> Any:
    """sum_i |w_i - before_i| <= bound: first `cured` of each trade, then the rest, scaled alike.

    cured: from `cures`.
    """
    trade, room = weight - before, inside(bound, xp)
    first = xp.sum(cured * xp.ones_like(trade))
    base = before + _share(room, first, xp) * xp.sign(trade) * cured
    return base + _share(room - first, xp.sum(xp.abs(trade) - cured), xp) * (weight - base)


class Sums(NamedTuple):
    """Limits on sums of weights, and how far the book before is beyond each.

    members: (g, n) in {0, 1}. excess: (3, g) of gross, net maximum and net minimum, <= 0 inside.
    """

    members: Any
    excess: Any


def cures(weight: Any, before: Any, box: tuple[Any, Any], sums: Sums, xp: Any = jnp) -> Any:
    """How much of each trade it takes to bring the book before inside its limits, (n,).

    box: least and largest weight of each line, (n,) each. Of a line that is outside its own limits
    it is the way back, of members of an exceeded sum the same part of what each of their trades
    takes off it: all of that where it is too little. From 0 to |weight - before|.
    """
    trade = weight - before
    inward = xp.clip(before, *box) - before
    size = xp.abs(trade)
    own = xp.where(inward * trade > 0.0, xp.minimum(xp.abs(inward), size), 0.0)
    reduced = xp.abs(without_increase(weight, before, xp) - before)
    helps = xp.stack([reduced, xp.maximum(-trade, 0.0), xp.maximum(trade, 0.0)])
    part = part_needed(helps @ sums.members.T, sums.excess, xp)
    of_sums = helps * xp.max(sums.members[None] * part[:, :, None], axis=1)
    return xp.maximum(own, xp.max(of_sums, axis=0))


def part_needed(help: Any, excess: Any, xp: Any = jnp) -> Any:
    """The part of what trades take off an excess that makes it good: 1 where all is too little."""
    enough = xp.minimum(excess / xp.where(help > 0.0, help, 1.0), 1.0)
    return xp.where((excess > 0.0) & (help > 0.0), enough, 0.0)


class Trades(NamedTuple):
    """What trades cost and where reserved ones may lead, (n,) each; see `compute.money.margin`."""

    low: Array
    high: Array
    rate_long: Array
    rate_short: Array
    fee: Array


def fit_free(weight: Array, before: Array, free: Array, trades: Trades, at_once: Array) -> Array:
    """Scales the increases until margin and fees fit into `free`; reductions go through.

    What is needed is convex in the trades, so a part of it found on the chord is enough.
    """
    base = without_increase(weight, before)

    def needed(weight: Array) -> Array:
        return jnp.sum(need(weight - before, *trades, at_once, jnp))

    least = needed(base)
    return base + _share(inside(free) - least, needed(weight) - least) * (weight - base)
