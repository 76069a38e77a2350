"""Several models as one: by their probabilities, or by the money their bets would have made."""

import numpy as np
from scipy.optimize import minimize

from compute.market import Floats, Integers


def log_pool(p: Floats, weights: Floats) -> Floats:
    """logit p = sum_i w_i logit p_i of members' probabilities (m, n), weights (m,) of sum 1.

    Externally Bayesian: pooling and updating by evidence that all share may change places (Genest
    1984).
    """
    logit = (weights[:, None] * (np.log(p) - np.log1p(-p))).sum(axis=0)
    pooled: Floats = 1.0 / (1.0 + np.exp(-logit))
    return pooled


def stacked_weights(p: Floats, won: Floats) -> Floats:
    """Weights >= 0 of sum 1 whose `log_pool` of out-of-sample p (m, n) has the least log loss.

    The loss is convex in the weights.
    """
    m = len(p)
    logits = np.log(p) - np.log1p(-p)

    def loss(weights: Floats) -> tuple[float, Floats]:
        z = weights @ logits
        residual = 1.0 / (1.0 + np.exp(-z)) - won
        return float((np.logaddexp(0.0, z) - won * z).mean()), logits @ residual / len(won)

    found = minimize(
        loss,
        np.full(m, 1.0 / m),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * m,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    weights = np.clip(found.x, 0.0, 1.0)
    normal: Floats = weights / weights.sum()
    return normal


def mixture(p: Floats, weights: Floats, implied: Floats) -> Floats:
    """The probability whose Kelly stake is the mean of members' stakes, by their weights.

    Kelly's stake is linear in p above the break-even probability `implied` (n,), and 0 below it, so
    that probability is sum_i w_i max(p_i, implied).
    """
    mixed: Floats = (weights[:, None] * np.maximum(p, implied)).sum(axis=0)
    return mixed


def wealth_weights(log_wealth: Floats) -> Floats:
    """Shares of members that started with the same money; log_wealth: (m,).

    Their mean wealth is that of the mixture, so in log wealth it falls behind the best of N by at
    most ln N, forever and whatever comes.
    """
    share = np.exp(log_wealth - log_wealth.max())
    weights: Floats = share / share.sum()
    return weights


def regret(log_wealth: Floats) -> float:
    """log wealth of the best member less that of their mixture, in [0, ln N]."""
    best = float(log_wealth.max())
    return -float(np.log(np.exp(log_wealth - best).mean()))


def log_wealth(
    p: Floats, won: Floats, payoff: Floats, loss: Floats, start: Integers, fraction: float = 0.5
) -> Floats:
    """ln(1 + return) of each member (m, T) at each of T start times, the money divided evenly.

    Bets are `fraction` of Kelly, none below break-even, and at most all of the money (a f <= 1).
    """
    stake = fraction * np.clip(p / loss - (1.0 - p) / payoff, 0.0, 1.0 / loss)
    gain = stake * np.where(won > 0.0, payoff, -loss)
    _, places = np.unique(start, return_inverse=True)
    counts = np.bincount(places)
    mean = np.stack([np.bincount(places, weights=row) / counts for row in gain])
    growth: Floats = np.log1p(np.maximum(mean, -1.0 + 1e-12))
    return growth
