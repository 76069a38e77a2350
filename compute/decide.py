"""One sizing decision, end to end on arrays: signals, sheet and parameters in, lots out.

Pure but for the compiled kernels it is handed: the same input gives the same lots, today or in a
replay. `size` is the closed form; with `target` weights from the joint optimum it runs the same
limits, lots and guard on those.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from compute.book import Floats, Integers, MissingInputError, Sheet
from compute.columns import Exposure, Extra, Line, Scalar, Stage
from compute.edges import Scenarios, edge_columns
from compute.growth import growth
from compute.guard import Guard, Violation
from compute.kernels import SENSITIVE, chunks
from compute.limits import LimitKind
from compute.lots import counted, whole_lots
from compute.parameters import EffectiveParameters, Shrinkage
from compute.projection import NO_LIMIT
from compute.shapes import GROUP_BUCKETS, LINE_BUCKETS, KernelRegistry, bucket, pad
from compute.signals import Signals
from compute.sizing import GRID

LIMIT_STAGES = tuple(stage for stage in Stage if stage >= Stage.VOLATILITY_TARGET)
"""Stages that cut by a limit or a risk rule."""


class LineStatus(IntEnum):
    """Outcome of a line. The numbers are those of the contract."""

    SIZED = 1
    CAPPED = 2
    ZERO = 3
    REFUSED = 4


@dataclass(frozen=True)
class Inputs:
    """All that a decision depends on.

    index: each line's instrument in the market, (n,), 0 where it isn't `known`. active: false for
    refused lines, unknown instruments among them.
    target: signed weights of the joint optimum, or None for the closed form.
    """

    signals: Signals
    index: Integers
    active: NDArray[np.bool_]
    known: NDArray[np.bool_]
    sheet: Sheet
    parameters: EffectiveParameters
    reducing: bool = False
    scenarios: Scenarios | None = None
    target: Floats | None = None


@dataclass(frozen=True)
class Binding:
    """The limit that set each line's size, (n,) each; kind 0 where none did."""

    kind: Integers
    group: Integers
    """Index into the sheet's group names, or -1."""
    bound: Floats
    without: Floats
    """Weight before that limit cut."""


@dataclass(frozen=True)
class Sizing:
    """A decision on n lines; weights signed. `stages` is (len(Stage) + 1, n), the last the lots."""

    lots: Integers
    trade_lots: Integers
    quantity: Floats
    weight: Floats
    stages: Floats
    status: Integers
    weight_low: Floats
    weight_high: Floats
    growth: Floats
    marginal: Floats
    binding: Binding
    cuts: dict[Stage, Binding]
    """What cut in each stage that cut."""
    kernel: str
    rejected: tuple[Violation, ...]


@np.errstate(over="ignore")  # what overflows is beyond every limit, and ends at one
def size(inputs: Inputs, guard: Guard, kernels: KernelRegistry) -> Sizing:
    """Sizes a batch. Raises `MissingInputError` where a parameter needs data that isn't there."""
    n = len(inputs.index)
    lines = line_columns(inputs, kernels)
    padded = pad(lines, bucket(n, LINE_BUCKETS))
    members, bounds = _exposures(inputs)
    out = kernels.run("waterfall", padded, scalar_inputs(inputs), members, bounds)[:, :n]
    stages, extra = out[: len(Stage)], out[len(Stage) :]
    lots = whole_lots(
        stages[Stage.RECONCILE],
        inputs.index,
        lines[Line.ACTIVE],
        inputs.sheet,
        guard,
        reducing=inputs.reducing,
    )
    quantity = np.where(inputs.known, lots.quantity, 0.0)
    weight = quantity * inputs.sheet.unit_weight[inputs.index]
    final = np.round(weight * GRID) / GRID
    all_stages = np.vstack([stages, np.where(inputs.active, final, stages[Stage.RECONCILE])])
    cuts = _cuts(all_stages, extra, inputs)
    binding = _binding(all_stages, cuts, inputs)
    lot_size = inputs.sheet.market.lot_size[inputs.index]
    value, slope = growth(weight * inputs.signals.side, lines, inputs)
    return Sizing(
        lots=counted(quantity, lot_size),
        trade_lots=lots.trade_lots,
        quantity=quantity,
        weight=weight,
        stages=all_stages,
        status=_status(weight, binding, inputs),
        weight_low=extra[Extra.WEIGHT_LOW],
        weight_high=extra[Extra.WEIGHT_HIGH],
        growth=value,
        marginal=slope,
        binding=binding,
        cuts=cuts,
        kernel=f"waterfall/{padded.shape[1]}x{members.shape[0]}",
        rejected=lots.rejected,
    )


