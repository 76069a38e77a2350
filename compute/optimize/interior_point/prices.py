"""Shadow prices of a state in natural units, from the duals of the iteration.

Part of the kernel: what takes a microsecond a call on the host takes a tenth of that here.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from compute.optimize.interior_point.kkt_system import Array, Parts, split
from compute.optimize.interior_point.problem_data import Data
from compute.optimize.interior_point.state import Best, Frame


class Prices(NamedTuple):
    """What a limit's bound is worth, in objective units per natural unit of the bound.

    lower, upper: f64[n]; reduced_cost: f64[n], the slope of the Lagrangian without those two,
    positive where more of a name is worse; trade_slope, gross_slope: f64[n] as in
    `Multipliers`; trades are the weights where the kernel knows no holdings. row_min,
    row_max: f64[m].
    numbers: f64[5] of gross, turnover, drawdown risk, volatility and VaR.
    scale: f64[], a price of the kernel over a natural one at unit 1.
    """

    lower: Array
    upper: Array
    reduced_cost: Array
    trade_slope: Array
    gross_slope: Array
    row_min: Array
    row_max: Array
    numbers: Array
    scale: Array


def prices(data: Data, fixed: Frame, best: Best) -> Prices:
    """Duals divided by the scale of the objective and by the units of weights and rows.

    Fixed names take what is left of their slope as the price of the bound on its side.
    """
    duals, tied = split(data, best.z), data.lower >= data.upper
    ratio = _ratio(data, best)
    net = duals.row_high - duals.row_low + best.y
    reduced_cost = best.gradient + net @ data.rows + duals.limits @ best.slopes
    traded, trade_slope = _traded(data, fixed, best, duals, tied)
    sized, gross_slope = _sized(data, best, duals, tied)
    reduced_cost = reduced_cost + traded + sized
    scale = fixed.scale * ratio
    per_name, per_row = scale * data.unit, scale * data.row_scale
    sums = jnp.stack([jnp.sum(duals.gross), jnp.sum(duals.turnover)]) / per_name
    return Prices(
        lower=jnp.where(tied, jnp.maximum(reduced_cost, 0.0), duals.low) / per_name,
        upper=jnp.where(tied, jnp.maximum(-reduced_cost, 0.0), duals.high) / per_name,
        reduced_cost=reduced_cost / per_name,
        trade_slope=trade_slope,
        gross_slope=gross_slope,
        row_min=(duals.row_low + jnp.maximum(-best.y, 0.0)) / per_row,
        row_max=(duals.row_high + jnp.maximum(best.y, 0.0)) / per_row,
        numbers=jnp.concatenate([sums, _nonlinear(data, duals.limits) / ratio]),
        scale=scale,
    )


def _ratio(data: Data, best: Best) -> Array:
    """The kernel maximises mu'w - g/2 w'Sw at the g where that is the Sharpe ratio times this."""
    if data.sharpe is None:
        return jnp.ones(())
    assert data.quad is not None
    return jnp.sqrt(best.w @ data.quad @ best.w)


def _traded(data: Data, fixed: Frame, best: Best, duals: Parts, tied: Array) -> tuple[Array, Array]:
    """d(costs + turnover price)/dw as it stands in the KKT conditions, and its slope in [-1, 1]."""
    slope_total = jnp.zeros_like(best.w)
    trade = best.w if data.holdings is None else data.trade(best.w)
    slope = sign = jnp.sign(trade)
    if data.kinked:
        rate = jnp.sum(duals.turnover)
        if data.cost is not None:
            rate = rate + fixed.scale * data.cost
        slope_total, slope = _leaning(duals.trade_up - duals.trade_down, rate, sign, tied)
    if data.impact is not None:
        slope_total = (
            slope_total + 1.5 * fixed.scale * data.impact * jnp.sqrt(jnp.abs(trade)) * sign
        )
    return slope_total, slope


def _sized(data: Data, best: Best, duals: Parts, tied: Array) -> tuple[Array, Array]:
    """The same for the gross limit: price times an element of the subdifferential of |w|."""
    if data.gross is None:
        return jnp.zeros_like(best.w), jnp.sign(best.w)
    lean, rate = duals.gross_up - duals.gross_down, jnp.sum(duals.gross)
    return _leaning(lean, rate, jnp.sign(best.w), tied)


def _leaning(lean: Array, rate: Array, sign: Array, tied: Array) -> tuple[Array, Array]:
    """Pull and slope of rate |x|; a fixed name, which has no duals of its own, goes by its sign."""
    paid = jnp.where(rate > 0.0, rate, 1.0)
    slope = jnp.where((rate > 0.0) & ~tied, jnp.clip(lean / paid, -1.0, 1.0), sign)
    return jnp.where(tied, rate * sign, lean), slope


def _nonlinear(data: Data, duals: Array) -> Array:
    """f64[3]: drawdown risk, volatility, VaR, 0 where absent; as in `problem_data.terms`."""
    found, at = [jnp.zeros(())] * 3, 0
    for place, bound in enumerate((data.exponent, data.volatility, data.var)):
        if bound is not None:
            found[place], at = duals[at], at + 1
    risk = data.exponent
    if data.quadratic_exponent is not None:
        found[0], risk = duals[at], data.quadratic_exponent
    # The kernel divides the drawdown-risk limit by its exponent.
    return jnp.stack([found[0] / (1.0 if risk is None else risk[0]), *found[1:]])
