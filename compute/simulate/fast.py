"""Many settings through the past at once: one `lax.scan` over sessions, `vmap` over settings.

The same order of events, stages, limits and rounding as `backtest.run`, in doubles: lots are whole
numbers in a double, checked by `fast_guard` in the place of the independent guard. On the same book
both nearly always agree within one lot a line. What it does not know is refused
(`honoured.refused`), never left out.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from compute.limits.projection import NO_LIMIT
from compute.limits.rounded_lots import NEAR_LOT, NEAR_SIZE_MAX
from compute.simulate.fast_decision import Bounds, Features, Session, stakes
from compute.simulate.fast_limits import largest_trade, limited, smallest_trade
from compute.simulate.fast_lots import Line, whole_lots

PAID = ("commission", "slippage", "dividends", "interest", "borrow", "delistings", "fractions")
"""Fields of `account.Account`."""


class Account(NamedTuple):
    """Cash and units of one setting, its open orders, and what it has done."""

    cash: Array
    units: Array
    orders: Array
    equity: Array
    """At the last mark."""
    alive: Array
    trades: Array
    decisions: Array
    scaled_fills: Array
    costs: Array
    """What was paid and earned in the order of `PAID`."""
    delisted: Array


@partial(jax.jit, static_argnames="features")
def run_all(
    bounds: Bounds, sessions: Session, features: Features
) -> tuple[Account, tuple[Array, ...]]:
    """All settings through all sessions.

    Returns the accounts at the end and, a row a session, equity, cash, gross weight and turnover,
    (T, S) each, with `features.positions` units too, (T, S, m).
    """
    m = sessions.price.shape[1]
    n = bounds.cash.shape[0]
    zeros, counts = jnp.zeros((n, m)), jnp.zeros(n)
    start = Account(
        bounds.cash, zeros, zeros, bounds.cash, counts == 0.0, counts, counts, counts,
        jnp.zeros((n, len(PAID))), counts,
    )  # fmt: skip

    def one(account: Account, session: Session) -> tuple[Account, tuple[Array, ...]]:
        step = partial(_step, features=features)
        return jax.vmap(step, in_axes=(0, 0, None))(account, bounds, session)

    return jax.lax.scan(one, start, sessions)


def _step(
    account: Account, own: Bounds, session: Session, features: Features
) -> tuple[Account, tuple[Array, ...]]:
    """One session of one setting."""
    before, turnover = account, jnp.zeros(())
    account = _corporate_actions(account, own, session, features)
    if not features.at_same_close:
        account, turnover = _filled(account, own, session, session.before, features)
        account = _after_night(account, own, session)
    equity = account.cash + session.mark @ account.units
    alive = before.alive & (equity > 0.0)
    gross = jnp.abs(account.units) @ session.mark / jnp.where(alive, equity, 1.0)
    marked = account._replace(equity=equity)
    account = decided(marked, own, session, features)
    if features.at_same_close:
        account, turnover = _filled(account, own, session, session.before, features)
        account = _after_night(account, own, session)
    # Ruin is the end: nothing is decided any more, and later nothing filled, paid or earned.
    account = jax.tree.map(partial(jnp.where, alive), account, marked)
    account = jax.tree.map(partial(jnp.where, before.alive), account, before)
    values = (equity, marked.cash, gross, turnover)
    row = tuple(jnp.where(alive, value, 0.0) for value in values)
    if features.positions:
        row = (*row, jnp.where(alive, marked.units, 0.0))
    return account._replace(alive=alive), row


def _corporate_actions(
    account: Account, own: Bounds, session: Session, features: Features
) -> Account:
    if features.dividend:
        paid = session.dividend @ account.units
        account = account._replace(cash=account.cash + paid, costs=account.costs.at[2].add(paid))
    if features.split:
        units = _split_into(account.units, session.split, jnp.minimum(own.lot_size, 1.0))
        parts = account.units * session.split - units
        paid = (session.before / session.split) @ parts
        account = account._replace(
            cash=account.cash + paid,
            units=units,
            orders=_split_into(account.orders, session.split, own.lot_size),
            costs=account.costs.at[6].add(paid),
        )
    if features.delisting:
        paid = session.delisting_price @ account.units
        closed = (session.is_delisted > 0.0) & (account.units != 0.0)
        account = account._replace(
            cash=account.cash + paid,
            units=jnp.where(closed, 0.0, account.units),
            costs=account.costs.at[5].add(paid),
            delisted=account.delisted + jnp.sum(closed),
        )
    return account


def _split_into(units: Array, split: Array, step: Array) -> Array:
    """See `account.split_into`."""
    exact = units * split / step
    nearest = jnp.round(exact)
    is_near = jnp.abs(exact - nearest) <= NEAR_LOT * jnp.clip(jnp.abs(exact), 1.0, NEAR_SIZE_MAX)
    return jnp.where(split == 1.0, units, jnp.where(is_near, nearest, jnp.trunc(exact)) * step)


def _in_lots(units: Array, lot_size: Array) -> Array:
    """See `account.in_lots`."""
    exact = units / lot_size
    nearest = jnp.round(exact)
    is_near = jnp.abs(exact - nearest) <= NEAR_LOT * jnp.clip(jnp.abs(exact), 1.0, NEAR_SIZE_MAX)
    return jnp.where(is_near, nearest * lot_size, units)


def _filled(
    account: Account, own: Bounds, session: Session, mark: Array, features: Features
) -> tuple[Account, Array]:
    """Fills the orders, increases cut alike where the cash at hand doesn't pay for them."""
    wanted = jnp.where(session.price > 0.0, account.orders, 0.0)
    trade = _affordable(account, wanted, own, session, features)
    notional = jnp.abs(trade) @ session.price
    sign = jnp.sign(trade)
    executed = session.price * (1.0 + own.slippage_rate * sign)
    commission = own.commission_rate * (jnp.abs(trade) @ executed)
    if features.fixed_commission:
        commission += own.commission_fixed * jnp.sum(jnp.abs(sign))
    worth = account.cash + mark @ account.units
    costs = account.costs.at[0].add(commission).at[1].add(own.slippage_rate * notional)
    return account._replace(
        cash=account.cash - trade @ executed - commission,
        units=_in_lots(account.units + trade, own.lot_size),
        orders=jnp.zeros_like(trade),
        trades=account.trades + jnp.sum(jnp.abs(sign)),
        scaled_fills=account.scaled_fills + jnp.any(trade != wanted),
        costs=costs,
    ), notional / jnp.maximum(worth, 1e-300)


