"""Value at risk, expected shortfall and their relatives of a distribution of losses.

Losses are positive numbers, as fractions of equity over one period of the scenarios. Levels are
confidences: 0.99 speaks of the worst 1 %. Scenarios have probabilities p > 0 that sum to 1.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import gammaln, logsumexp, ndtri, stdtrit

from compute.history import Floats

DEGREES_MAX = 1000.0
"""Of a Student t, which is normal then for all that matters."""

_ROUNDING = 1e-12
_SAME = 1e-14
"""Relative to the largest; a deviation of less is the rounding of one number."""
"""By which a sum of probabilities may miss a level that it meets in exact arithmetic."""


class OutsideDomainError(ValueError):
    """A formula is asked for where it does not hold; the text says why."""


@dataclass(frozen=True)
class Tail:
    """Value at risk and expected shortfall, as losses."""

    value_at_risk: float
    expected_shortfall: float


def normal_density(z: float) -> float:
    """exp(-z^2 / 2) / sqrt(2 pi); `scipy.stats` takes a thousand times as long for one number."""
    return float(np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi))


def student_density(q: float, degrees: float) -> float:
    """Of the raw t, G(h) / (G(nu/2) sqrt(nu pi)) (1 + q^2/nu)^-h with h = (nu + 1)/2."""
    half = 0.5 * (degrees + 1.0)
    height = np.exp(gammaln(half) - gammaln(0.5 * degrees)) / np.sqrt(np.pi * degrees)
    return float(height * (1.0 + q * q / degrees) ** -half)


def normal_tail(level: float, mean: float = 0.0, deviation: float = 1.0) -> Tail:
    """VaR = s z - m, ES = s phi(z) / (1 - a) - m of a normal return of mean m and deviation s."""
    z = float(ndtri(level))
    shortfall = normal_density(z) / (1.0 - level)
    return Tail(deviation * z - mean, deviation * shortfall - mean)


def student_tail(level: float, degrees: float, mean: float = 0.0, deviation: float = 1.0) -> Tail:
    """The same of a Student t of `degrees` nu > 2, scaled to the deviation s.

    VaR = s c q - m, ES = s c f(q) (nu + q^2) / ((nu - 1)(1 - a)) - m with q the quantile and f the
    density of the raw t, and c = sqrt((nu - 2) / nu), without which its deviation is not s.
    """
    if not degrees > 2.0:
        raise OutsideDomainError(f"{degrees:g} degrees of freedom: no variance unless above 2")
    scale = np.sqrt((degrees - 2.0) / degrees)
    q = float(stdtrit(degrees, level))
    shortfall = student_density(q, degrees) * (degrees + q * q) / ((degrees - 1.0) * (1.0 - level))
    return Tail(float(deviation * scale * q - mean), float(deviation * scale * shortfall - mean))


def student_degrees(kurtosis: float) -> float:
    """The degrees of freedom 4 + 6 / K of a Student t of excess kurtosis K > 0, else the most."""
    return min(4.0 + 6.0 / kurtosis, DEGREES_MAX) if kurtosis > 0.0 else DEGREES_MAX


def cornish_fisher_quantile(probability: float, skewness: float, kurtosis: float) -> float:
    """z + (z^2-1) S/6 + (z^3-3z) K/24 - (2z^3-5z) S^2/36 at z = the normal quantile.

    S skewness, K excess kurtosis, of the expansion. Raises `OutsideDomainError` where the
    expansion is not increasing in z, and so no quantile: it needs
    (S/3)^2 <= 4 (K/8 - S^2/6)(1 - K/8 + 5 S^2/36) with K/8 >= S^2/6, which implies
    |S| <= 6 (sqrt 2 - 1) (Maillard 2012, "A user's guide to the Cornish Fisher expansion").
    """
    s2 = skewness * skewness
    square, rest = kurtosis / 8.0 - s2 / 6.0, 1.0 - kurtosis / 8.0 + 5.0 * s2 / 36.0
    rises = (
        (skewness / 3.0) ** 2 <= 4.0 * square * rest if square > 0.0 else skewness == kurtosis == 0
    )
    if not (rises and rest > 0.0 and abs(skewness) <= 6.0 * (np.sqrt(2.0) - 1.0)):
        raise OutsideDomainError(
            f"skewness {skewness:.4g} and excess kurtosis {kurtosis:.4g} are outside the domain of "
            "the Cornish-Fisher expansion, where it is no quantile"
        )
    z = float(ndtri(probability))
    return float(
        z
        + (z**2 - 1.0) * skewness / 6.0
        + (z**3 - 3.0 * z) * kurtosis / 24.0
        - (2.0 * z**3 - 5.0 * z) * s2 / 36.0
    )


def cornish_fisher_tail(
    level: float, skewness: float, kurtosis: float, deviation: float = 1.0
) -> Tail:
    """VaR and ES of a return of mean 0 whose quantile is the expansion; its mean in closed form.

    ES = s phi(z)/p (1 + z S/6 - (1 - z^2) K/24 + (1 - 2 z^2) S^2/36), p = 1 - a, z the normal
    p-quantile, by E[Z^k; Z < z]. Raises `OutsideDomainError` as `cornish_fisher_quantile`.
    """
    p = 1.0 - level
    quantile = cornish_fisher_quantile(p, skewness, kurtosis)
    z = float(ndtri(p))
    mean = (
        1.0
        + z * skewness / 6.0
        - (1.0 - z * z) * kurtosis / 24.0
        + (1.0 - 2.0 * z * z) * skewness**2 / 36.0
    )
    return Tail(-deviation * quantile, deviation * normal_density(z) / p * mean)


def moments(losses: Floats, probability: Floats) -> tuple[float, float, float, float]:
    """Mean, deviation, skewness and excess kurtosis of losses under p; no correction for bias.

    Of losses that differ by their rounding alone they are those of a constant: 0.
    """
    mean = float(probability @ losses)
    centred = losses - mean
    variance = float(probability @ centred**2)
    if variance <= (_SAME * float(np.abs(losses).max(initial=0.0))) ** 2:
        return mean, 0.0, 0.0, 0.0
    deviation = float(np.sqrt(variance))
    skewness = float(probability @ centred**3) / deviation**3
    return mean, deviation, skewness, float(probability @ centred**4) / variance**2 - 3.0


def tail_weights(losses: Floats, probability: Floats, level: float) -> tuple[Floats, int]:
    """The weights q, summing to 1, with which scenarios enter ES, and the scenario of the VaR.

    The worst scenarios with all their probability until 1 - a is used up, and that of the VaR
    with what is left (its atom is cut): ES = sum q L.
    """
    order = np.argsort(-losses, kind="stable")
    total = np.cumsum(probability[order])
    room = 1.0 - level
    last = int(np.searchsorted(total, room * (1.0 - _ROUNDING)))
    last = min(last, len(losses) - 1)
    weights = np.zeros(len(losses))
    weights[order[:last]] = probability[order[:last]]
    weights[order[last]] = max(room - (total[last - 1] if last else 0.0), 0.0)
    # The VaR is the smallest loss that is exceeded with probability at most 1 - a.
    place = last + 1 if total[last] <= room * (1.0 + _ROUNDING) and last + 1 < len(losses) else last
    return weights / room, int(order[place])


def historical_tail(losses: Floats, probability: Floats, level: float) -> Tail:
    """VaR = inf {l: P(L <= l) >= a} and ES = VaR + E (L - VaR)+ / (1 - a) of scenarios.

    Rockafellar and Uryasev 2000, with the atom at the VaR split, so that ES is right also where
    (1 - a) K is no whole number.
    """
    _, place = tail_weights(losses, probability, level)
    var = float(losses[place])
    beyond = float(probability @ np.maximum(losses - var, 0.0)) / (1.0 - level)
    return Tail(var, var + beyond)


def entropic_value_at_risk(losses: Floats, probability: Floats, level: float) -> float:
    """EVaR = inf_{t>0} t (ln E exp(L / t) - ln(1 - a)), between ES and the largest loss.

    Ahmadi-Javid 2012, J. Optimization Theory and Applications 155. Where the largest loss has
    probability 1 - a or more, the infimum is that loss, at t -> 0. For a normal loss it is
    m + s sqrt(-2 ln(1 - a)).
    """
    worst = float(losses.max())
    width = worst - float(losses.min())
    if width <= 0.0 or float(probability[losses >= worst].sum()) >= (1.0 - level) * (1 - _ROUNDING):
        return worst
    shifted, logarithm = losses - worst, np.log(1.0 - level)

    def value(log_t: float) -> float:
        scale = float(np.exp(log_t))
        return scale * (float(logsumexp(shifted / scale, b=probability)) - float(logarithm))

    bounds = (np.log(width) - 16.0, np.log(width) + 16.0)
    best = minimize_scalar(value, bounds=bounds, method="bounded", options={"xatol": 1e-11})
    return worst + min(float(best.fun), 0.0)


def entropic_normal(level: float, deviation: float) -> float:
    """The same of a normal loss of mean 0 and deviation s, s sqrt(-2 ln(1 - a))."""
    return float(deviation * np.sqrt(-2.0 * np.log1p(-level)))


def spectral_risk(losses: Floats, probability: Floats, aversion: float) -> float:
    """sum of losses by the exponential spectrum phi(u) = k e^{-k (1-u)} / (1 - e^{-k}), k > 0.

    Each scenario is weighted by the integral of phi over its own stretch of probability, so that
    the weights sum to 1 (Acerbi 2002; Cotter and Dowd 2006 for the exponential form).
    """
    order = np.argsort(losses, kind="stable")
    upper = np.minimum(np.cumsum(probability[order]), 1.0)
    lower = np.concatenate([[0.0], upper[:-1]])
    weights = np.exp(-aversion * (1.0 - upper)) - np.exp(-aversion * (1.0 - lower))
    return float(weights @ losses[order] / -np.expm1(-aversion))
