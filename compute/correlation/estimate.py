"""One door to every estimator, and how each fares on returns it has not seen.

| estimator | what for |
|---|---|
| SAMPLE | many more periods than instruments |
| EWMA | correlations that move; effective sample (1 + L) / (1 - L) |
| LEDOIT_WOLF | the default: never singular, no choices to make |
| LEDOIT_WOLF_NONLINEAR | more than about 50 instruments |
| DENOISED | spectrum cut at the edge of noise |
| DETONED | the same without the market: for clusters, not for sizing |
| PRINCIPAL_FACTORS, GIVEN_FACTORS | hundreds of instruments; stays in factor form |
| DCC | the correlation of the next period |
| STRESS | the periods that were least likely |
"""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from compute.correlation.dynamic import fit_dcc
from compute.correlation.factors import FactorForm, given_factors, principal_factors
from compute.correlation.random_matrix import denoised, detoned, marchenko_pastur_edges
from compute.correlation.sample import correlation_of, ewma_covariance, sample_covariance, scaled
from compute.correlation.shrinkage import ledoit_wolf, ledoit_wolf_nonlinear
from compute.correlation.stress import stress_covariance
from compute.history import Floats


class Estimator(IntEnum):
    """The numbers are those of the contract."""

    SAMPLE = 1
    EWMA = 2
    LEDOIT_WOLF = 3
    LEDOIT_WOLF_NONLINEAR = 4
    DENOISED = 5
    DETONED = 6
    PRINCIPAL_FACTORS = 7
    GIVEN_FACTORS = 8
    DCC = 9
    STRESS = 10


PAIRWISE = frozenset({Estimator.SAMPLE, Estimator.EWMA})
"""Estimators that can work pair by pair."""


@dataclass(frozen=True)
class Settings:
    """What an estimator may be told; each reads its own."""

    decay: float = 0.97
    factor_count: int = 0
    """0: the components above the edge of noise."""
    stress_fraction: float = 0.1
    detoned_count: int = 1
    noise_variance: float = 1.0
    dynamics: tuple[float, float] | None = None
    """Of DCC, a and b; None: fitted."""


@dataclass(frozen=True)
class Estimate:
    """A covariance of returns per period, (n, n), in factor form too where it is of one.

    found: what the estimator chose: shrinkage, number of factors, edges of noise, a and b.
    """

    covariance: Floats
    factor: FactorForm | None = None
    found: dict[str, float] = field(default_factory=dict)


def estimate(
    returns: Floats, estimator: Estimator, settings: Settings, factors: Floats | None = None
) -> Estimate:
    """The covariance of returns (T, n) by an estimator; `factors` (T, k) for GIVEN_FACTORS.

    Raises `ValueError` where there are too few observations for it.
    """
    match estimator:
        case Estimator.SAMPLE:
            return Estimate(sample_covariance(returns))
        case Estimator.EWMA:
            return Estimate(
                ewma_covariance(returns, settings.decay), found={"decay": settings.decay}
            )
        case Estimator.LEDOIT_WOLF:
            covariance, amount = ledoit_wolf(returns)
            return Estimate(covariance, found={"shrinkage": amount})
        case Estimator.LEDOIT_WOLF_NONLINEAR:
            return Estimate(ledoit_wolf_nonlinear(returns))
        case Estimator.DENOISED | Estimator.DETONED:
            return _spectral(returns, estimator, settings)
        case Estimator.PRINCIPAL_FACTORS:
            form = principal_factors(returns, settings.factor_count)
            return Estimate(form.matrix, form, {"factor_count": form.loadings.shape[1]})
        case Estimator.GIVEN_FACTORS:
            if factors is None:
                raise ValueError("needs factors")
            form = given_factors(returns, factors)
            return Estimate(form.matrix, form, {"factor_count": form.loadings.shape[1]})
        case Estimator.DCC:
            fitted = fit_dcc(returns, settings.dynamics)
            chosen = {"shock": fitted.shock, "persistence": fitted.persistence}
            return Estimate(fitted.covariance, found=chosen)
        case Estimator.STRESS:
            covariance, count = stress_covariance(returns, settings.stress_fraction)
            return Estimate(covariance, found={"stress_count": count})


def _spectral(returns: Floats, estimator: Estimator, settings: Settings) -> Estimate:
    correlation, deviation = correlation_of(sample_covariance(returns))
    noise = settings.noise_variance
    cleaned, kept = denoised(correlation, len(returns), noise)
    low, high = marchenko_pastur_edges(returns.shape[1], len(returns), noise)
    found = {"factor_count": float(kept), "noise_low": low, "noise_high": high}
    if estimator is Estimator.DETONED:
        cleaned = detoned(cleaned, settings.detoned_count)
        found["detoned_count"] = float(settings.detoned_count)
    return Estimate(scaled(cleaned, deviation), found=found)


def log_likelihood(covariance: Floats, mean: Floats, returns: Floats) -> float | None:
    """Mean of log N(r_t; m, S) over the rows of `returns` (T, n), nats a period.

    None where S is indefinite, or singular as far as rounding can tell: then no likelihood exists.
    """
    try:
        factor = cholesky(covariance, lower=True)
    except np.linalg.LinAlgError:
        return None
    diagonal = np.diag(factor)
    # The square is 1 - R^2 of an instrument on those before it; its rounding errors are near 1e-16.
    if (diagonal / np.sqrt(np.diag(covariance))).min() <= 1e-7:
        return None
    # r' S^-1 r = |L^-1 r|^2 for S = L L'.
    white = solve_triangular(factor, (returns - mean).T, lower=True)
    constant = len(mean) * np.log(2.0 * np.pi) + 2.0 * np.log(diagonal).sum()
    return float(-0.5 * (constant + (white * white).sum() / len(returns)))


def held_out(
    returns: Floats,
    estimator: Estimator,
    settings: Settings,
    fraction: float,
    factors: Floats | None = None,
) -> tuple[float | None, float | None]:
    """Log likelihood of the last `fraction` of periods under an estimate from those before.

    Returns it with the sample covariance's, each None where there is none. Returns without gaps.
    """
    split = len(returns) - max(1, round(fraction * len(returns)))
    if split < 2 or np.isnan(returns).any():
        return None, None
    early, late = returns[:split], returns[split:]
    mean = early.mean(axis=0)
    # Of no more periods than instruments the sample's is singular, whatever they are.
    of_sample = None
    if split > returns.shape[1]:
        of_sample = log_likelihood(sample_covariance(early), mean, late)
    if estimator is Estimator.SAMPLE:
        return of_sample, of_sample
    try:
        made = estimate(early, estimator, settings, None if factors is None else factors[:split])
        ours = log_likelihood(made.covariance, mean, late)
    except ValueError:
        ours = None
    return ours, of_sample
