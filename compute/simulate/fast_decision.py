"""What the fast mode of backtests computes on, and its decisions: stakes, limits, whole lots.

Everything is about one setting, (m,) arrays over its instruments; `fast.py` maps it over settings.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from compute import stake_rules
from compute.layout import Line, Scalar, Source
from compute.limits import projection
from compute.limits.projection import NO_LIMIT, TradeMax, Trades
from compute.limits.rounded_lots import NEAR_LOT, NEAR_SIZE_MAX
from compute.waterfall import GRID, RECONCILE_STEPS, ROUNDS


class Features(NamedTuple):
    """What any of the settings uses; what none does costs nothing. Known when compiling."""

    at_same_close: bool
    has_bets: bool
    dividend: bool
    split: bool
    delisting: bool
    fixed_commission: bool
    shrinks: bool
    volatility_target: bool
    risk_budget: bool
    notional: bool
    quantity: bool
    liquidity: bool
    trade_min: bool
    gross: bool
    net: bool
    turnover: bool
    n_groups: int
    positions: bool
    """Whether the units held at each close are kept."""


class Bounds(NamedTuple):
    """Limits and parameters of each setting, (S,) or (S, m); groups (S, g, ...)."""

    strategy: Array
    """Row of the strategy's signals."""
    fraction: Array
    risk_free_rate: Array
    cost_rate: Array
    shrink: Array
    volatility_target: Array
    risk_budget: Array
    weight_max: Array
    notional_max: Array
    quantity_max: Array
    gross_weight_max: Array
    gross_notional_max: Array
    net_min: Array
    net_max: Array
    turnover_max: Array
    cash_buffer: Array
    fee_rate: Array
    short_margin_rate: Array
    at_once: Array
    adv_trade_max: Array
    adv_position_max: Array
    trade_notional_min: Array
    trade_weight_min: Array
    trade_notional_max: Array
    allow_short: Array
    allow_flip: Array
    group_member: Array
    group_gross_max: Array
    group_net_min: Array
    group_net_max: Array
    cash: Array
    lot_size: Array
    rebalance: Array
    commission_fixed: Array
    commission_rate: Array
    slippage_rate: Array
    credit_rate: Array
    debit_rate: Array
    borrow_rate: Array
    days_per_year: Array


class Session(NamedTuple):
    """What every setting sees of a session; (m,), scalars, and the signals of strategies (k, m).

    price: at which orders are filled, 0 where there is none. mark: the last close known, 0 before
    the first. delisting_price: 0 where nothing is delisted. volume: average daily volume in units.
    before: the mark of the session before.
    """

    number: Array
    is_last: Array
    price: Array
    mark: Array
    before: Array
    nights: Array
    dividend: Array
    split: Array
    is_delisted: Array
    delisting_price: Array
    annual_volatility: Array
    volume: Array
    said: Array
    active: Array
    side: Array
    is_bet: Array
    win_probability: Array
    payoff: Array
    loss_fraction: Array
    expected_return: Array
    volatility: Array
    edge_error: Array
    confidence: Array


