"""What the fast mode of backtests computes on, and its decisions: stakes, limits, whole lots.

Everything is about one setting, (m,) arrays over its instruments; `fast.py` maps it over settings.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from compute.limits.rounded_lots import NEAR_LOT, NEAR_SIZE_MAX
from compute.waterfall import stake_rules
from compute.waterfall.layout import Line, Scalar, Source
from compute.waterfall.stages import GRID


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
    n_rows: int
    """Linear limits of the whole book, losses in stress scenarios among them."""
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
    row_coefficient: Array
    row_bound: Array
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


def whole_lots(
    weight: Array,
    before: Array,
    active: Array,
    unit: Array,
    held: Array,
    equity: Array,
    needed: Array,
    most: Array,
    own: Bounds,
    features: Features,
) -> Array:
    """Whole lots to trade, positions rounded towards zero; see `limits/lots.py`.

    needed: see `projection.cures`. most: the largest change of each weight, of limits by volume.
    """
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
    # A position rounded towards zero is sold by a larger trade.
    if features.liquidity:
        is_beyond = jnp.abs(rounded) * lot_weight > most + jnp.abs(rounded) / GRID
        rounded = jnp.where(is_beyond & ~near, jnp.trunc(exact), rounded)
    if features.turnover:
        is_beyond = jnp.sum(jnp.abs(rounded) * lot_weight) > own.turnover_max + len(exact) / GRID
        rounded = jnp.where(is_beyond & ~near, jnp.trunc(exact), rounded)
    if features.trade_min:
        after = jnp.abs(held + rounded * lot)
        closes = (after < (1.0 - NEAR_LOT) * lot) & (after < jnp.abs(held))
        stays = closes | ((needed > 0.0) & (after < jnp.abs(held)))
        least = jnp.maximum(own.trade_notional_min / equity, own.trade_weight_min)
        rounded = jnp.where((jnp.abs(rounded) * lot_weight < least) & ~stays, 0.0, rounded)
    return rounded
