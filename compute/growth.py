"""Growth that a final position is expected to bring by itself, and what more of it would bring.

    bet:        g(f) = p ln(1 + b f) + q ln(1 - a f)        g'(f) = p b/(1 + b f) - q a/(1 - a f)
    moments:    g(f) = f (m - r) - s^2 f^2 / 2              g'(f) = (m - r) - s^2 f
    scenarios:  g(f) = sum_k pi_k ln(1 + f x_k)             x = (outcome - r) / (1 + r)

per period of the signal, over the risk-free rate; f is the stake in the direction of the signal.
-inf where the stake can ruin, and then the marginal growth is -inf too.
"""

from typing import TYPE_CHECKING

import numpy as np

from compute.book import Floats
from compute.columns import Line, Source

if TYPE_CHECKING:
    from compute.decide import Inputs


def expected_growth(stake: Floats, lines: Floats, inputs: "Inputs") -> Floats:
    """g at `stake` (n,), (n,)."""
    p, b, a = lines[Line.WIN_PROBABILITY], lines[Line.PAYOFF], lines[Line.LOSS_FRACTION]
    excess = lines[Line.EXPECTED_RETURN] - inputs.parameters.risk_free_rate
    with np.errstate(divide="ignore", invalid="ignore"):
        win = np.where(p > 0, p * np.log1p(np.maximum(b * stake, -1.0)), 0.0)
        loss = np.where(p < 1, (1 - p) * np.log1p(np.maximum(-a * stake, -1.0)), 0.0)
        bet = win + loss
    moments = excess * stake - 0.5 * (lines[Line.VOLATILITY] * stake) ** 2
    return _by_source(lines, bet, moments, _scenario_terms(stake, lines, inputs, growth=True))


def marginal_growth(stake: Floats, lines: Floats, inputs: "Inputs") -> Floats:
    """g' at `stake` (n,), (n,)."""
    p, b, a = lines[Line.WIN_PROBABILITY], lines[Line.PAYOFF], lines[Line.LOSS_FRACTION]
    excess = lines[Line.EXPECTED_RETURN] - inputs.parameters.risk_free_rate
    won, lost = 1.0 + b * stake, 1.0 - a * stake
    ruin = ((won <= 0) & (p > 0)) | ((lost <= 0) & (p < 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(p > 0, p * b / won, 0.0) - np.where(p < 1, (1 - p) * a / lost, 0.0)
    bet = np.where(ruin, -np.inf, slope)
    moments = excess - lines[Line.VOLATILITY] ** 2 * stake
    return _by_source(lines, bet, moments, _scenario_terms(stake, lines, inputs, growth=False))


def _by_source(lines: Floats, bet: Floats, moments: Floats, exact: Floats) -> Floats:
    source = lines[Line.SOURCE]
    chosen = np.where(source == Source.SCENARIOS, exact, bet)
    chosen = np.where(source == Source.RETURN_VOLATILITY, moments, chosen)
    return np.where(lines[Line.ACTIVE] > 0, chosen, 0.0)


def _scenario_terms(stake: Floats, lines: Floats, inputs: "Inputs", *, growth: bool) -> Floats:
    out = np.zeros(len(stake))
    used = np.flatnonzero(lines[Line.SOURCE] == Source.SCENARIOS)
    if inputs.scenarios is None or len(used) == 0:
        return out
    rate = inputs.parameters.risk_free_rate
    outcomes = lines[Line.SIDE, used] * inputs.scenarios.returns[:, used]
    excess = (outcomes - rate) / (1.0 + rate)
    wealth = 1.0 + stake[used] * excess
    ruined = (wealth <= 0).any(axis=0)
    safe = np.where(ruined, 1.0, wealth)
    terms = np.log(safe) if growth else excess / safe
    out[used] = np.where(ruined, -np.inf, inputs.scenarios.probability @ terms)
    return out
