"""Sensitivities of a stake to what the caller gave, beyond what one kernel differentiates.

The kernel holds the columns fixed that are found beforehand: what a worst case leaves of the stake,
and the numeric shrinkage. Their slopes are central differences here. Edges that age or are
multiplied reach the kernel as k times what was given (`adapt/edge.py`).
"""

import numpy as np

from compute.inputs import Inputs
from compute.market import Floats
from compute.parameters import Shrinkage
from compute.shapes import KernelRegistry, padded
from compute.waterfall.edge_inputs import numeric_shrinkage
from compute.waterfall.kernels import SENSITIVE, chunks
from compute.waterfall.layout import Family, Line, Source, is_of
from compute.waterfall.robust import robust_column

STEP, STEP_MIN = 1e-4, 1e-7
"""Of a central difference, as a share of the number, and at least."""


def through_columns(
    lines: Floats, scalars: Floats, inputs: Inputs, kernels: KernelRegistry
) -> Floats:
    """What columns found beforehand add to d weight / d input, rows as `SENSITIVE`, (5, n)."""
    out, n = np.zeros((len(SENSITIVE), lines.shape[1])), lines.shape[1]
    robust = inputs.parameters.robust is not None
    numeric = inputs.parameters.confidence_shrinkage is Shrinkage.BAKER_MCHALE_NUMERIC
    if not (robust or numeric):
        return out
    weight = np.zeros(n)
    for piece, width in chunks(np.arange(n)):
        band = kernels.run("trade_band", padded(lines[:, piece], width), scalars)
        weight[piece] = band[0, : len(piece)]
    weight = weight * lines[Line.SIDE] * lines[Line.ACTIVE]

    def left(row: Line, change: Floats) -> Floats:
        moved = lines.copy()
        moved[row] += change
        share = np.ones(n)
        if robust:
            share = share * robust_column(moved, inputs, kernels)
        if numeric:
            numeric_shrinkage(moved, inputs.parameters, kernels)
            share = share * moved[Line.SHRINKAGE]
        return share

    now = left(SENSITIVE[0], np.zeros(n))
    some = now > 0.0
    for place, row in enumerate(SENSITIVE):
        step = np.maximum(STEP * np.abs(lines[row]), STEP_MIN)
        slope = (left(row, step) - left(row, -step)) / (2.0 * step)
        out[place] = np.where(some, weight * slope / np.where(some, now, 1.0), 0.0)
    return np.nan_to_num(out)


def of_given(out: Floats, lines: Floats, inputs: Inputs) -> Floats:
    """Sensitivities (5, n) to the edges used as those to the edges given.

    p' = p0 + k (p - p0) with p0 = a / (a + b), m' = r + k (m - r); histories are estimates.
    """
    k = inputs.parameters.edge_multiplier * np.ones(lines.shape[1])
    if inputs.signals.history_multiplier is not None:
        k = k * inputs.signals.history_multiplier
    k = np.where(lines[Line.SOURCE] == Source.HISTORY, 1.0, k)
    chance, payoff, loss, mean, volatility = out
    gain, lost = lines[Line.PAYOFF], lines[Line.LOSS_FRACTION]
    total = np.where(is_of(lines[Line.SOURCE], Family.BET), gain + lost, np.inf) ** 2
    return np.stack(
        [
            k * chance,
            payoff - (1.0 - k) * chance * lost / total,
            loss + (1.0 - k) * chance * gain / total,
            k * mean,
            volatility,
        ]
    )
