"""What the kernel of the waterfall reads of a decision's inputs: columns of lines, and scalars."""

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from compute.inputs import Inputs
from compute.limits.projection import NO_LIMIT
from compute.limits.risk_budget import risk_budget_of_batch
from compute.limits.stops import line_bounds, stop_loss, with_staying
from compute.market import Floats, MissingInputError
from compute.money.margin import uses_proceeds
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import GROUP_BUCKETS, LINE_BUCKETS, KernelRegistry, bucket
from compute.waterfall import trade_plan
from compute.waterfall.edge_inputs import edge_columns
from compute.waterfall.layout import Exposure, Line, Scalar
from compute.waterfall.robust import robust_column
from compute.waterfall.trade_band import NO_BAND, band_columns, banded_lines
from compute.waterfall.trading_costs import trading_costs
from compute.waterfall.usable import passed_stops, without_volatility

_PARAMETER_ROWS = tuple(
    (row, row.name.lower())
    for row in Scalar
    if row.name.lower() in EffectiveParameters.__dataclass_fields__
)
"""Scalars that are a sizing parameter, with its name."""


def line_columns(inputs: Inputs, kernels: KernelRegistry) -> Floats:
    """The kernel's per-line input, (len(Line), n)."""
    signals, limit_bounds, index = inputs.signals, inputs.limit_bounds, inputs.index
    lines = np.zeros((len(Line), len(index)))
    lines[Line.ACTIVE] = inputs.active
    lines[[Line.CORRELATION, Line.ROBUST]] = 1.0
    lines[Line.SIDE] = signals.side
    costs = trading_costs(inputs)
    lines[Line.TRADE_COST], lines[Line.COST] = costs.one_trade, costs.per_period
    lines[Line.IMPACT] = costs.impact
    edge_columns(lines, signals, inputs.parameters, inputs.scenarios, kernels)
    if inputs.parameters.robust is not None:
        lines[Line.ROBUST] = robust_column(lines, inputs, kernels)
    lines[Line.WEIGHT_BEFORE] = np.where(inputs.known, limit_bounds.before[index], 0.0)
    lines[Line.ANNUAL_VOLATILITY] = _annual_volatility(inputs)
    lines[Line.STOP_LOSS] = _stop_loss(inputs)
    lines[Line.WEIGHT_MIN], lines[Line.WEIGHT_MAX] = line_bounds(inputs)
    adv = limit_bounds.adv_weight_min[index], limit_bounds.adv_weight_max[index]
    lines[Line.ADV_WEIGHT_MIN], lines[Line.ADV_WEIGHT_MAX] = with_staying(inputs, *adv)
    lines[Line.BUY_MAX] = limit_bounds.buy_max[index]
    lines[Line.SELL_MAX] = limit_bounds.sell_max[index]
    known, unit = inputs.known, limit_bounds.unit_weight[index]
    lines[Line.LOT] = np.where(known, unit * limit_bounds.market.lot_size[index], 0.0)
    lines[Line.OPEN_BUY] = np.where(known, unit * limit_bounds.positions.open_buy[index], 0.0)
    lines[Line.OPEN_SELL] = np.where(known, unit * limit_bounds.positions.open_sell[index], 0.0)
    lines[Line.RATE_LONG] = limit_bounds.terms.rate_long[index]
    lines[Line.RATE_SHORT] = limit_bounds.terms.rate_short[index]
    lines[Line.FEE] = limit_bounds.terms.fee[index]
    if inputs.target is not None:
        lines[Line.TARGET] = inputs.target
    lines[Line.AIM] = trade_plan.aims(inputs)
    lines[Line.STAYS] = np.where(inputs.known, inputs.stays, 0.0)
    lines[Line.BAND_HIGH] = NO_BAND
    if len(banded := banded_lines(lines, inputs)):
        band_columns(lines, banded, scalar_inputs(inputs), inputs.parameters, kernels)
    return lines


