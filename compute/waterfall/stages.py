"""From signals to weights inside every limit: the pipeline, and where to start reading.

    edge -> Kelly -> cost -> confidence -> worst case -> fraction -> correlation -> what is held
         -> volatility, stop and risk budget -> part of the way
         -> permissions -> instrument, liquidity, group, exposure, shared, turnover, cash
         -> limits of the whole book (`limits/book_stage.py`)
         -> whole lots (`limits/lots.py`) -> independent check (`limits/guard.py`)

`waterfall` is the whole of it in one pure function, compiled by JAX for each bucket of shapes; it
returns the weight of every line after every stage. Stages are in `stake_rules.py`, the scaling that
makes room under a limit is in `limits/projection.py`, and the rows of the arrays are named in
`layout.py`.

The limits are applied one after another: a stage only takes trades back towards the weight before
or positions towards zero. What brings a book inside that is beyond a limit goes first: turnover
takes back other trades before it (`projection.cures`). Turnover and cash may still take back what
would have brought a book inside that is beyond a net limit, such as hedges: then RECONCILE goes
through the limits on sums, turnover and cash again, a few rounds. Where limits pull in opposite
directions (a net minimum and a gross maximum), it takes all trades back together, which is right
because every limit is convex and holds, or is no worse, at the weights before.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from compute.limits import projection
from compute.limits.projection import NO_LIMIT
from compute.waterfall import stake_rules
from compute.waterfall.layout import COMPILED_STAGES, Exposure, Line, Scalar, Stage

GRID = 2.0**40
"""Weights in the waterfall are multiples of 1/GRID: sums and differences of them are exact."""

RECONCILE_STEPS = 48

ROUNDS = 4
"""Times that limits on sums, turnover and cash are gone through again while a net that was beyond
its limit still is.

