"""Fixed risk to the stop: the quantity that loses the risk money, fees included, at the stop.

Fees are paid on notional, entry and exit. Taking them off the risk money instead, as is often
done, understates them by orders of magnitude when the stop is near.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import floats


def loss_at_stop(
    entry_price: ArrayLike,
    stop_price: ArrayLike,
    fee_rate: ArrayLike = 0.0,
    side: ArrayLike = 1.0,
) -> Array:
    """Return side (entry - stop) + c (entry + stop): what one unit loses if stopped out.

    ``fee_rate`` c is per side, a fraction of notional; the money is in the price's currency. NaN
    where the stop is on the wrong side of the entry, or on it: such a stop limits nothing.
    """
    entry, stop, fee, side = floats(entry_price, stop_price, fee_rate, side)
    distance = side * (entry - stop)
    return jnp.where(distance > 0.0, distance + fee * (entry + stop), jnp.nan)


def quantity_for_risk(
    risk_money: ArrayLike,
    entry_price: ArrayLike,
    stop_price: ArrayLike,
    fee_rate: ArrayLike = 0.0,
    side: ArrayLike = 1.0,
) -> Array:
    """Return side R / ``loss_at_stop``: the signed, unrounded quantity that risks ``risk_money``.

    ``risk_money`` R >= 0 in the price's currency, usually equity times a risk fraction; 0 gives 0.
    """
    money, side = floats(risk_money, side)
    return side * money / loss_at_stop(entry_price, stop_price, fee_rate, side)


def stake_for_risk(
    capital: ArrayLike, risk_fraction: ArrayLike, stop_fraction: ArrayLike, capital_free: ArrayLike
) -> Array:
    """Return min(free, capital risk / stop): the stake when the stop is a fraction of the price.

    ``capital`` is what risk is measured on and ``capital_free`` the part of it not yet in other
    positions, both in money; no fees.
    """
    money, risk, stop, free = floats(capital, risk_fraction, stop_fraction, capital_free)
    return jnp.minimum(money * risk / stop, free)
