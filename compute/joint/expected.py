"""What signals expect of returns in the joint method: shrunk, aged, and held against the worst."""

import numpy as np

from compute.adapt.edge import scaled_mean_change
from compute.inputs import Inputs
from compute.market import Floats, Integers, MissingInputError
from compute.parameters import Shrinkage
from compute.waterfall.layout import Family, is_of


def expected_means(inputs: Inputs, lines: Integers) -> Floats:
    """Expected returns of holding the instrument, shrunk as the stake would be, (k,)."""
    signals, parameters = inputs.signals, inputs.parameters
    if (
        signals.expected_return is None
        or not is_of(inputs.signals.source[lines], Family.MOMENTS).all()
    ):
        raise MissingInputError(
            "MISSING_MATRIX", "lines with edge_source SCENARIOS need a scenario_matrix_id"
        )
    excess = signals.expected_return[lines] - parameters.risk_free_rate
    given = signals.expected_return_error
    error = np.zeros(len(lines)) if given is None else given[lines]
    factor = edge_left(inputs, lines, excess, error)
    means: Floats = signals.side[lines] * (factor * excess + parameters.risk_free_rate)
    return means


def edge_left(inputs: Inputs, lines: Integers, edge: Floats, error: Floats) -> Floats:
    """The share of an edge that is left of its uncertainty, (k,).

    edge^2 / (edge^2 + error^2), times what its worst case leaves.
    """
    worst = np.ones(len(lines)) if inputs.robust is None else inputs.robust[lines]
    if inputs.parameters.confidence_shrinkage is Shrinkage.NONE:
        return worst
    total = edge**2 + error**2
    factor: Floats = np.where(total > 0, edge**2 / np.where(total > 0, total, 1.0), 1.0)
    if inputs.signals.confidence is not None:
        factor = factor * inputs.signals.confidence[lines]
    return factor * worst


def views_of(mean: Floats, inputs: Inputs, lines: Integers) -> Floats:
    """What the signals expect beyond the means (v,) of the scenarios, the lines first; others 0."""
    views = np.zeros_like(mean)
    columns = np.flatnonzero(is_of(inputs.signals.source[lines], Family.MOMENTS))
    if len(columns):
        views[columns] = expected_means(inputs, lines[columns]) - mean[columns]
    aged = np.flatnonzero(is_of(inputs.signals.source[lines], Family.SCENARIOS))
    views[aged] = ageing_change(inputs, lines[aged], mean[aged])
    return views


def ageing_change(inputs: Inputs, lines: Integers, mean: Floats) -> Floats:
    """What age and worst case of their edges take off the means (k,) of lines with scenarios."""
    side, parameters = inputs.signals.side[lines], inputs.parameters
    left = parameters.edge_multiplier * (1.0 if inputs.robust is None else inputs.robust[lines])
    if inputs.signals.history_multiplier is not None:
        left = left * inputs.signals.history_multiplier[lines]
    return scaled_mean_change(mean, side, parameters.risk_free_rate, left)
