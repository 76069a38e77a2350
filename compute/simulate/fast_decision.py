"""What the fast mode of backtests computes on, and the stakes of its decisions.

Everything is about one setting, (m,) arrays over its instruments; `fast.py` maps it over settings.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from compute.waterfall import stake_rules
from compute.waterfall.layout import Line, Scalar, Source


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