def _affordable(
    account: Account, wanted: Array, own: Bounds, session: Session, features: Features
) -> Array:
    """See `backtest.affordable`."""
    units, after = account.units, account.units + wanted
    bought = jnp.maximum(jnp.maximum(after, 0.0) - jnp.maximum(units, 0.0), 0.0)
    sold = jnp.maximum(jnp.maximum(units, 0.0) - jnp.maximum(after, 0.0), 0.0)
    short = -(session.price @ jnp.minimum(units, 0.0))
    rate = 1.0 + own.slippage_rate + own.commission_rate
    free = account.cash - short + (sold @ session.price) * (2.0 - rate)
    if features.fixed_commission:
        free -= own.commission_fixed * jnp.sum(wanted != 0.0)
    free, need = jnp.maximum(free, 0.0), (bought @ session.price) * rate
    fits = (need <= free) | (need == 0.0)
    share = free / jnp.where(fits, 1.0, need)
    lots = jnp.trunc(bought * share / own.lot_size) * own.lot_size
    return jnp.where(~fits & (bought > 0.0), wanted - bought + lots, wanted)


def _after_night(account: Account, own: Bounds, session: Session) -> Account:
    short = -(session.mark @ jnp.minimum(account.units, 0.0))
    free = account.cash - short
    rate = jnp.where(free > 0.0, own.credit_rate, own.debit_rate)
    years = session.nights / own.days_per_year
    interest, borrow = free * rate * years, short * own.borrow_rate * years
    costs = account.costs.at[3].add(interest).at[4].add(borrow)
    return account._replace(cash=account.cash + interest - borrow, costs=costs)


def decided(account: Account, own: Bounds, session: Session, features: Features) -> Account:
    """The account of one setting with orders for what the strategy says now."""
    said = session.said[own.strategy] > 0.0
    due = said & (session.number % own.rebalance == 0) & ~session.is_last
    equity = jnp.where(account.equity > 0.0, account.equity, 1.0)
    active = session.active[own.strategy]
    if features.volatility_target or features.risk_budget:
        # As live: a rule that weighs with the volatility can't size a line that has none.
        weighs = (own.volatility_target < NO_LIMIT) | (own.risk_budget < NO_LIMIT)
        active = jnp.where(weighs & (session.annual_volatility <= 0.0), 0.0, active)
    unit = session.mark / equity
    before = unit * account.units
    wanted = stakes(own, session, active, before, features)
    weight, needed, sums = limited(wanted, before, active, unit, equity, own, session, features)
    most, least = largest_trade(unit, equity, own, session), smallest_trade(equity, own)
    line = Line(before, account.units, unit * own.lot_size, active)
    lots = whole_lots(weight, line, most, needed, least, sums, own, features)
    orders = jnp.where(due, lots * own.lot_size, account.orders)
    return account._replace(orders=orders, decisions=account.decisions + due)
