"""A sizing decision as the contract's message."""

from typing import Any

import numpy as np
from positionsizing.v1 import sizing_pb2 as pb
from positionsizing.v1 import types_pb2

from compute.columns import Stage
from compute.decide import Inputs, Sizing
from compute.kernels import SENSITIVE
from compute.signals import LineError
from server.convert.columns import Floats, set_floats, set_small
from server.convert.request import path_of

# The contract's number of each row of the waterfall; the lots come last.
STAGE_NUMBERS = (
    *(types_pb2.SizingStage.Value(f"SIZING_STAGE_{stage.name}") for stage in Stage),
    types_pb2.SIZING_STAGE_LOTS,
)


def sizes(message: pb.PositionSizes, ids: Any, sizing: Sizing, inputs: Inputs) -> None:
    """Fills the columns of a decision; `ids`: the instruments as they came in the request."""
    sheet, index = inputs.sheet, inputs.index
    price = np.where(inputs.known, sheet.market.price[index], 0.0)
    lot_size = np.where(inputs.known, sheet.market.lot_size[index], 0.0)
    before = np.where(inputs.known, sheet.before[index], 0.0)
    message.instrument_ids.MergeFrom(ids)
    set_small(message, "line_status", sizing.status)
    message.lots.extend(sizing.lots.tolist())
    message.trade_lots.extend(sizing.trade_lots.tolist())
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
        set_floats(message, name, column)
    set_small(message, "binding", sizing.binding.kind)
    set_small(message, "binding_group", sizing.binding.group + 1)
    message.group_names.extend(sheet.group_names)


def waterfall(message: pb.Waterfall, sizing: Sizing) -> None:
    """Fills the stages that changed any line, the first and the last always."""
    stages = sizing.stages
    changed = np.any(stages[1:] != stages[:-1], axis=1)
    for row, number in enumerate(STAGE_NUMBERS):
        last = len(STAGE_NUMBERS) - 1
        if row not in (0, last) and not changed[row - 1]:
            continue
        entry = message.stages.add(stage=number)
        set_floats(entry, "weight", stages[row])
        if row == last or row not in sizing.cuts:
            continue
        cut = sizing.cuts[Stage(row)]
        set_small(entry, "limit", cut.kind)
        set_small(entry, "limit_group", cut.group + 1)
        set_floats(entry, "limit_bound", cut.bound)


def sensitivities(message: pb.Sensitivities, gradient: Floats) -> None:
    """Fills d weight / d input, rows in the order of `compute.kernels.SENSITIVE`."""
    for line, row in zip(SENSITIVE, gradient, strict=True):
        set_floats(message, line.name.lower(), row)


def line_errors(message: pb.SizingDecision, errors: list[LineError], offset: str = "") -> None:
    """Fills the refused lines."""
    for error in errors:
        message.line_errors.add(
            line=error.line,
            field=offset + path_of(error),
            reason=error.reason,
            message=error.message,
        )


def summary(message: pb.PortfolioSummary, sizing: Sizing, inputs: Inputs, cash: Floats) -> None:
    """Fills money and exposures; `cash`: reserved per line, base currency."""
    sheet = inputs.sheet
    before = np.where(inputs.known, sheet.before[inputs.index], 0.0)
    change = sizing.weight - before
    message.equity = sheet.equity
    message.cash_available = sheet.positions.cash - sheet.positions.cash_reserved
    message.cash_reserved = float(cash.sum())
    message.gross_weight_before = sheet.gross_before
    message.gross_weight_after = sheet.gross_before + float(
        (np.abs(sizing.weight) - np.abs(before)).sum()
    )
    message.net_weight_before = sheet.net_before
    message.net_weight_after = sheet.net_before + float(change.sum())
    message.turnover = float(np.abs(change).sum())


def cash_needed(sizing: Sizing, inputs: Inputs) -> Floats:
    """Cash each line's trade may take, fees included, base currency, (n,); 0 for reductions."""
    limits, sheet = inputs.sheet.limits, inputs.sheet
    price = sheet.market.price[inputs.index]
    after = sizing.quantity * price
    before = after - sizing.trade_lots * sheet.market.lot_size[inputs.index] * price
    fee = limits.fee_rate or 0.0
    margin = 1.0 if limits.short_margin_rate is None else limits.short_margin_rate
    bought = np.maximum(np.maximum(after, 0.0) - np.maximum(before, 0.0), 0.0)
    shorted = np.maximum(np.maximum(-after, 0.0) - np.maximum(-before, 0.0), 0.0)
    needed: Floats = bought + margin * shorted + fee * np.abs(after - before)
    return needed