def stakes(
    own: Bounds, session: Session, active: Array, before: Array, features: Features
) -> Array:
    """Signed stakes before the limits, by the stages of the waterfall."""
    k = own.strategy
    source = float(Source.RETURN_VOLATILITY)
    lines: dict[Line, Array | float] = {
        Line.COST: own.cost_rate,
        Line.EXACT_STAKE_HELD: 0.0,
        Line.EXPECTED_RETURN: session.expected_return[k],
        Line.VOLATILITY: session.volatility[k],
        Line.EDGE_ERROR: session.edge_error[k],
        Line.CONFIDENCE: session.confidence[k],
        Line.WIN_PROBABILITY: 0.5,
        Line.PAYOFF: 1.0,
        Line.LOSS_FRACTION: 1.0,
        Line.PAYOFF_ERROR: 0.0,
        Line.LOSS_FRACTION_ERROR: 0.0,
        Line.EXACT_STAKE: 0.0,
        Line.EXACT_STAKE_AFTER_COST: 0.0,
        Line.EXACT_ERROR: 0.0,
        Line.SHRINKAGE: 1.0,
        Line.SOURCE: source,
        Line.ANNUAL_VOLATILITY: session.annual_volatility,
    }
    if features.has_bets:
        bet = float(Source.WIN_LOSS)
        lines[Line.SOURCE] = jnp.where(session.is_bet[k] > 0.0, bet, source)
        lines[Line.WIN_PROBABILITY] = session.win_probability[k]
        lines[Line.PAYOFF] = session.payoff[k]
        lines[Line.LOSS_FRACTION] = session.loss_fraction[k]
    lines = {row: jnp.asarray(value) for row, value in lines.items()}
    scalars = {
        Scalar.RISK_FREE_RATE: own.risk_free_rate,
        Scalar.SHRINK: own.shrink,
    }
    # The stages read rows by name; these are the rows.
    stake = stake_rules.bounded(stake_rules.kelly_after_cost(lines, scalars))  # type: ignore[arg-type]
    if features.shrinks:
        stake = stake_rules.confident(stake, lines, scalars)  # type: ignore[arg-type]
    stake = own.fraction * stake
    if features.volatility_target:
        volatility = jnp.asarray(lines[Line.ANNUAL_VOLATILITY])
        stake = stake_rules.risk_capped(stake, volatility, jnp.asarray(own.volatility_target))
    stake = jnp.where(active > 0.0, stake, 0.0)
    if features.risk_budget:
        others = (1.0 - active) * jnp.abs(before) @ session.annual_volatility
        scalars[Scalar.RISK_BUDGET] = jnp.maximum(own.risk_budget - others, 0.0)
        stake = stake_rules.risk_budgeted(stake, lines, scalars)  # type: ignore[arg-type]
    return session.side[k] * stake


def limited(
    weight: Array,
    before: Array,
    active: Array,
    unit: Array,
    equity: Array,
    own: Bounds,
    session: Session,
    features: Features,
) -> tuple[Array, Array]:
    """Weights after every limit that any setting has, in the order of the waterfall.

    And the part of each trade that brings the book inside them, see `projection.cures`.
    """

    def kept(wanted: Array) -> Array:
        return jnp.where(active > 0.0, wanted, before)

    weight = jnp.where((weight < 0.0) & (own.allow_short == 0.0), 0.0, weight)
    weight = kept(jnp.where((weight * before < 0.0) & (own.allow_flip == 0.0), 0.0, weight))
    if features.trade_min:
        least = jnp.maximum(own.trade_notional_min / equity, own.trade_weight_min)
        small = (jnp.abs(weight - before) < least) & (weight != 0.0)
        weight = jnp.where(small, before, weight)
    cap = _cap(unit, equity, own, features)
    weight = kept(jnp.clip(weight, -cap, cap))
    most_held = cap
    trade_max = TradeMax(jnp.full_like(weight, NO_LIMIT), jnp.full_like(weight, NO_LIMIT))
    if features.liquidity:
        volume = session.volume * unit
        cap = jnp.minimum(own.adv_position_max * volume, NO_LIMIT)
        most_held = jnp.minimum(most_held, cap)
        most = jnp.minimum(own.trade_notional_max / equity, own.adv_trade_max * volume)
        trade_max = TradeMax(most, most)
        weight = kept(projection.trade_cap(jnp.clip(weight, -cap, cap), before, trade_max))
    rows = _sums(active, equity, own, features)
    ones = jnp.ones_like(weight)
    trades = Trades(before, before, ones, own.short_margin_rate * ones, own.fee_rate * ones)
    margin = jnp.maximum(before, 0.0) - own.short_margin_rate * jnp.minimum(before, 0.0)
    free = 1.0 - jnp.sum(margin) - own.cash_buffer
    box = (jnp.where(own.allow_short > 0.0, -most_held, 0.0) * ones, most_held * ones)
    exceeded = _exceeded(before, rows)

    def one_round(weight: Array) -> Array:
        for member, gross_max, net_min, net_max in rows:
            bounds = gross_max, net_min, net_max
            weight = _within_sums(
                weight, before, jnp.clip(before, *box), member, active, bounds, trade_max, features
            )
        if features.turnover:
            first = projection.cures(weight, before, box, exceeded)
            weight = kept(projection.cap_turnover(weight, before, own.turnover_max, first))
        return kept(projection.fit_free(weight, before, free, trades, own.at_once > 0.0))

    weight = one_round(weight)
    if features.net or features.n_groups:
        weight = _again(weight, before, rows, one_round)
    if features.net or features.n_groups or features.liquidity:
        weight = _reconciled(weight, before, rows)
    weight = jnp.round(weight * GRID) / GRID
    if features.trade_min:
        return weight, projection.cures(weight, before, box, exceeded)
    return weight, jnp.zeros_like(weight)


