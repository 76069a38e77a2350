"""What a decision says of the volatilities that it took from a model."""

import numpy as np
from positionsizing.v1 import sizing_pb2

from compute.methods import Engine
from compute.waterfall.layout import Stage
from compute.waterfall.pipeline import Sizing
from server.convert import decision as decision_convert
from server.convert.columns import Piece
from server.sizing.prepared_request import PreparedRequest


def fill(head: sizing_pb2.SizingDecision, problem: PreparedRequest, sizing: Sizing) -> list[Piece]:
    """Fills the state and the adjustment; returns the column of volatilities, encoded."""
    taken, inputs = problem.context.volatility, problem.inputs
    if taken is None:
        return []
    head.versions.volatility_state = taken.name
    market = inputs.limit_bounds.market
    volatility = np.zeros(len(inputs.index))
    if market.volatility is not None:
        volatility = np.where(inputs.known, market.volatility[inputs.index], 0.0)
    target = inputs.parameters.volatility_target
    if (
        target is not None and problem.inputs.method.engine is Engine.STAKES
    ):  # others cut in no stage
        before, after = np.abs(sizing.stages[[Stage.CORRELATION, Stage.VOLATILITY_TARGET]])
        left = np.where(before > 0.0, after / np.where(before > 0.0, before, 1.0), 1.0)
        lost, least = int((left < 1.0).sum()), int(np.argmin(left))
        text = f"{taken.name} as of {taken.as_of_time or 'no snapshot yet'}: the target {target:g} "
        text += f"made {lost} of {len(left)} lines smaller"
        if lost:
            text += f", {problem.ids[least]!r} most, of annual volatility {volatility[least]:.4g}"
        head.adjustments.add(
            source=sizing_pb2.ADJUSTMENT_SOURCE_VOLATILITY,
            name=taken.model_id,
            multiplier=float(left[least]),
            is_binding=lost > 0,
            explanation=text,
        )
    return decision_convert.annual_volatility(volatility)