def sensitivities(inputs: Inputs, kernels: KernelRegistry) -> Floats:
    """d weight / d input before limits, rows in the order of `kernels.SENSITIVE`, (5, n)."""
    lines, scalars = line_columns(inputs, kernels), scalar_inputs(inputs)
    out = np.zeros((len(SENSITIVE), len(inputs.index)))
    for piece, width in chunks(np.arange(len(inputs.index))):
        gradient = kernels.run("sensitivity", pad(lines[:, piece], width), scalars)
        out[:, piece] = gradient[:, : len(piece)]
    return out


def line_columns(inputs: Inputs, kernels: KernelRegistry) -> Floats:
    """The kernel's per-line input, (len(Line), n)."""
    signals, sheet, index = inputs.signals, inputs.sheet, inputs.index
    lines = np.zeros((len(Line), len(index)))
    lines[Line.ACTIVE] = inputs.active
    lines[Line.SIDE] = signals.side
    edge_columns(lines, signals, inputs.parameters, inputs.scenarios, kernels)
    lines[Line.WEIGHT_BEFORE] = np.where(inputs.known, sheet.before[index], 0.0)
    lines[Line.ANNUAL_VOLATILITY] = _annual_volatility(inputs)
    lines[Line.STOP_LOSS] = _stop_loss(inputs)
    lines[Line.WEIGHT_MIN] = sheet.weight_min[index]
    lines[Line.WEIGHT_MAX] = sheet.weight_max[index]
    lines[Line.ADV_WEIGHT_MIN] = sheet.adv_weight_min[index]
    lines[Line.ADV_WEIGHT_MAX] = sheet.adv_weight_max[index]
    lines[Line.BUY_MAX] = sheet.buy_max[index]
    lines[Line.SELL_MAX] = sheet.sell_max[index]
    if inputs.target is not None:
        lines[Line.TARGET] = inputs.target
    return lines


def scalar_inputs(inputs: Inputs) -> Floats:
    """The kernel's scalar input, (len(Scalar),)."""
    parameters, sheet, limits = inputs.parameters, inputs.sheet, inputs.sheet.limits
    interval = 0.5 * (1.0 + parameters.interval_probability)
    out = np.zeros(len(Scalar))
    out[Scalar.RISK_FREE_RATE] = parameters.risk_free_rate
    out[Scalar.COST_RATE] = parameters.cost_rate
    out[Scalar.SHRINK] = int(parameters.confidence_shrinkage) - int(Shrinkage.NONE)
    out[Scalar.KELLY_FRACTION] = parameters.fraction
    out[Scalar.INTERVAL_DEVIATIONS] = NormalDist().inv_cdf(interval)
    out[Scalar.VOLATILITY_TARGET] = _bound(parameters.volatility_target)
    out[Scalar.STOP_RISK_MAX] = _bound(parameters.stop_risk_max)
    out[Scalar.RISK_BUDGET] = _bound(parameters.risk_budget)
    out[Scalar.USE_TARGET] = inputs.target is not None
    out[Scalar.ALLOW_SHORT] = bool(limits.allow_short)
    out[Scalar.ALLOW_FLIP] = bool(limits.allow_flip)
    out[Scalar.REDUCING] = inputs.reducing
    out[Scalar.TRADE_MIN] = (limits.trade_notional_min or 0.0) / sheet.equity
    out[Scalar.TURNOVER_MAX] = _bound(limits.turnover_max)
    out[Scalar.CASH] = sheet.cash
    out[Scalar.FEE_RATE] = limits.fee_rate or 0.0
    margin = limits.short_margin_rate
    out[Scalar.SHORT_MARGIN_RATE] = 1.0 if margin is None else margin
    return out


def _bound(value: float | None) -> float:
    return NO_LIMIT if value is None else value


def _annual_volatility(inputs: Inputs) -> Floats:
    market = inputs.sheet.market
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
    return market.volatility[inputs.index]


def _stop_loss(inputs: Inputs) -> Floats:
    """Loss per unit of weight at the stop, fees on both trades included; 0 where no stop."""
    market, signals = inputs.sheet.market, inputs.signals
    price = market.price[inputs.index]
    stop = np.zeros(len(price)) if signals.stop_price is None else signals.stop_price
    if market.stop_price is not None:
        stop = np.where(stop > 0, stop, market.stop_price[inputs.index])
    fee = inputs.sheet.limits.fee_rate or 0.0
    distance = signals.side * (price - stop) + fee * (price + stop)
    right_side = (stop > 0) & (signals.side * (price - stop) > 0)
    return np.where(right_side, distance / price, 0.0)


