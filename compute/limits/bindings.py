"""Which limit cut each line, in each stage and last: what explains a size."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compute.inputs import Inputs
from compute.limits.binding import Binding
from compute.limits.bounds import LimitBounds
from compute.limits.guard import Violation
from compute.limits.liquidity import volume_share
from compute.limits.lots import Lots
from compute.limits.policy import Holder, LimitKind
from compute.limits.stops import may_not_grow
from compute.market import Floats, Integers
from compute.waterfall.layout import Exposure, Extra, Stage
from compute.waterfall.stake_rules import RULES

_ONE_LIMIT = {rule.stage: rule.limit for rule in RULES if rule.limit} | {
    Stage.TURNOVER_LIMIT: LimitKind.TURNOVER_MAX
}
"""Stages in which one limit cuts, at the bound that its field states."""

LIMIT_STAGES = tuple(s for s in Stage if s in _ONE_LIMIT or s >= Stage.JOINT_OPTIMUM)
"""Stages that cut by a limit or a risk rule."""

ABOVE_ROUNDING = 1.0 + 1e-9
"""Times a weight: what is larger is so by more than rounding."""

ROUNDING = 1e-9
"""Weight within which a joint optimum keeps its limits."""


def cuts_of(
    stages: Floats, extra: Floats, lots: Lots, inputs: Inputs, moved: Integers
) -> dict[int, Binding]:
    """What cut, by the row of `stages` that it made; kind 0 for the lines it left alone.

    moved: the rule of the book that moved each line, -1 for none (`book_stage.py`).
    """
    out: dict[int, Binding] = {}
    changed = stages[1:] != stages[:-1]
    touched = changed.any(axis=1)
    for stage in LIMIT_STAGES:
        if stage is Stage.JOINT_OPTIMUM and inputs.target_binding is not None:
            # What came before is not the way to this optimum: its rules bind nothing.
            out = {stage: inputs.target_binding}
        if stage is Stage.JOINT_OPTIMUM or not touched[stage - 1]:
            continue
        what, cut = _stage_limits(stage, stages, extra, inputs), changed[stage - 1]
        if stage is Stage.BOOK_LIMIT:
            what = _book_cut(stages[stage - 1], inputs, moved)
        if inputs.target is not None and stage > Stage.JOINT_OPTIMUM:
            # The optimum keeps every limit but for its rounding, which is no cut.
            cut = cut & (np.abs(stages[stage] - stages[stage - 1]) > ROUNDING)
        if not cut.all():
            what = Binding(
                np.where(cut, what.kind, 0),
                np.where(cut, what.group, -1),
                np.where(cut, what.bound, 0.0),
                what.without,
            )
        out[stage] = what
    if (rounded := _lots_cut(stages, lots, inputs)) is not None:
        out[len(Stage)] = rounded
    return out


def last_binding(stages: Floats, cuts: dict[int, Binding]) -> Binding:
    """The last limit that cut each line."""
    n = stages.shape[1]
    none = np.zeros(n, dtype=np.int64)
    last = Binding(none, none - 1, np.zeros(n), stages[Stage.BOOK_LIMIT])
    for what in cuts.values():
        cut = what.kind > 0
        last = what if cut.all() else _later(cut, what, last)
    return last


def _later(cut: NDArray[np.bool_], what: Binding, before: Binding) -> Binding:
    """`what` for the lines it cut, `before` for the others."""
    return Binding(
        np.where(cut, what.kind, before.kind),
        np.where(cut, what.group, before.group),
        np.where(cut, what.bound, before.bound),
        np.where(cut, what.without, before.without),
    )


def _lots_cut(stages: Floats, lots: Lots, inputs: Inputs) -> Binding | None:
    """Weights that are less than a lot, trades below the minimum, and what the guard took back.

    What is less than a lot is not bought, and where it is held already it is not sold.
    """
    limit_bounds, wanted, made = inputs.limit_bounds, stages[Stage.BOOK_LIMIT], stages[-1]
    lot_weight = (limit_bounds.unit_weight * limit_bounds.market.lot_size)[inputs.index]
    kept = (wanted == 0) & (made != 0) & (np.abs(made) < lot_weight)
    small = inputs.active & (kept | ((wanted != 0) & (np.sign(made) != np.sign(wanted))))
    if not (small.any() or lots.limit.any()):
        return None
    kind = np.where(small & (lots.limit == 0), int(LimitKind.LOT_SIZE), lots.limit)
    group, bound = np.full(len(kind), -1, dtype=np.int64), np.zeros(len(kind))
    for broken in lots.rejected[:1]:
        taken = kind == broken.kind
        bound[taken] = _in_own_unit(broken, limit_bounds.scale)
        if broken.name in limit_bounds.limit_names:
            group[taken] = limit_bounds.limit_names.index(broken.name)
    kind, bound = _of_instruments(kind, bound, limit_bounds, inputs.index)
    bound[kind == limit_bounds.trade_min.kind] = limit_bounds.trade_min.bound
    whole = kind == LimitKind.LOT_SIZE
    bound[whole] = limit_bounds.market.lot_size[inputs.index[whole]]
    return Binding(kind, group, bound, wanted)


def _of_instruments(
    kind: Integers, bound: Floats, limit_bounds: LimitBounds, index: Integers
) -> tuple[Integers, Floats]:
    """Kinds and bounds with the limits behind the guard's ceilings, (n,) each.

    The guard holds a position, and a trade, against one ceiling in money, the least of all; which
    limit that is of, and its bound in its own unit, is told here.
    """
    caps = limit_bounds.caps
    volume_kind, _, volume_bound = volume_share(limit_bounds.limits)
    by_volume = caps.adv[index] < caps.weight[index]
    position_kind = np.where(by_volume, int(volume_kind), caps.kind[index])
    position_bound = np.where(by_volume, volume_bound, caps.bound[index])
    of_position, of_trade = kind == LimitKind.NOTIONAL_MAX, kind == LimitKind.TRADE_NOTIONAL_MAX
    bound = np.where(of_position, position_bound, bound)
    bound = np.where(of_trade, caps.trade_bound[index], bound)
    kind = np.where(of_position, position_kind, kind)
    return np.where(of_trade, caps.trade_kind[index], kind), bound


def stated_limit(broken: Violation, limit_bounds: LimitBounds) -> tuple[LimitKind, float]:
    """The limit that lots would break, and its bound in its own unit as its field states it."""
    limits, field = limit_bounds.limits, broken.kind.fields[:1]
    bound = _in_own_unit(broken, limit_bounds.scale)
    if (place := limit_bounds.market.index.get(broken.name)) is not None:
        one = np.array([int(broken.kind)]), np.array([bound])
        kind, own = _of_instruments(*one, limit_bounds, np.array([place]))
        return LimitKind(int(kind[0])), float(own[0])
    # What the guard held it against may be less: what pending trades may still use is off it.
    holder: object = None
    if broken.kind.holder is Holder.LIMITS and broken.kind is not LimitKind.CASH:
        holder = limits
    elif broken.kind.holder is Holder.GROUP:
        holder = next((group for group in limits.groups if group.name == broken.name), None)
    given = getattr(holder, field[0], None) if field else None
    return broken.kind, bound if given is None else float(given)


def _book_cut(wanted: Floats, inputs: Inputs, moved: Integers) -> Binding:
    """`moved`: the rule of the book that moved each line, -1 for none."""
    guard = inputs.book_guard
    if guard is None:
        none = np.zeros(len(moved), dtype=np.int64)
        return Binding(none, none - 1, np.zeros(len(moved)), wanted)
    rules, first = guard.rules, len(inputs.limit_bounds.group_names)
    kind = np.array([int(rule.kind) for rule in rules] + [0])[moved]
    row = np.array([first + rule.row if rule.row >= 0 else -1 for rule in rules] + [-1])[moved]
    bound = np.array([rule.stated for rule in rules] + [0.0])[moved]
    return Binding(kind, row, bound, wanted)


_LOWER = (LimitKind.NET_MIN, LimitKind.GROUP_NET_MIN)
_WEIGHTS = (
    LimitKind.NET_MAX,
    LimitKind.GROUP_NET_MAX,
    LimitKind.GROUP_GROSS_MAX,
    LimitKind.LEVERAGE_MAX,
    LimitKind.TURNOVER_MAX,
)


def _in_own_unit(broken: Violation, equity: float) -> float:
    """The bound of a violation as its limit states it, where the guard speaks of money."""
    if broken.kind in _LOWER:
        return -broken.bound / equity
    return broken.bound / equity if broken.kind in _WEIGHTS else broken.bound


def _stage_limits(stage: Stage, stages: Floats, extra: Floats, inputs: Inputs) -> Binding:
    """Which limit cuts each line in a stage, were it cut there; `without` is what went in."""
    limit_bounds, index = inputs.limit_bounds, inputs.index
    limits, parameters = limit_bounds.limits, inputs.parameters
    n = len(index)
    group = np.full(n, -1, dtype=np.int64)

    def same(kind: LimitKind, bound: float | None) -> Binding:
        return Binding(np.full(n, int(kind)), group, np.full(n, bound or 0.0), stages[stage - 1])

    if (kind := _ONE_LIMIT.get(stage)) is not None:
        stated = parameters if kind.holder is Holder.PARAMETERS else limits
        return same(kind, getattr(stated, kind.fields[0]))
    match stage:
        case Stage.PERMISSION:
            return _permission(stages[stage - 1], inputs, group)
        case Stage.MINIMUM_TRADE:
            return same(limit_bounds.trade_min.kind, limit_bounds.trade_min.bound)
        case Stage.INSTRUMENT_LIMIT:
            kinds, bounds = limit_bounds.cap_kind[index], limit_bounds.cap_bound[index]
            stopless = may_not_grow(inputs)
            kinds = np.where(stopless, int(LimitKind.STOP_REQUIRED), kinds)
            bounds = np.where(stopless, 0.0, bounds)
            if inputs.placeless is not None:
                kinds = np.where(inputs.placeless, int(LimitKind.POSITIONS_MAX), kinds)
                bounds = np.where(inputs.placeless, limits.positions_max or 0, bounds)
            return Binding(kinds, group, bounds, stages[stage - 1])
        case Stage.LIQUIDITY:
            return _liquidity(stages, inputs, group)
        case Stage.GROUP_LIMIT | Stage.EXPOSURE_LIMIT | Stage.SHARED_LIMIT:
            code = extra[Extra.EXPOSURE_CUT_KIND].astype(np.int64)
            column = extra[Extra.EXPOSURE_CUT].astype(np.int64)
            return _exposure_cut(stage, code, column, stages[stage - 1], inputs)
        case Stage.CASH:
            return same(LimitKind.CASH, max(limit_bounds.free, 0.0) * limit_bounds.scale)
        case Stage.RECONCILE:
            return _reconciled(stages[stage - 1], inputs)
    return same(LimitKind.NONE, None)


def _permission(wanted: Floats, inputs: Inputs, group: Integers) -> Binding:
    before = inputs.limit_bounds.before[inputs.index]
    short = (wanted < 0) & (not inputs.limit_bounds.limits.allow_short)
    flips = (wanted * before < 0) & (not inputs.limit_bounds.limits.allow_flip)
    reducing = LimitKind.NO_EQUITY if inputs.limit_bounds.is_closing else LimitKind.REDUCING_ONLY
    kind = np.where(flips, int(LimitKind.FLIP_NOT_ALLOWED), int(reducing))
    kind = np.where(short, int(LimitKind.SHORT_NOT_ALLOWED), kind)
    # What may not be held at all is not held on the other side later either.
    restricted = inputs.limit_bounds.cap_kind[inputs.index] == LimitKind.RESTRICTED
    kind = np.where(restricted & (short | flips), int(LimitKind.RESTRICTED), kind)
    return Binding(kind, group, np.zeros(len(kind)), wanted)


def reversal_kinds(limit_bounds: LimitBounds, index: Integers) -> tuple[Integers, Integers]:
    """What ends a purchase and a sale before they change the side, (n,) each: kinds of limits.

    Where less can be traded back than there will be once everything open is filled, it is what is
    reserved and not filled yet; else it is the side.
    """
    before = limit_bounds.before[index]
    buy, sell = limit_bounds.buy_max[index], limit_bounds.sell_max[index]
    flip, reserved = int(LimitKind.FLIP_NOT_ALLOWED), int(LimitKind.RESERVED)
    short = flip if limit_bounds.limits.allow_short else int(LimitKind.SHORT_NOT_ALLOWED)
    bought = np.where(-before > buy * ABOVE_ROUNDING, reserved, flip)
    sold = np.where(before > sell * ABOVE_ROUNDING, reserved, short)
    return bought, sold


def _liquidity(stages: Floats, inputs: Inputs, group: Integers) -> Binding:
    limit_bounds, index = inputs.limit_bounds, inputs.index
    wanted = stages[Stage.LIQUIDITY - 1]
    too_large = (wanted > limit_bounds.adv_weight_max[index]) | (
        wanted < limit_bounds.adv_weight_min[index]
    )
    position_kind, _, position_bound = volume_share(limit_bounds.limits)
    kind = np.where(too_large, int(position_kind), limit_bounds.trade_kind[index])
    bound = np.where(too_large, position_bound, limit_bounds.trade_bound[index])
    trade_max = limit_bounds.trade_max[index]
    sold = wanted < limit_bounds.before[index]
    most = np.where(sold, limit_bounds.sell_max[index], limit_bounds.buy_max[index])
    bought_kind, sold_kind = reversal_kinds(limit_bounds, index)
    kind = np.where(most < trade_max, np.where(sold, sold_kind, bought_kind), kind)
    return Binding(kind, group, np.where(most < trade_max, 0.0, bound), wanted)


_GROUP_KINDS = (LimitKind.GROUP_GROSS_MAX, LimitKind.GROUP_NET_MAX, LimitKind.GROUP_NET_MIN)


def _exposure_cut(
    stage: Stage, code: Integers, column: Integers, wanted: Floats, inputs: Inputs
) -> Binding:
    """`code`: 0 gross, 1 net maximum, 2 net minimum; `column`: of the group, (n,) each."""
    limit_bounds, limits = inputs.limit_bounds, inputs.limit_bounds.limits
    n_groups = len(limit_bounds.group_names)
    if stage is Stage.GROUP_LIMIT:
        group = np.where(column < n_groups, column, -1)
        kind = np.array([int(k) for k in _GROUP_KINDS])[code]
        bounds: Sequence[tuple[float | None, ...]] = [
            (g.gross_weight_max, g.net_weight_max, g.net_weight_min) for g in limits.groups
        ]
        table = np.array([[value or 0.0 for value in row] for row in bounds] or [[0.0] * 3])
        return Binding(kind, group, table[np.maximum(group, 0), code], wanted)
    none = np.full(len(code), -1, dtype=np.int64)
    if stage is Stage.SHARED_LIMIT:
        kind = np.full(len(code), int(LimitKind.SHARED_GROSS_NOTIONAL_MAX))
        bound = limit_bounds.bounds[Exposure.GROSS_MAX, -1] * limit_bounds.scale
        return Binding(kind, none, np.full(len(code), bound), wanted)
    kinds = np.array([int(limit_bounds.gross_kind), int(LimitKind.NET_MAX), int(LimitKind.NET_MIN)])
    values = np.array(
        [limit_bounds.gross_bound, limits.net_weight_max or 0.0, limits.net_weight_min or 0.0]
    )
    return Binding(kinds[code], none, values[code], wanted)


def _reconciled(wanted: Floats, inputs: Inputs) -> Binding:
    """The bound that all trades together, as they were, would exceed most."""
    limit_bounds, index, n = inputs.limit_bounds, inputs.index, len(wanted)
    before = limit_bounds.before[index]
    weight, members = np.where(inputs.active, wanted, before), limit_bounds.members[:, index]
    gross, net = limit_bounds.bounds[Exposure.OTHER_GROSS], limit_bounds.bounds[Exposure.OTHER_NET]

    def excess(gross: Floats, net: Floats) -> Floats:
        most, least = limit_bounds.bounds[Exposure.NET_MAX], limit_bounds.bounds[Exposure.NET_MIN]
        return np.stack([gross - limit_bounds.bounds[Exposure.GROSS_MAX], net - most, least - net])

    after = excess(
        gross + members @ (np.abs(weight) - np.abs(before)), net + members @ (weight - before)
    )
    worse = after - np.maximum(excess(gross, net), 0.0)
    code, column = np.unravel_index(int(worse.argmax()), worse.shape)
    n_groups = len(limit_bounds.group_names)
    later = (Stage.EXPOSURE_LIMIT, Stage.SHARED_LIMIT)
    stage = Stage.GROUP_LIMIT if column < n_groups else later[int(column) - n_groups]
    return _exposure_cut(stage, np.full(n, code), np.full(n, column), wanted, inputs)
