"""Stops: what a line loses at its own, and "no stop, no position" as a bound of its weight."""

import numpy as np
from numpy.typing import NDArray

from compute.inputs import Inputs
from compute.market import Floats
from compute.risk.stop import loss_at_stop


def stop_loss(inputs: Inputs) -> Floats:
    """Loss per unit of weight at the stop, fees on both trades included; 0 where no stop."""
    market, signals = inputs.limit_bounds.market, inputs.signals
    if market.stop_price is None and signals.stop_price is None:
        return np.zeros(len(inputs.index))
    price = market.price[inputs.index]
    stop = np.zeros(len(price)) if signals.stop_price is None else signals.stop_price
    if market.stop_price is not None:
        stop = np.where(stop > 0, stop, market.stop_price[inputs.index])
    fee = inputs.limit_bounds.terms.fee[inputs.index]
    loss = loss_at_stop(price, stop, fee, signals.side) / price
    return np.where((stop > 0) & ~np.isnan(loss), loss, 0.0)


def may_not_grow(inputs: Inputs) -> NDArray[np.bool_]:
    """Lines whose positions may not grow, (n,): a stop is required and they have none."""
    if not inputs.limit_bounds.limits.stop_required:
        return np.zeros(len(inputs.index), dtype=bool)
    return stop_loss(inputs) <= 0.0


def line_bounds(inputs: Inputs) -> tuple[Floats, Floats]:
    """Least and largest weight of each line, (n,) each.

    Lines without a stop that need one end at what they hold, those without a place at 0, or
    as near as reserved trades let them. What a joint optimum lets stay is inside.
    """
    limit_bounds, index = inputs.limit_bounds, inputs.index
    lower, upper = limit_bounds.weight_min[index], limit_bounds.weight_max[index]
    if limit_bounds.limits.stop_required:
        stopless, before = may_not_grow(inputs), limit_bounds.before[index]
        lower = np.where(stopless, np.maximum(lower, np.minimum(before, 0.0)), lower)
        upper = np.where(stopless, np.minimum(upper, np.maximum(before, 0.0)), upper)
    if inputs.placeless is not None:
        nearest = np.clip(0.0, np.minimum(lower, upper), np.maximum(lower, upper))
        lower, upper = (np.where(inputs.placeless, nearest, bound) for bound in (lower, upper))
    return with_staying(inputs, lower, upper)


def with_staying(inputs: Inputs, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """The bounds (n,) each, stretched to what a joint optimum lets stay."""
    if inputs.target is None:
        return lower, upper
    stays = inputs.stays
    wide_lower = np.where(stays != 0.0, np.minimum(lower, stays), lower)
    wide_upper = np.where(stays != 0.0, np.maximum(upper, stays), upper)
    return wide_lower, wide_upper