def _exposures(inputs: Inputs) -> tuple[Floats, Floats]:
    """Members and bounds padded to a bucket, the batch's own weights taken out of `OTHER_*`."""
    sheet, index = inputs.sheet, inputs.index
    n_groups = len(sheet.group_names)
    columns = [*range(n_groups), -2, -1]
    size = bucket(n_groups + 2, GROUP_BUCKETS)
    members = np.zeros((size, bucket(len(index), LINE_BUCKETS)))
    members[columns, : len(index)] = sheet.members[:, index]
    bounds = np.zeros((len(Exposure), size))
    bounds[Exposure.GROSS_MAX], bounds[Exposure.NET_MAX] = NO_LIMIT, NO_LIMIT
    bounds[Exposure.NET_MIN] = -NO_LIMIT
    bounds[:, columns] = sheet.bounds
    # Refused lines are not in the batch: their positions stay and count as others'.
    own = np.where(inputs.active, sheet.before[index], 0.0)
    mine = members[:, : len(index)]
    bounds[Exposure.OTHER_GROSS] -= mine @ np.abs(own)
    bounds[Exposure.OTHER_NET] -= mine @ own
    return members, bounds


def _cuts(stages: Floats, extra: Floats, inputs: Inputs) -> dict[Stage, Binding]:
    """What cut in each limit stage that changed any line; kind 0 for the lines it left alone."""
    out: dict[Stage, Binding] = {}
    changed = stages[1:] != stages[:-1]
    for stage in LIMIT_STAGES:
        cut = changed[stage - 1]
        if stage is Stage.JOINT_OPTIMUM or stage is Stage.RECONCILE or not cut.any():
            continue
        what = stage_limits(stage, stages, extra, inputs)
        out[stage] = Binding(
            np.where(cut, what.kind, 0),
            np.where(cut, what.group, -1),
            np.where(cut, what.bound, 0.0),
            stages[stage - 1],
        )
    return out


def _binding(stages: Floats, cuts: dict[Stage, Binding], inputs: Inputs) -> Binding:
    """The last limit that cut each line."""
    n = stages.shape[1]
    kind, group = np.zeros(n, dtype=np.int64), np.full(n, -1, dtype=np.int64)
    bound, without = np.zeros(n), stages[Stage.RECONCILE]
    for what in cuts.values():
        cut = what.kind > 0
        kind, group = np.where(cut, what.kind, kind), np.where(cut, what.group, group)
        bound, without = np.where(cut, what.bound, bound), np.where(cut, what.without, without)
    small = inputs.active & (stages[-1] == 0) & (stages[Stage.RECONCILE] != 0)
    if small.any():
        minimum = inputs.sheet.limits.trade_notional_min or 0.0
        lot_kind = LimitKind.TRADE_NOTIONAL_MIN if minimum else LimitKind.LOT_SIZE
        kind = np.where(small, int(lot_kind), kind)
        lot_bound = minimum or inputs.sheet.market.lot_size[inputs.index]
        bound = np.where(small, lot_bound, bound)
    return Binding(kind, group, bound, without)


def stage_limits(stage: Stage, stages: Floats, extra: Floats, inputs: Inputs) -> Binding:
    """Which limit cuts each line in a stage, were it cut there; `without` is what went in."""
    sheet, index = inputs.sheet, inputs.index
    limits, parameters = sheet.limits, inputs.parameters
    n = len(index)
    group = np.full(n, -1, dtype=np.int64)

    def same(kind: LimitKind, bound: float | None) -> Binding:
        return Binding(np.full(n, int(kind)), group, np.full(n, bound or 0.0), stages[stage - 1])

    match stage:
        case Stage.VOLATILITY_TARGET:
            return same(LimitKind.VOLATILITY_TARGET, parameters.volatility_target)
        case Stage.STOP_RISK:
            return same(LimitKind.STOP_RISK, parameters.stop_risk_max)
        case Stage.RISK_BUDGET:
            return same(LimitKind.RISK_BUDGET, parameters.risk_budget)
        case Stage.PERMISSION:
            return _permission(stages[stage - 1], inputs, group)
        case Stage.MINIMUM_TRADE:
            return same(LimitKind.TRADE_NOTIONAL_MIN, limits.trade_notional_min)
        case Stage.INSTRUMENT_LIMIT:
            kinds, bounds = sheet.cap_kind[index], sheet.cap_bound[index]
            return Binding(kinds, group, bounds, stages[stage - 1])
        case Stage.LIQUIDITY:
            return _liquidity(stages, inputs, group)
        case Stage.GROUP_LIMIT | Stage.EXPOSURE_LIMIT | Stage.SHARED_LIMIT:
            return _exposure_cut(stage, stages, extra, inputs)
        case Stage.TURNOVER_LIMIT:
            return same(LimitKind.TURNOVER_MAX, limits.turnover_max)
        case Stage.CASH:
            return same(LimitKind.CASH, max(sheet.cash, 0.0) * sheet.equity)
    return same(LimitKind.NONE, None)