The second round usually ends it: less is bought, which no cash stands against. With a turnover
limit each round gives up some more of the trades that don't help.
"""


def snap(weight: Array) -> Array:
    """`weight` rounded to the grid of the waterfall."""
    return jnp.round(weight * GRID) / GRID


def waterfall(lines: Array, scalars: Array, members: Array, bounds: Array) -> Array:
    """The weight of each line after each stage, and what explains it.

    lines: f64[len(Line), n], scalars: f64[len(Scalar)], members: f64[g, n] in {0, 1},
    bounds: f64[len(Exposure), g]. Returns f64[len(COMPILED_STAGES) + len(Extra), n].
    Padding lines have ACTIVE 0 and weight 0 throughout; padding bounds are `NO_LIMIT`.
    NaN doesn't occur in valid input (`signals.py`).
    """
    active = lines[Line.ACTIVE] > 0.0
    before = lines[Line.WEIGHT_BEFORE]
    stakes, interval = _stakes(lines, scalars)
    weights = {stage: jnp.where(active, weight, before) for stage, weight in stakes.items()}
    limited, cut = _limited(weights[Stage.TRADE_RATE], lines, scalars, members, bounds)
    weights |= limited
    rows = [snap(weights[stage]) for stage in COMPILED_STAGES]
    low, high = (jnp.where(active, end, 0.0) for end in interval)
    return jnp.stack([*rows, low, high, *cut])


def _stakes(lines: Array, scalars: Array) -> tuple[dict[Stage, Array], tuple[Array, Array]]:
    """Signed weights after each stage up to the risk rules, and the interval of the stake."""
    side = lines[Line.SIDE]
    fraction = scalars[Scalar.KELLY_FRACTION]
    raw = stake_rules.bounded(stake_rules.raw_kelly(lines, scalars))
    # Finite, so that an error without bound doesn't end in NaN.
    unbounded = jnp.clip(stake_rules.kelly_after_cost(lines, scalars), -NO_LIMIT, NO_LIMIT)
    stake = net = stake_rules.bounded(unbounded)
    signed = {Stage.RAW_KELLY: side * raw, Stage.COST: side * net}
    for rule in stake_rules.RULES:
        stake = rule.apply(stake, stake_rules.Batch(lines, scalars, net))
        signed[rule.stage] = side * stake
    joint = jnp.where(scalars[Scalar.USE_TARGET] == 1.0, lines[Line.TARGET], side * stake)
    signed[Stage.JOINT_OPTIMUM] = joint
    before, aim = lines[Line.WEIGHT_BEFORE], lines[Line.AIM] * joint
    slow = (scalars[Scalar.TRADE_RATE] < 1.0) | (lines[Line.AIM] < 1.0)
    part = before + scalars[Scalar.TRADE_RATE] * (aim - before)
    signed[Stage.TRADE_RATE] = jnp.where(slow, part, joint)
    width = scalars[Scalar.INTERVAL_DEVIATIONS] * stake_rules.stake_error(net, lines, scalars)
    ends = (
        side * fraction * stake_rules.bounded(unbounded - width),
        side * fraction * stake_rules.bounded(unbounded + width),
    )
    return signed, (jnp.minimum(*ends), jnp.maximum(*ends))


def _limited(
    weight: Array, lines: Array, scalars: Array, members: Array, bounds: Array
) -> tuple[dict[Stage, Array], tuple[Array, Array]]:
    """Signed weights after each limit stage, and which exposure bound cut each line last."""
    before, active = lines[Line.WEIGHT_BEFORE], lines[Line.ACTIVE]
    members = members * active[None, :]
    bounds = jnp.where(scalars[Scalar.USE_TARGET] == 1.0, _with_rounding(bounds), bounds)
    out: dict[Stage, Array] = {}

    def keep(stage: Stage, wanted: Array) -> Array:
        out[stage] = jnp.where(active > 0.0, wanted, before)
        return out[stage]

    weight = keep(Stage.PERMISSION, stake_rules.permitted(weight, lines, scalars))
    # What closes a position is never too small: dust would stay for ever. It closes where less than
    # a lot is to be left.
    size, lot = jnp.abs(weight), lines[Line.LOT]
    closes = (weight == 0.0) | ((size < lot) & (size < jnp.abs(before)))
    small = (jnp.abs(weight - before) < scalars[Scalar.TRADE_MIN]) & ~closes
    weight = keep(Stage.MINIMUM_TRADE, jnp.where(small, before, weight))
    weight = keep(
        Stage.INSTRUMENT_LIMIT, jnp.clip(weight, lines[Line.WEIGHT_MIN], lines[Line.WEIGHT_MAX])
    )
    weight = jnp.clip(weight, lines[Line.ADV_WEIGHT_MIN], lines[Line.ADV_WEIGHT_MAX])
    weight = keep(Stage.LIQUIDITY, projection.trade_cap(weight, before, _trade_max(lines)))
    free, at_once = scalars[Scalar.FREE], scalars[Scalar.SALES_AT_ONCE] > 0.0
    box, sums = _box(lines, scalars), projection.Sums(members, _excess(before, members, bounds))
    is_beyond = jnp.any(sums.excess > 0.0) | jnp.any(before != jnp.clip(before, *box))

    def cured(weight: Array) -> Array:
        """How much of each trade brings a book inside that is beyond a limit."""
        return jax.lax.cond(
            is_beyond,
            lambda: projection.cures(weight, before, box, sums),
            lambda: jnp.zeros_like(weight),
        )

    def one_round(weight: Array) -> tuple[_Exposed, Array, Array]:
        """After the limits on sums, after turnover and after cash."""
        exposed = _exposures(weight, lines, members, bounds, jnp.clip(before, *box))
        bound, first = scalars[Scalar.TURNOVER_MAX], cured(exposed.weight)
        turned = projection.cap_turnover(exposed.weight, before, bound, first)
        turned = jnp.where(active > 0.0, turned, before)
        paid = projection.fit_free(turned, before, free, _trades(lines), at_once)
        return exposed, turned, jnp.where(active > 0.0, paid, before)

    def again(state: _Rounds) -> _Rounds:
        exposed, turned, weight = one_round(state.weight)
        is_first = state.number == 0
        first = jax.tree.map(
            lambda new, old: jnp.where(is_first, new, old),
            (exposed, turned, weight),
            (state.exposed, state.turned, state.paid),
        )
        return _Rounds(state.number + 1, weight, *first)

    beyond = _net_excess(before, members, bounds) > 0.0

    def is_missed(state: _Rounds) -> Array:
        missed = jnp.any(beyond & (_net_excess(state.weight, members, bounds) > 0.0))
        return (state.number == 0) | (missed & (state.number <= ROUNDS))

    # One loop, so that the program holds the limits once.
    start = _Rounds(jnp.asarray(0), weight, _unexposed(weight), weight, weight)
    last = jax.lax.while_loop(is_missed, again, start)
    out[Stage.GROUP_LIMIT] = last.exposed.after_groups
    out[Stage.EXPOSURE_LIMIT] = last.exposed.after_portfolio
    out[Stage.SHARED_LIMIT] = last.exposed.weight
    out[Stage.TURNOVER_LIMIT], out[Stage.CASH] = last.turned, last.paid
    out[Stage.RECONCILE] = _reconciled(last.weight, before, members, bounds)
    return out, (last.exposed.cut, last.exposed.cut_kind)


def _with_rounding(bounds: Array) -> Array:
    """Bounds that are wider by what `projection.inside` keeps off them.

    What is aimed at meets its limits but for rounding. Cut for that, a sum that may go neither way
    would miss its other end, and all trades be taken back.
    """
    for row, sign in ((Exposure.GROSS_MAX, 1), (Exposure.NET_MAX, 1), (Exposure.NET_MIN, -1)):
        off = projection.SAFETY * jnp.maximum(1.0, jnp.abs(bounds[row]))
        bounds = bounds.at[row].add(sign * off)
    return bounds


def _box(lines: Array, scalars: Array) -> tuple[Array, Array]:
    """Least and largest weight that each line may have by itself."""
    low = jnp.maximum(lines[Line.WEIGHT_MIN], lines[Line.ADV_WEIGHT_MIN])
    high = jnp.minimum(lines[Line.WEIGHT_MAX], lines[Line.ADV_WEIGHT_MAX])
    covered = jnp.maximum(low, jnp.minimum(lines[Line.STAYS], 0.0))
    low = jnp.where(scalars[Scalar.ALLOW_SHORT] > 0.0, low, covered)
    # Where reserved trades make the ends cross, it is what lies between: the same of either side.
    return jnp.minimum(low, high), jnp.maximum(low, high)


def _trade_max(lines: Array) -> projection.TradeMax:
    return projection.TradeMax(buy=lines[Line.BUY_MAX], sell=lines[Line.SELL_MAX])


def _trades(lines: Array) -> projection.Trades:
    before = lines[Line.WEIGHT_BEFORE]
    return projection.Trades(
        low=before - lines[Line.OPEN_BUY],
        high=before + lines[Line.OPEN_SELL],
        rate_long=lines[Line.RATE_LONG],
        rate_short=lines[Line.RATE_SHORT],
        fee=lines[Line.FEE],
    )


class _Exposed(NamedTuple):
    """Weights while the bounds on their sums are applied one after another, (n,) each."""

    weight: Array
    cut: Array
    cut_kind: Array
    after_groups: Array
    after_portfolio: Array


def _unexposed(weight: Array) -> _Exposed:
    """Weights before any bound: no line is cut."""
    return _Exposed(weight, jnp.full_like(weight, -1.0), jnp.zeros_like(weight), weight, weight)


class _Rounds(NamedTuple):
    """`weight` after `number` rounds, and the stages of the first one."""

    number: Array
    weight: Array
    exposed: _Exposed
    turned: Array
    paid: Array


def _exposures(weight: Array, lines: Array, members: Array, bounds: Array, own: Array) -> _Exposed:
    """Applies each column of `bounds` in turn: gross, net maximum, net minimum.

    own: the weights before, inside each line's own limits. The last column is what is shared, the
    one before it the portfolio. One loop body for all of them keeps the program small; a bound that
    holds costs two dot products.
    """
    before, trade_max = lines[Line.WEIGHT_BEFORE], _trade_max(lines)
    n_bounds = members.shape[0]

    def project(state: _Exposed, index: Array, member: Array, bound: Array) -> _Exposed:
        weight, cut, kind = state.weight, state.cut, state.cut_kind
        gross, net = bound[Exposure.OTHER_GROSS], bound[Exposure.OTHER_NET]
        steps: tuple[tuple[Callable[..., Array], Array, Array], ...] = (
            (projection.shrink_gross, gross, bound[Exposure.GROSS_MAX]),
            (partial(projection.shrink_net, own=own), net, bound[Exposure.NET_MAX]),
            (partial(projection.raise_net, own=own), net, bound[Exposure.NET_MIN]),
        )
        for code, (shrink, other, limit) in enumerate(steps):
            smaller = shrink(weight, before, member, other, limit, trade_max)
            changed = smaller != weight
            cut = jnp.where(changed, index, cut)
            kind = jnp.where(changed, float(code), kind)
            weight = smaller
        return state._replace(weight=weight, cut=cut, cut_kind=kind)

    def apply(state: _Exposed, row: tuple[Array, Array, Array]) -> tuple[_Exposed, None]:
        index, member, bound = row
        violated = jnp.any(_excess(state.weight, member[None, :], bound[:, None]) > 0.0)
        state = jax.lax.cond(violated, lambda: project(state, index, member, bound), lambda: state)
        is_group, is_portfolio = index < n_bounds - 2, index == n_bounds - 2
        return state._replace(
            after_groups=jnp.where(is_group, state.weight, state.after_groups),
            after_portfolio=jnp.where(is_group | is_portfolio, state.weight, state.after_portfolio),
        ), None

    start = _unexposed(weight)
    indices = jnp.arange(n_bounds, dtype=weight.dtype)
    # Most books keep all of these bounds: one look at all of them is cheaper than one at each.
    return jax.lax.cond(
        jnp.any(_excess(weight, members, bounds) > 0.0),
        lambda: jax.lax.scan(apply, start, (indices, members, bounds.T))[0],
        lambda: start,
    )


def _excess(weight: Array, members: Array, bounds: Array) -> Array:
    """How far each bound on a sum is exceeded, (3, g); <= 0 where it holds."""
    gross = members @ jnp.abs(weight) + bounds[Exposure.OTHER_GROSS]
    excess = (gross - bounds[Exposure.GROSS_MAX])[None, :]
    return jnp.concatenate([excess, _net_excess(weight, members, bounds)])


def _net_excess(weight: Array, members: Array, bounds: Array) -> Array:
    """The same of the net maximum and the net minimum, (2, g)."""
    net = members @ weight + bounds[Exposure.OTHER_NET]
    return jnp.stack([net - bounds[Exposure.NET_MAX], bounds[Exposure.NET_MIN] - net])


def _reconciled(weight: Array, before: Array, members: Array, bounds: Array) -> Array:
    """The largest part of all trades for which no bound is exceeded more than before."""
    allowed = jnp.maximum(_excess(before, members, bounds), 0.0)

    def bisect() -> Array:
        def step(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = 0.5 * (low + high)
            excess = _excess(before + middle * (weight - before), members, bounds)
            good = jnp.all(excess <= allowed)
            return jnp.where(good, middle, low), jnp.where(good, high, middle)

        ends = (jnp.asarray(0.0), jnp.asarray(1.0))
        low, _ = jax.lax.fori_loop(0, RECONCILE_STEPS, step, ends)
        return before + low * (weight - before)

    holds = jnp.all(_excess(weight, members, bounds) <= allowed)
    return jax.lax.cond(holds, lambda: weight, bisect)
