"""A sizing decision as the contract's message: its columns encoded, the rest filled in."""

from collections.abc import Sequence

import numpy as np
from positionsizing.v1 import sizing_pb2 as pb
from positionsizing.v1 import types_pb2

from compute.inputs import Inputs
from compute.joint.lots import LotComparison
from compute.limits.cluster_limits import Cluster
from compute.money.margin import need
from compute.signals import LineError
from compute.waterfall.kernels import SENSITIVE
from compute.waterfall.layout import Stage
from compute.waterfall.pipeline import Sizing
from compute.waterfall.planned_periods import PlannedPeriod
from server.convert import edge as edge_convert
from server.convert.columns import Floats, Piece, encoder, set_floats
from server.sizing.request import path_of

Stages = Sequence[types_pb2.SizingStage.ValueType]

# The contract's number of each row of the waterfall; the lots come last.
STAGE_NUMBERS = (
    *(types_pb2.SizingStage.Value(f"SIZING_STAGE_{stage.name}") for stage in Stage),
    types_pb2.SIZING_STAGE_LOTS,
)


ALGORITHM_STAGE_NUMBERS = tuple(
    types_pb2.SIZING_STAGE_ALGORITHM if number == types_pb2.SIZING_STAGE_JOINT_OPTIMUM else number
    for number in STAGE_NUMBERS
)
"""The same where a custom algorithm has the place of the joint optimum."""


def columns(
    ids: Sequence[str], sizing: Sizing, inputs: Inputs, stages: Stages = STAGE_NUMBERS
) -> list[Piece]:
    """What a decision says of its lines, encoded; `stages`: the numbers of its stages."""
    return [
        *_DECISION.message("sizes", _sizes(ids, sizing, inputs)),
        *_DECISION.message("waterfall", _stages(sizing, stages)),
        *_edges(ids, sizing),
    ]


def annual_volatility(values: Floats) -> list[Piece]:
    """One more column of the sizes, encoded."""
    return _DECISION.message("sizes", _SIZES.floats("annual_volatility", values))


def _edges(ids: Sequence[str], sizing: Sizing) -> list[Piece]:
    if sizing.edges is None:
        return []
    return _DECISION.message("edges", edge_convert.pieces(ids, sizing.edges))


def sensitivities(gradient: Floats) -> list[Piece]:
    """d weight / d input, encoded; rows in the order of `compute.waterfall.kernels.SENSITIVE`."""
    rows = zip(SENSITIVE, gradient, strict=True)
    pieces = [p for line, row in rows for p in _SENSITIVITIES.floats(line.name.lower(), row)]
    return _DECISION.message("sensitivities", pieces)


_DECISION = encoder(pb.SizingDecision.DESCRIPTOR)
_SIZES = encoder(pb.PositionSizes.DESCRIPTOR)
_WATERFALL = encoder(pb.Waterfall.DESCRIPTOR)
_STAGE = encoder(pb.WaterfallStage.DESCRIPTOR)
_SENSITIVITIES = encoder(pb.Sensitivities.DESCRIPTOR)


def _sizes(ids: Sequence[str], sizing: Sizing, inputs: Inputs) -> list[Piece]:
    """The pieces of `PositionSizes`; `ids`: the instruments as they came in the request."""
    limit_bounds, index, known = inputs.limit_bounds, inputs.index, inputs.known
    price, lot_size = limit_bounds.market.price[index], limit_bounds.market.lot_size[index]
    before = limit_bounds.before[index]
    if not known.all():
        price, lot_size = np.where(known, price, 0.0), np.where(known, lot_size, 0.0)
        before = np.where(known, before, 0.0)
    names = pb.PositionSizes(instrument_ids=ids, group_names=limit_bounds.limit_names)
    out: list[Piece] = [
        names.SerializeToString(),
        *_SIZES.small("line_status", sizing.status),
        *_SIZES.fixed("lots", sizing.lots),
        *_SIZES.fixed("trade_lots", sizing.trade_lots),
    ]
    for name, column in (
        ("lot_size", lot_size),
        ("price", price),
        ("quantity", sizing.quantity),
        ("weight", sizing.weight),
        ("notional", sizing.quantity * price),
        ("weight_before", before),
        ("weight_low", sizing.weight_low),
        ("weight_high", sizing.weight_high),
        ("expected_growth", sizing.growth),
        ("marginal_growth", sizing.marginal),
        ("binding_bound", sizing.binding.bound),
        ("weight_without_binding", sizing.binding.without),
    ):
        out += _SIZES.floats(name, column)
    out += _SIZES.small("binding", sizing.binding.kind)
    out += _SIZES.small("binding_group", sizing.binding.group + 1)
    return out


