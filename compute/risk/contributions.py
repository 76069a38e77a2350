"""Which position carries the risk of a book: contributions that sum to it, and what holds it up."""

from dataclasses import dataclass

import numpy as np

from compute.correlation.sample import correlation_of
from compute.history import Floats
from compute.optimize.time_limit import checkpoint


@dataclass(frozen=True)
class Contributions:
    """component (n,): w_i d risk / d w_i, summing to the risk; marginal (n,): d risk / d w_i."""

    component: Floats
    marginal: Floats


def normal_contributions(
    weights: Floats, covariance: Floats, deviations: float, mean: Floats | None = None
) -> Contributions:
    """Of k sqrt(w'Sw) - m'w, k the VaR or ES of a unit normal. Euler: components sum to it."""
    product = covariance @ weights
    volatility = float(np.sqrt(max(float(weights @ product), 0.0)))
    marginal = deviations * product / volatility if volatility > 0.0 else np.zeros(len(weights))
    marginal = marginal if mean is None else marginal - mean
    return Contributions(weights * marginal, marginal)


def scenario_contributions(weights: Floats, returns: Floats, tail: Floats) -> Contributions:
    """Of -sum_s q_s r_s'w: of ES with its tail weights q (K,), of the VaR with one scenario."""
    marginal = -(tail @ returns)
    return Contributions(weights * marginal, marginal)


def diversification_ratio(weights: Floats, covariance: Floats) -> float:
    """sum |w_i| s_i / sqrt(w'Sw), >= 1 for a long book (Choueifaty and Coignard 2008).

    NaN for a book without risk.
    """
    alone = float(np.abs(weights) @ np.sqrt(np.diag(covariance)))
    volatility = float(np.sqrt(max(float(weights @ covariance @ weights), 0.0)))
    return alone / volatility if volatility > 0.0 else np.nan


def _exponential_entropy(shares: Floats) -> float:
    some = shares[shares > 0.0]
    some = some / some.sum()
    return float(np.exp(-(some @ np.log(some))))


def effective_bets_principal(weights: Floats, covariance: Floats) -> float:
    """exp of the entropy of the shares of variance by principal component, 1 .. n.

    Meucci 2009, "Managing diversification". NaN for a book without risk.
    """
    values, vectors = np.linalg.eigh(covariance)
    shares = np.maximum(values, 0.0) * (vectors.T @ weights) ** 2
    return _exponential_entropy(shares / shares.sum()) if shares.sum() > 0.0 else np.nan


def effective_rank(covariance: Floats) -> float:
    """exp of the entropy of the eigenvalues of the correlation, 1 .. n; NaN without risk somewhere.

    What n instruments are worth as independent ones, whatever is held (Roy and Vetterli 2007, "The
    effective rank"). covariance (n, n).
    """
    deviation = np.sqrt(np.diag(covariance))
    if not (len(deviation) and (deviation > 0.0).all()):
        return np.nan
    values = np.linalg.eigvalsh(covariance / np.outer(deviation, deviation))
    return _exponential_entropy(np.maximum(values, 0.0))


def minimum_torsion(covariance: Floats, rounds_max: int = 200) -> Floats:
    """t (n, n): t r are uncorrelated, and as near to r as uncorrelated returns can be.

    Meucci, Santangelo and Deguest 2015, "Risk budgeting and diversification based on optimized
    uncorrelated factors". In correlations C = c c: find p = diag(d) q with q orthogonal rows
    nearest to c, by turns q = (diag(d) C diag(d))^(-1/2) diag(d) c and d = diag(q c).
    Raises `ValueError` for a singular covariance.
    """
    correlation, deviation = correlation_of(covariance)
    values, vectors = np.linalg.eigh(correlation)
    if values[0] <= 1e-10 * values[-1] or deviation.min() <= 0.0:
        raise ValueError("the covariance is singular: torsion needs an invertible one")
    root = (vectors * np.sqrt(values)) @ vectors.T
    d = np.ones(len(values))
    product, before = root, np.inf
    for _ in range(rounds_max):
        checkpoint()
        scaled = d[:, None] * correlation * d[None, :]
        values, vectors = np.linalg.eigh(scaled)  # sqrtm would hold all other threads up
        q = (vectors / np.sqrt(values)) @ vectors.T @ (d[:, None] * root)
        d = np.diag(q @ root).copy()
        product = d[:, None] * q
        distance = float(np.linalg.norm(root - product))
        if before - distance <= 1e-12 * max(distance, 1e-300):
            break
        before = distance
    torsion = product @ np.linalg.inv(root)
    return np.asarray(deviation[:, None] * torsion / deviation[None, :])


def effective_bets_torsion(weights: Floats, covariance: Floats) -> float:
    """exp of the entropy of the shares of variance by minimum-torsion factor, 1 .. n.

    p = (t'^-1 w) o (t S w) / w'Sw. NaN for a book without risk.
    """
    total = float(weights @ covariance @ weights)
    if total <= 0.0:
        return np.nan
    torsion = minimum_torsion(covariance)
    exposure = np.linalg.solve(torsion.T, weights)
    shares = exposure * (torsion @ covariance @ weights) / total
    return _exponential_entropy(np.maximum(shares, 0.0))
