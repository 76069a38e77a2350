"""Fills the rows of the sizing kernel that say where what is held is left alone."""

import numpy as np
from numpy.typing import NDArray

from compute.inputs import Inputs
from compute.market import Floats, Integers
from compute.parameters import EffectiveParameters, NoTradeRegion
from compute.shapes import KernelRegistry, padded
from compute.waterfall.kernels import chunks
from compute.waterfall.layout import Line

NO_BAND = -1.0


def banded_lines(lines: Floats, inputs: Inputs) -> Integers:
    """Places of the lines with a band.

    Lines that cost nothing have none: their target is the one point of it.
    """
    if inputs.target is not None:
        return np.zeros(0, dtype=np.int64)
    costs = (lines[Line.TRADE_COST] > 0.0) | (lines[Line.IMPACT] > 0.0)
    return np.flatnonzero(costs & inputs.active & has_band(inputs))


def band_columns(
    lines: Floats,
    banded: Integers,
    scalars: Floats,
    parameters: EffectiveParameters,
    kernels: KernelRegistry,
) -> None:
    """Writes BAND_LOW and BAND_HIGH of the lines `banded` into `lines` (len(Line), n)."""
    first = 2 if parameters.no_trade_region is NoTradeRegion.LONG_RUN else 0
    for piece, size in chunks(banded):
        columns = padded(lines[:, piece], len(Line), size)
        ends = kernels.run("trade_band", columns, scalars)[first : first + 2, : len(piece)]
        lines[np.ix_(np.array([Line.BAND_LOW, Line.BAND_HIGH]), piece)] = ends


def has_band(inputs: Inputs) -> NDArray[np.bool_]:
    """Lines of which only trades are charged, (n,): by the parameters, or by their holding time."""
    chosen, given = inputs.parameters.no_trade_region, inputs.signals.holding_periods
    if chosen is not None or given is None:
        some = chosen is not None and chosen is not NoTradeRegion.NONE
        return np.full(len(inputs.index), some)
    return np.asarray(given > 0.0)
