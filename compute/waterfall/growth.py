"""Growth that a final position is expected to bring by itself, and what more of it would bring.

    bet:        g(f) = p ln(1 + b f) + q ln(1 - a f)        g'(f) = p b/(1 + b f) - q a/(1 - a f)
    moments:    g(f) = f (m - r) - s^2 f^2 / 2              g'(f) = (m - r) - s^2 f
    scenarios:  g(f) = sum_k pi_k ln(1 + f x_k)             x = (outcome - r) / (1 + r)

per period of the signal, over the risk-free rate; f is the stake in the direction of the signal.
-inf where the stake can ruin, and then the marginal growth is -inf too.
"""

import numpy as np

from compute.inputs import Inputs
from compute.market import Floats, Integers
from compute.waterfall.layout import Family, Line, is_of


def growth(stake: Floats, lines: Floats, inputs: Inputs) -> tuple[Floats, Floats]:
    """g and g' at `stake` (n,), (n,) each."""
    value, slope = _bet(stake, lines)
    source = lines[Line.SOURCE]
    for other, terms in (
        (Family.MOMENTS, _moments),
        (Family.SCENARIOS, _scenarios),
    ):
        if (mine := is_of(source, other)).any():
            used = np.flatnonzero(mine)
            value[used], slope[used] = terms(stake[used], used, lines, inputs)
    refused = lines[Line.ACTIVE] == 0.0
    value[refused], slope[refused] = 0.0, 0.0
    return value, slope


def _bet(stake: Floats, lines: Floats) -> tuple[Floats, Floats]:
    p, b, a = lines[Line.WIN_PROBABILITY], lines[Line.PAYOFF], lines[Line.LOSS_FRACTION]
    won, lost = b * stake, -a * stake
    win, loss = p > 0, p < 1
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(win, p * np.log1p(np.maximum(won, -1.0)), 0.0)
        value += np.where(loss, (1 - p) * np.log1p(np.maximum(lost, -1.0)), 0.0)
        slope = np.where(win, p * b / (1.0 + won), 0.0)
        slope -= np.where(loss, (1 - p) * a / (1.0 + lost), 0.0)
    if (ruined := ((won <= -1.0) & win) | ((lost <= -1.0) & loss)).any():
        slope[ruined] = -np.inf
    return value, slope


def _moments(stake: Floats, used: Integers, lines: Floats, inputs: Inputs) -> tuple[Floats, Floats]:
    excess = lines[Line.EXPECTED_RETURN, used] - inputs.parameters.risk_free_rate
    variance = lines[Line.VOLATILITY, used] ** 2
    return excess * stake - 0.5 * variance * stake**2, excess - variance * stake


def _scenarios(
    stake: Floats, used: Integers, lines: Floats, inputs: Inputs
) -> tuple[Floats, Floats]:
    if inputs.scenarios is None:
        return np.zeros(len(used)), np.zeros(len(used))
    rate = inputs.parameters.risk_free_rate
    returns, probability = inputs.scenarios.returns, inputs.scenarios.probability
    mean = lines[Line.SIDE, used] * (returns[used] @ probability)
    value, slope = np.zeros(len(used)), (mean - rate) / (1.0 + rate)
    staked = np.flatnonzero(stake)  # of a book decided jointly, the few lines that are held
    outcomes = lines[Line.SIDE, used[staked], None] * returns[used[staked]]
    excess = (outcomes - rate) / (1.0 + rate)
    wealth = 1.0 + stake[staked, None] * excess
    lost = wealth <= 0
    ruined = lost.any(axis=1)
    safe = np.where(lost, 1.0, wealth)
    value[staked] = np.where(ruined, -np.inf, np.log(safe) @ probability)
    slope[staked] = np.where(ruined, -np.inf, (excess / safe) @ probability)
    return value, slope