def _permission(wanted: Floats, inputs: Inputs, group: Integers) -> Binding:
    before = inputs.sheet.before[inputs.index]
    short = (wanted < 0) & (not inputs.sheet.limits.allow_short)
    flips = (wanted * before < 0) & (not inputs.sheet.limits.allow_flip)
    kind = np.where(flips, int(LimitKind.FLIP_NOT_ALLOWED), int(LimitKind.REDUCING_ONLY))
    kind = np.where(short, int(LimitKind.SHORT_NOT_ALLOWED), kind)
    return Binding(kind, group, np.zeros(len(kind)), wanted)


def _liquidity(stages: Floats, inputs: Inputs, group: Integers) -> Binding:
    sheet, index = inputs.sheet, inputs.index
    wanted = stages[Stage.LIQUIDITY - 1]
    too_large = (wanted > sheet.adv_weight_max[index]) | (wanted < sheet.adv_weight_min[index])
    position_bound = sheet.limits.adv_position_max or 0.0
    kind = np.where(too_large, int(LimitKind.ADV_POSITION_MAX), sheet.trade_kind[index])
    bound = np.where(too_large, position_bound, sheet.trade_bound[index])
    trade_max = sheet.trade_max[index]
    sold = stages[Stage.LIQUIDITY] < sheet.before[index]
    most = np.where(sold, sheet.sell_max[index], sheet.buy_max[index])
    reversed_kind = (
        LimitKind.FLIP_NOT_ALLOWED if sheet.limits.allow_short else LimitKind.SHORT_NOT_ALLOWED
    )
    kind = np.where(
        most < trade_max, np.where(sold, int(reversed_kind), int(LimitKind.FLIP_NOT_ALLOWED)), kind
    )
    return Binding(kind, group, np.where(most < trade_max, 0.0, bound), wanted)


_GROUP_KINDS = (LimitKind.GROUP_GROSS_MAX, LimitKind.GROUP_NET_MAX, LimitKind.GROUP_NET_MIN)


def _exposure_cut(stage: Stage, stages: Floats, extra: Floats, inputs: Inputs) -> Binding:
    sheet, limits = inputs.sheet, inputs.sheet.limits
    n_groups = len(sheet.group_names)
    code = extra[Extra.EXPOSURE_CUT_KIND].astype(np.int64)
    column = extra[Extra.EXPOSURE_CUT].astype(np.int64)
    if stage is Stage.GROUP_LIMIT:
        group = np.where(column < n_groups, column, -1)
        kind = np.array([int(k) for k in _GROUP_KINDS])[code]
        bounds: Sequence[tuple[float | None, ...]] = [
            (g.gross_weight_max, g.net_weight_max, g.net_weight_min) for g in limits.groups
        ]
        table = np.array([[value or 0.0 for value in row] for row in bounds] or [[0.0] * 3])
        return Binding(kind, group, table[np.maximum(group, 0), code], stages[stage - 1])
    none = np.full(len(code), -1, dtype=np.int64)
    if stage is Stage.SHARED_LIMIT:
        kind = np.full(len(code), int(LimitKind.SHARED_GROSS_NOTIONAL_MAX))
        bound = sheet.bounds[Exposure.GROSS_MAX, -1] * sheet.equity
        return Binding(kind, none, np.full(len(code), bound), stages[stage - 1])
    kinds = np.array([int(sheet.gross_kind), int(LimitKind.NET_MAX), int(LimitKind.NET_MIN)])
    values = np.array(
        [sheet.gross_bound, limits.net_weight_max or 0.0, limits.net_weight_min or 0.0]
    )
    return Binding(kinds[code], none, values[code], stages[stage - 1])


def _status(weight: Floats, binding: Binding, inputs: Inputs) -> Integers:
    status = np.where(binding.kind > 0, LineStatus.CAPPED, LineStatus.SIZED)
    status = np.where(weight == 0.0, LineStatus.ZERO, status)
    return np.where(inputs.active, status, LineStatus.REFUSED).astype(np.int64)
