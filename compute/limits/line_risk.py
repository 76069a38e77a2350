"""Risk rules of single lines as caps of their weights: volatility target and risk at the stop."""

from dataclasses import dataclass

import numpy as np

from compute.inputs import Inputs
from compute.limits.policy import LimitKind
from compute.limits.stops import stop_loss
from compute.market import Floats
from compute.waterfall.stages import GRID


@dataclass(frozen=True)
class RiskCap:
    """|weight| <= weight_max, (n,) over all lines; infinite where a line shows no such risk.

    bound: the rule as it is stated, a share of equity.
    """

    kind: LimitKind
    bound: float
    weight_max: Floats


def risk_caps(inputs: Inputs) -> list[RiskCap]:
    """The rules in force: target / volatility, and what may be lost / loss at the stop."""
    parameters, volatility = inputs.parameters, inputs.limit_bounds.market.volatility
    found: list[RiskCap] = []
    if parameters.volatility_target is not None and volatility is not None:
        of_lines = volatility[inputs.index]
        found.append(_cap(LimitKind.VOLATILITY_TARGET, parameters.volatility_target, of_lines))
    if parameters.stop_risk_max is not None:
        found.append(_cap(LimitKind.STOP_RISK, parameters.stop_risk_max, stop_loss(inputs)))
    return found


def within_caps(weight: Floats, inputs: Inputs) -> Floats:
    """Weights (n,) of the waterfall, put on the cap of a rule where its grid is all they are over.

    Half a step of the grid can be many lots.
    """
    for cap in risk_caps(inputs):
        by_grid = np.abs(weight) - cap.weight_max
        on_cap = (by_grid > 0.0) & (by_grid <= 1.0 / GRID)
        weight = np.where(on_cap, np.copysign(cap.weight_max, weight), weight)
    return weight


def _cap(kind: LimitKind, bound: float, risk: Floats) -> RiskCap:
    return RiskCap(
        kind, bound, np.where(risk > 0.0, bound / np.where(risk > 0.0, risk, 1.0), np.inf)
    )
