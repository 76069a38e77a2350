"""What the edges of a decision were estimated to be, line by line, whatever they come from.

Lines that give their edge have what they give; of scenarios the exact Kelly fraction and its error
take the place of those of a bet.
"""

from dataclasses import fields, replace
from statistics import NormalDist

import numpy as np

from compute.edge.estimate import (
    EdgeEstimates,
    EdgeSettings,
    estimates_of,
    estimates_of_scenarios,
)
from compute.inputs import Inputs
from compute.market import Floats, Integers
from compute.waterfall.layout import Line, Source

_ESTIMATED = int(Source.HISTORY), int(Source.SCENARIOS)


def edges_of_decision(inputs: Inputs, lines: Floats) -> EdgeEstimates | None:
    """The estimates of n lines; None where every line gives its edge. Refused lines have NaN.

    lines: the kernel's input (len(Line), n).
    """
    source = np.where(inputs.active, inputs.signals.source, 0)
    if not any((source == kind).any() for kind in _ESTIMATED):  # np.isin takes four times as long
        return None
    n = len(source)
    out = EdgeEstimates(**{item.name: np.full(n, np.nan) for item in fields(EdgeEstimates)})
    parameters = inputs.parameters
    settings = EdgeSettings(
        prior_wins=parameters.prior_wins,
        prior_losses=parameters.prior_losses,
        risk_free_rate=parameters.risk_free_rate,
        probability=parameters.interval_probability,
    )
    out.count[inputs.active] = 0.0
    bets, moments, scenarios, histories = (
        np.flatnonzero(source == kind)
        for kind in (Source.WIN_LOSS, Source.RETURN_VOLATILITY, Source.SCENARIOS, Source.HISTORY)
    )
    if len(histories):
        outcome, length = inputs.signals.history_outcome, inputs.signals.history_length
        assert outcome is not None, "seen by check"
        assert length is not None, "seen by check"
        ends = np.cumsum(length)
        outcomes = [outcome[ends[i] - length[i] : ends[i]] for i in histories]
        _put(out, histories, estimates_of(outcomes, settings))
    if len(scenarios) and inputs.scenarios is not None:
        x = inputs.signals.side[scenarios, None] * inputs.scenarios.returns[scenarios]
        found = estimates_of_scenarios(list(x), inputs.scenarios.probability, settings)
        exact, error = lines[Line.EXACT_STAKE, scenarios], lines[Line.EXACT_ERROR, scenarios]
        reach = _deviations(settings.probability) * error
        found = replace(found, kelly=exact, kelly_low=exact - reach, kelly_high=exact + reach)
        _put(out, scenarios, found)
    _given(out, bets, moments, lines, settings)
    return out


def _given(
    out: EdgeEstimates,
    bets: Integers,
    moments: Integers,
    lines: Floats,
    settings: EdgeSettings,
) -> None:
    """Edges that lines state themselves, with the errors they state."""
    z = _deviations(settings.probability)
    p, b, a = (lines[row, bets] for row in (Line.WIN_PROBABILITY, Line.PAYOFF, Line.LOSS_FRACTION))
    error = lines[Line.EDGE_ERROR, bets]
    out.win_probability[bets], out.win_probability_error[bets] = p, error
    out.win_probability_low[bets] = np.maximum(p - z * error, 0.0)
    out.win_probability_high[bets] = np.minimum(p + z * error, 1.0)
    out.payoff[bets], out.loss_fraction[bets] = b, a
    slope = 1.0 / a + 1.0 / b
    out.kelly[bets] = p / a - (1.0 - p) / b
    out.kelly_low[bets] = out.kelly[bets] - z * slope * error
    out.kelly_high[bets] = out.kelly[bets] + z * slope * error
    mean, s = lines[Line.EXPECTED_RETURN, moments], lines[Line.VOLATILITY, moments]
    error = lines[Line.EDGE_ERROR, moments]
    out.mean[moments], out.mean_error[moments], out.volatility[moments] = mean, error, s
    out.mean_low[moments], out.mean_high[moments] = mean - z * error, mean + z * error
    edge, spread = (mean - settings.risk_free_rate) / s**2, error / s**2
    out.kelly_moments[moments], out.kelly_moments_error[moments] = edge, spread


def _deviations(probability: float) -> float:
    return NormalDist().inv_cdf(0.5 * (1.0 + probability))


def _put(out: EdgeEstimates, where: Integers, found: EdgeEstimates) -> None:
    for item in fields(EdgeEstimates):
        getattr(out, item.name)[where] = getattr(found, item.name)
