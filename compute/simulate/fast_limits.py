"""What limits do to the stakes of the fast mode of backtests, in the order of the waterfall.

Everything is about one setting, (m,) arrays over its instruments.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from compute.limits import projection
from compute.limits.book_stage import SLACK, STEPS
from compute.limits.projection import NO_LIMIT, TradeMax, Trades
from compute.simulate import fast_rows
from compute.simulate.fast_decision import Bounds, Features, Session
from compute.simulate.fast_guard import Sums, sums_of
from compute.waterfall.stages import GRID, RECONCILE_STEPS, ROUNDS

_Sums = tuple[Array, Array, Array, Array]
"""Member, gross maximum, net minimum and net maximum of one sum of weights."""


def limited(
    weight: Array,
    before: Array,
    active: Array,
    unit: Array,
    equity: Array,
    own: Bounds,
    session: Session,
    features: Features,
) -> tuple[Array, Array, Sums]:
    """Weights after every limit that any setting has, in the order of the waterfall.

    And the part of each trade that brings the book inside them, signed (`projection.cures`), before
    turnover took back a part; and the limits on sums, which whole lots have to keep too.
    """

    def kept(wanted: Array) -> Array:
        return jnp.where(active > 0.0, wanted, before)

    weight = jnp.where((weight < 0.0) & (own.allow_short == 0.0), 0.0, weight)
    weight = kept(jnp.where((weight * before < 0.0) & (own.allow_flip == 0.0), 0.0, weight))
    if features.trade_min:
        # What closes a position, or leaves less than a lot of it, is never too small.
        size, lot = jnp.abs(weight), own.lot_size * unit
        closes = (weight == 0.0) | ((size < lot) & (size < jnp.abs(before)))
        small = (jnp.abs(weight - before) < smallest_trade(equity, own)) & ~closes
        weight = jnp.where(small, before, weight)
    cap = _cap(unit, equity, own, features)
    weight = kept(jnp.clip(weight, -cap, cap))
    most_held = cap
    trade_max = TradeMax(jnp.full_like(weight, NO_LIMIT), jnp.full_like(weight, NO_LIMIT))
    if features.liquidity:
        cap = _of_volume(own.adv_position_max, session.volume * unit)
        most_held = jnp.minimum(most_held, cap)
        most = largest_trade(unit, equity, own, session)
        trade_max = TradeMax(most, most)
        weight = kept(projection.trade_cap(jnp.clip(weight, -cap, cap), before, trade_max))
    rows = _sums(active, equity, own, features)
    ones = jnp.ones_like(weight)
    trades = Trades(before, before, ones, own.short_margin_rate * ones, own.fee_rate * ones)
    margin = jnp.maximum(before, 0.0) - own.short_margin_rate * jnp.minimum(before, 0.0)
    free = 1.0 - jnp.sum(margin) - own.cash_buffer
    box = (jnp.where(own.allow_short > 0.0, -most_held, 0.0) * ones, most_held * ones)
    exceeded = _exceeded(before, rows)

    def exposed(weight: Array) -> Array:
        for member, gross_max, net_min, net_max in rows:
            bounds = gross_max, net_min, net_max
            weight = _within_sums(
                weight, before, jnp.clip(before, *box), member, active, bounds, trade_max, features
            )
        return weight

    def one_round(weight: Array) -> Array:
        weight = exposed(weight)
        if features.turnover:
            first = projection.cures(weight, before, box, exceeded)
            weight = kept(projection.cap_turnover(weight, before, own.turnover_max, first))
        return kept(projection.fit_free(weight, before, free, trades, own.at_once > 0.0))

    unturned = exposed(weight)
    weight = one_round(weight)
    if features.net or features.n_groups:
        weight = _again(weight, before, rows, one_round)
    if features.net or features.n_groups or features.liquidity:
        weight = _reconciled(weight, before, rows)

    def cured(weight: Array) -> Array:
        part = projection.cures(weight, before, box, exceeded)
        if not features.n_rows:
            return part
        return jnp.maximum(part, fast_rows.row_cures(weight, before, _book_rows(own)))

    if features.n_rows:
        most = trade_max.sell * ones
        weight, unturned = _within_rows(
            weight, unturned, before, active, most, rows, cured, own, features
        )
    weight = jnp.round(weight * GRID) / GRID
    sums = sums_of(rows, _book_rows(own), trades, free, own)
    needed = jnp.zeros_like(weight)
    if features.trade_min or features.turnover:
        needed = jnp.sign(unturned - before) * cured(unturned)
    return weight, needed, sums


def smallest_trade(equity: Array, own: Bounds) -> Array:
    """The smallest change of a weight that is worth a trade."""
    return jnp.maximum(own.trade_notional_min / equity, own.trade_weight_min)


def largest_trade(unit: Array, equity: Array, own: Bounds, session: Session) -> Array:
    """The largest change of each weight in a decision, by money and by volume."""
    by_volume = _of_volume(own.adv_trade_max, session.volume * unit)
    return jnp.minimum(own.trade_notional_max / equity, by_volume)


def _book_rows(own: Bounds) -> fast_rows.Rows:
    return fast_rows.Rows(own.row_coefficient, own.row_bound)


def _within_rows(
    wanted: Array,
    unturned: Array,
    before: Array,
    active: Array,
    trade_max: Array,
    sums: list[_Sums],
    cured: Callable[[Array], Array],
    own: Bounds,
    features: Features,
) -> tuple[Array, Array]:
    """The linear limits of the book, with what the stages before have achieved kept.

    See `limits/book_stage.py`; cured: the part of trades that brings the book inside any limit.
    unturned: before turnover took back a part; so is the second answer.
    """
    rows = _book_rows(own)
    leads_back = jnp.zeros_like(wanted)
    for member, _, net_min, net_max in sums:
        net = member @ before
        back = jnp.where(net > net_max, wanted < before, (net < net_min) & (wanted > before))
        leads_back = jnp.maximum(leads_back, member * back)
    ends = fast_rows.ends_of(wanted, before, leads_back > 0.0, trade_max)
    weight = inside = fast_rows.kept(wanted, active, ends, rows)
    turnover = own.turnover_max
    if features.turnover:
        turned = projection.cap_turnover(weight, before, turnover, cured(weight))
        is_over = jnp.sum(jnp.abs(weight - before)) > turnover
        weight = jnp.where((active > 0.0) & is_over, turned, weight)

    def excess(at: Array) -> Array:
        parts = [rows.excess(at) - SLACK, _sums_excess(at, sums)]
        return jnp.concatenate([*parts, (jnp.sum(jnp.abs(at - before)) - turnover)[None]])

    weight = fast_rows.reconciled(weight, before, excess, STEPS, 1e-12)
    is_moved = jnp.any(rows.excess(wanted) > 0.0)
    return jnp.where(is_moved, weight, wanted), jnp.where(is_moved, inside, unturned)


def _cap(unit: Array, equity: Array, own: Bounds, features: Features) -> Array:
    cap = own.weight_max
    if features.notional:
        cap = jnp.minimum(cap, own.notional_max / equity)
    if features.quantity:
        cap = jnp.minimum(cap, own.quantity_max * unit)
    return cap


def _of_volume(share: Array, volume: Array) -> Array:
    """A bound by volume; one that is not set bounds nothing, least of all where volume is 0."""
    return jnp.where(share < NO_LIMIT, jnp.minimum(share * volume, NO_LIMIT), NO_LIMIT)


def _sums(active: Array, equity: Array, own: Bounds, features: Features) -> list[_Sums]:
    """Member, gross maximum, net minimum and net maximum: of each group, then of the book."""
    rows = [
        (own.group_member[g], own.group_gross_max[g], own.group_net_min[g], own.group_net_max[g])
        for g in range(features.n_groups)
    ]
    if features.gross or features.net:
        gross = jnp.minimum(own.gross_weight_max, own.gross_notional_max / equity)
        rows.append((jnp.ones_like(active), gross, own.net_min, own.net_max))
    return rows


def _exceeded(before: Array, rows: list[_Sums]) -> projection.Sums:
    """How far the book before is beyond each row; a row of nobody where there is none."""
    if not rows:
        return projection.Sums(jnp.zeros((1, len(before))), jnp.zeros((3, 1)))
    members = jnp.stack([member for member, *_ in rows])
    gross_max, net_min, net_max = (jnp.stack([row[i] for row in rows]) for i in (1, 2, 3))
    net = members @ before
    gross = members @ jnp.abs(before)
    return projection.Sums(members, jnp.stack([gross - gross_max, net - net_max, net_min - net]))


def _within_sums(
    weight: Array,
    before: Array,
    inside: Array,
    member: Array,
    active: Array,
    bounds: tuple[Array, Array, Array],
    trade_max: TradeMax,
    features: Features,
) -> Array:
    """One row of `_sums` applied; inside: what is held, inside each line's own limits."""
    gross_max, net_min, net_max = bounds
    mine, idle = member * active, member * (1.0 - active)
    other = jnp.sum(idle * jnp.abs(before))
    weight = projection.shrink_gross(weight, before, mine, other, gross_max, trade_max)
    if features.net or features.n_groups:
        net = jnp.sum(idle * before)
        weight = projection.shrink_net(weight, before, mine, net, net_max, trade_max, inside)
        weight = projection.raise_net(weight, before, mine, net, net_min, trade_max, inside)
    return weight