def _stages(sizing: Sizing, numbers: Stages) -> list[Piece]:
    """The stages that changed any line, the first and the last always."""
    out: list[Piece] = []
    stages, last = sizing.stages, len(numbers) - 1
    changed = (stages[1:] != stages[:-1]).any(axis=1)
    for row, number in enumerate(numbers):
        if row not in (0, last) and not changed[row - 1]:
            continue
        pieces = [_STAGE_HEADS[number], *_STAGE.floats("weight", stages[row])]
        if (cut := sizing.cuts.get(row)) is not None:
            pieces += _STAGE.small("limit", cut.kind)
            pieces += _STAGE.small("limit_group", cut.group + 1)
            pieces += _STAGE.floats("limit_bound", cut.bound)
        out += _WATERFALL.message("stages", pieces)
    return out


_STAGE_HEADS = {
    number: pb.WaterfallStage(stage=types_pb2.SizingStage.ValueType(number)).SerializeToString()
    for number in {*STAGE_NUMBERS, *ALGORITHM_STAGE_NUMBERS}
}


def line_errors(message: pb.SizingDecision, errors: list[LineError], offset: str = "") -> None:
    """Fills the refused lines."""
    for error in errors:
        message.line_errors.add(
            line=error.line,
            field=offset + path_of(error),
            reason=error.reason,
            message=error.message,
        )


def clusters(message: pb.SizingDecision, found: Sequence[Cluster]) -> None:
    """Fills what the limits on clusters found."""
    for item in found:
        message.clusters.add(limit=item.limit, name=item.name, instrument_ids=item.instrument_ids)


def plan(message: pb.SizingDecision, periods: Sequence[PlannedPeriod]) -> None:
    """Fills what is planned ahead, where anything is."""
    for period in periods:
        told = message.plan.periods.add()
        set_floats(told, "weight", period.weight)
        if period.lots is None or period.binding is None:
            continue
        told.lots.extend(period.lots.tolist())
        if not period.binding.kind.any():
            continue
        told.binding.extend(period.binding.kind.tolist())
        told.binding_group.extend((period.binding.group + 1).tolist())
        set_floats(told, "binding_bound", period.binding.bound)


def lot_search(message: pb.SizingDecision, found: LotComparison | None) -> None:
    """Fills what a search for whole lots found, where one was asked for."""
    if found is not None:
        message.lot_search.CopyFrom(pb.LotSearch(**vars(found)))


def summary(message: pb.PortfolioSummary, sizing: Sizing, inputs: Inputs, cash: Floats) -> None:
    """Fills money and exposures; `cash`: reserved per line, base currency."""
    limit_bounds = inputs.limit_bounds
    before = np.where(inputs.known, limit_bounds.before[inputs.index], 0.0)
    change = sizing.weight - before
    message.equity = limit_bounds.equity
    message.cash_available = limit_bounds.capital.free
    message.margin_used = limit_bounds.capital.used
    message.cash_reserved = float(cash.sum())
    message.gross_weight_before = limit_bounds.gross_before
    message.gross_weight_after = limit_bounds.gross_before + float(
        (np.abs(sizing.weight) - np.abs(before)).sum()
    )
    message.net_weight_before = limit_bounds.net_before
    message.net_weight_after = limit_bounds.net_before + float(change.sum())
    message.turnover = float(np.abs(change).sum())


def cash_needed(sizing: Sizing, inputs: Inputs) -> Floats:
    """What each line's trade may bind, fees included, base currency, (n,); `compute.money.margin`.

    Reductions bind their fee, and give nothing back before they are filled.
    """
    limit_bounds, index = inputs.limit_bounds, inputs.index
    unit, terms = limit_bounds.market.price[index], limit_bounds.terms
    book = limit_bounds.positions
    needed: Floats = need(
        sizing.trade_lots * limit_bounds.market.lot_size[index] * unit,
        unit * (book.held - book.open_sell)[index],
        unit * (book.held + book.open_buy)[index],
        terms.rate_long[index],
        terms.rate_short[index],
        terms.fee[index],
        at_once=False,
    )
    traded = np.abs(sizing.trade_lots * limit_bounds.market.lot_size[index] * unit)
    return needed + terms.order_fees(index, traded)
