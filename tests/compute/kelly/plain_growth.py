"""Expected log growth over scenarios, written out: what exact Kelly stakes are held against."""

import numpy as np


def exact_growth_rate(fraction, outcomes, probabilities, risk_free_rate=0.0):  # type: ignore[no-untyped-def]
    """sum_k pi_k ln(1 + rf + f (x_k - rf)), (...,); -inf past ruin, 0 pi_k for padding."""
    f, x = np.asarray(fraction)[..., None], np.asarray(outcomes)
    pi = np.broadcast_to(probabilities, x.shape)
    wealth = 1.0 + risk_free_rate + f * (np.where(pi > 0.0, x, 0.0) - risk_free_rate)
    ruined = ((wealth <= 0.0) & (pi > 0.0)).any(axis=-1)
    grown = (pi * np.log(np.where(wealth > 0.0, wealth, 1.0))).sum(axis=-1)
    return np.where(ruined, -np.inf, grown)