def _again(
    weight: Array, before: Array, rows: list[_Sums], one_round: Callable[[Array], Array]
) -> Array:
    """Further rounds, as in the waterfall, while a net that was beyond its limit still is."""

    def excess(at: Array) -> Array:
        parts = [(member @ at - most, least - member @ at) for member, _, least, most in rows]
        return jnp.stack([part for pair in parts for part in pair])

    beyond = excess(before) > 0.0

    def is_missed(state: tuple[Array, Array]) -> Array:
        number, at = state
        return (number < ROUNDS) & jnp.any(beyond & (excess(at) > 0.0))

    def again(state: tuple[Array, Array]) -> tuple[Array, Array]:
        return state[0] + 1, one_round(state[1])

    return jax.lax.while_loop(is_missed, again, (jnp.asarray(0), weight))[1]


def _sums_excess(at: Array, rows: list[_Sums]) -> Array:
    """How far weights are beyond each bound of each row."""
    parts: list[Array] = []
    for member, gross_max, net_min, net_max in rows:
        gross, net = member @ jnp.abs(at), member @ at
        parts += [gross - gross_max, net - net_max, net_min - net]
    return jnp.stack(parts) if parts else jnp.zeros(0)


def _reconciled(weight: Array, before: Array, rows: list[_Sums]) -> Array:
    """The largest part of all trades that exceeds no sum by more than before."""
    if not rows:
        return weight
    return fast_rows.reconciled(
        weight, before, lambda at: _sums_excess(at, rows), RECONCILE_STEPS, 0.0
    )