def _cap(unit: Array, equity: Array, own: Bounds, features: Features) -> Array:
    cap = own.weight_max
    if features.notional:
        cap = jnp.minimum(cap, own.notional_max / equity)
    if features.quantity:
        cap = jnp.minimum(cap, own.quantity_max * unit)
    return cap


_Sums = tuple[Array, Array, Array, Array]


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


def _reconciled(weight: Array, before: Array, rows: list[_Sums]) -> Array:
    """The largest part of all trades that exceeds no sum by more than before."""

    def excess(at: Array) -> Array:
        parts = []
        for member, gross_max, net_min, net_max in rows:
            gross, net = member @ jnp.abs(at), member @ at
            parts += [gross - gross_max, net - net_max, net_min - net]
        return jnp.stack(parts)

    if not rows:
        return weight
    allowed = jnp.maximum(excess(before), 0.0)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        good = jnp.all(excess(before + middle * (weight - before)) <= allowed)
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    low, _ = jax.lax.fori_loop(0, RECONCILE_STEPS, halve, (jnp.zeros(()), jnp.ones(())))
    holds = jnp.all(excess(weight) <= allowed)
    return jnp.where(holds, weight, before + low * (weight - before))


def whole_lots(
    weight: Array,
    before: Array,
    active: Array,
    unit: Array,
    held: Array,
    equity: Array,
    needed: Array,
    own: Bounds,
    features: Features,
) -> Array:
    """Whole lots to trade, positions rounded towards zero; see `limits/lots.py`."""
    lot, lot_weight = own.lot_size, unit * own.lot_size
    known = (active > 0.0) & (lot_weight > 0.0)
    weight = jnp.where(jnp.abs(weight - before) <= 1.0 / GRID, before, weight)
    exact = jnp.where(known, (weight - before) / jnp.where(known, lot_weight, 1.0), 0.0)
    nearest = jnp.round(exact)
    rounding = NEAR_LOT * jnp.clip(jnp.abs(exact), 1.0, NEAR_SIZE_MAX)
    slack = jnp.minimum(1.0 / GRID / jnp.where(known, lot_weight, 1.0), NEAR_LOT * NEAR_SIZE_MAX)
    near = jnp.abs(exact - nearest) <= jnp.maximum(rounding, slack)
    long = (weight > 0.0) | ((weight == 0.0) & (before > 0.0))
    rounded = jnp.where(near, nearest, jnp.where(long, jnp.floor(exact), jnp.ceil(exact)))
    if features.split:  # only odd lots can be crossed
        after, wanted = held + rounded * lot, weight / jnp.where(known, unit, 1.0)
        crossed = jnp.where(long, after < 0.0, after > 0.0) & ~near
        closer = rounded + jnp.where(long, 1.0, -1.0)
        beyond = jnp.abs(held + closer * lot) > jnp.abs(wanted)
        back = jnp.where(beyond & (wanted * held < 0.0), jnp.trunc(exact), closer)
        rounded = jnp.where(crossed, back, rounded)
    if features.trade_min:
        after = jnp.abs(held + rounded * lot)
        closes = (after < (1.0 - NEAR_LOT) * lot) & (after < jnp.abs(held))
        stays = closes | ((needed > 0.0) & (after < jnp.abs(held)))
        least = jnp.maximum(own.trade_notional_min / equity, own.trade_weight_min)
        rounded = jnp.where((jnp.abs(rounded) * lot_weight < least) & ~stays, 0.0, rounded)
    return rounded