def scalar_inputs(inputs: Inputs) -> Floats:
    """The kernel's scalar input, (len(Scalar),)."""
    parameters, limit_bounds, limits = (
        inputs.parameters,
        inputs.limit_bounds,
        inputs.limit_bounds.limits,
    )
    interval = 0.5 * (1.0 + parameters.interval_probability)
    out = np.zeros(len(Scalar))
    for row, name in _PARAMETER_ROWS:
        out[row] = _bound(getattr(parameters, name))
    out[Scalar.SHRINK] = int(parameters.confidence_shrinkage) - int(Shrinkage.NONE)
    out[Scalar.KELLY_FRACTION] = parameters.fraction
    out[Scalar.TRADE_RATE] = trade_plan.first_rate(inputs)
    out[Scalar.INTERVAL_DEVIATIONS] = NormalDist().inv_cdf(interval)
    out[Scalar.RISK_BUDGET] = risk_budget_of_batch(inputs)
    out[Scalar.USE_TARGET] = inputs.target is not None
    out[Scalar.ALLOW_SHORT] = bool(limits.allow_short)
    out[Scalar.ALLOW_FLIP] = bool(limits.allow_flip)
    out[Scalar.REDUCING] = inputs.must_reduce
    out[Scalar.TRADE_MIN] = limit_bounds.trade_min.weight
    out[Scalar.TURNOVER_MAX] = _bound(limits.turnover_max)
    lines = inputs.index[inputs.active]
    out[Scalar.FREE] = (
        limit_bounds.free - limit_bounds.terms.order_fees_max(lines) / limit_bounds.scale
    )
    out[Scalar.SALES_AT_ONCE] = uses_proceeds(limits)
    return out


def _bound(value: float | None) -> float:
    return NO_LIMIT if value is None else value


def _annual_volatility(inputs: Inputs) -> Floats:
    market = inputs.limit_bounds.market
    if market.volatility is None:
        needed = [
            name
            for name in ("volatility_target", "risk_budget")
            if getattr(inputs.parameters, name) is not None
        ]
        if needed:
            raise MissingInputError(
                "MISSING_VOLATILITY",
                f"the parameter {needed[0]} needs the column volatility in the market snapshot",
            )
        return np.zeros(len(inputs.index))
    _refuse(
        inputs.active & without_volatility(market, inputs.index, inputs.parameters),
        inputs,
        "MISSING_VOLATILITY",
        "volatility is 0, and the volatility target or the risk budget needs it",
    )
    return market.volatility[inputs.index]


def _refuse(wrong: NDArray[np.bool_], inputs: Inputs, reason: str, text: str) -> None:
    """Of lines that were usable before parameters or prices were varied."""
    if wrong.any():
        name = inputs.limit_bounds.market.instrument_ids[inputs.index[int(np.argmax(wrong))]]
        raise MissingInputError(reason, f"{name!r}: {text}")


def _stop_loss(inputs: Inputs) -> Floats:
    """`stop_loss`, of stops that have not been passed, or `MissingInputError`."""
    market, index = inputs.limit_bounds.market, inputs.index
    wrong = np.zeros(len(index), dtype=bool)
    for error in passed_stops(inputs.signals, index, market, inputs.parameters):
        wrong[error.line] = True
    text = "its stop is at or beyond the price"
    _refuse(inputs.active & wrong, inputs, "STOP_ON_WRONG_SIDE", text)
    return stop_loss(inputs)


def exposures(inputs: Inputs) -> tuple[Floats, Floats]:
    """Members and bounds padded to a bucket, the batch's own weights taken out of `OTHER_*`."""
    limit_bounds, index = inputs.limit_bounds, inputs.index
    n_groups = len(limit_bounds.group_names)
    columns = [*range(n_groups), -2, -1]
    size = bucket(n_groups + 2, GROUP_BUCKETS)
    members = np.zeros((size, bucket(len(index), LINE_BUCKETS)))
    members[columns, : len(index)] = limit_bounds.members[:, index]
    bounds = np.zeros((len(Exposure), size))
    bounds[Exposure.GROSS_MAX], bounds[Exposure.NET_MAX] = NO_LIMIT, NO_LIMIT
    bounds[Exposure.NET_MIN] = -NO_LIMIT
    bounds[:, columns] = limit_bounds.bounds
    # Refused lines are not in the batch: their positions stay and count as others'.
    own = np.where(inputs.active, limit_bounds.before[index], 0.0)
    mine = members[:, : len(index)]
    bounds[Exposure.OTHER_GROSS] -= mine @ np.abs(own)
    bounds[Exposure.OTHER_NET] -= mine @ own
    return members, bounds
