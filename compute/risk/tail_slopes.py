"""Value at risk and expected shortfall of a book's losses, with their slope by each loss.

    m(L)  and  dm / dL_k      L (K,) losses of scenarios of probability p (K,)

The losses of a book with weights w are L = -R w, so that the slope by the weights is -R'(dm / dL).
Every measure here grows with the size of a book as the book does, m(c w) = c m(w), so that slope'w
is the measure. Only HISTORICAL expected shortfall and NORMAL are convex in w.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from compute.history import Floats
from compute.recursion import decayed_sums
from compute.risk.conditional import FILTER_DECAY, FILTERED_MIN
from compute.risk.extremes import EXCEEDANCES_MIN, ParetoTail, fit_pareto
from compute.risk.measures import (
    DEGREES_MAX,
    OutsideDomainError,
    Tail,
    cornish_fisher_tail,
    moments,
    normal_density,
    normal_tail,
    student_degrees,
    student_tail,
    tail_weights,
)
from compute.risk.tail_method import PARETO_FRACTION, TailKind, TailMethod

EXPONENTIAL = 1e-6
"""Shapes nearer to 0 have the slopes of an exponential tail."""

_STEP = 1e-5


@dataclass(frozen=True)
class Sloped:
    """A measure and its slope by each loss, (K,)."""

    value: float
    slope: Floats


def normal_multiple(kind: TailKind, level: float) -> float:
    """The measure of a normal loss of mean 0 and deviation 1."""
    return _of(normal_tail(level), kind)


def sloped_tail(
    kind: TailKind, method: TailMethod, level: float, losses: Floats, probability: Floats
) -> Sloped:
    """The measure of losses (K,) of probability (K,) and its slope.

    NORMAL, STUDENT and CORNISH_FISHER take the mean as 0 and the deviation with 1 - sum p^2 in the
    denominator; HISTORICAL and EXTREME_VALUE take the losses as they are, and FILTERED_HISTORICAL
    as periods in their order, the newest last. An empty book measures 0. Raises
    `OutsideDomainError` where the losses don't support the method.
    """
    if not losses.any():  # nothing is held
        return Sloped(0.0, np.zeros_like(losses))
    if method is TailMethod.HISTORICAL:
        return _historical(kind, level, losses, probability)
    if method is TailMethod.FILTERED_HISTORICAL:
        return _filtered_historical(kind, level, losses, probability)
    if method is TailMethod.EXTREME_VALUE:
        return _extreme_value(kind, level, losses, probability)
    return _parametric(kind, method, level, losses, probability)


def _of(tail: Tail, kind: TailKind) -> float:
    is_var = kind is TailKind.VALUE_AT_RISK
    return tail.value_at_risk if is_var else tail.expected_shortfall


def _historical(kind: TailKind, level: float, losses: Floats, probability: Floats) -> Sloped:
    weights, place = tail_weights(losses, probability, level)
    if kind is TailKind.VALUE_AT_RISK:
        weights = np.zeros_like(losses)
        weights[place] = 1.0
    return Sloped(float(weights @ losses), weights)


def _filtered_historical(
    kind: TailKind, level: float, losses: Floats, probability: Floats
) -> Sloped:
    """HISTORICAL of z_t = L_t sqrt(h_{T+1} / h_t), with d the decay and h_1 the mean square,

        h_{t+1} = d h_t + (1 - d) L_t^2

    The slope goes back through the recursion: dm/dh_t is what h_t does by itself and d dm/dh_{t+1}.
    """
    count, d = len(losses), FILTER_DECAY
    if count < FILTERED_MIN:
        raise OutsideDomainError(f"{count} scenarios: {FILTERED_MIN} are needed")
    if float(np.ptp(probability)) > 1e-9 * float(probability.max()):
        raise OutsideDomainError("scenarios are not equally likely")
    squares = losses**2
    start = float(squares.mean())
    later = decayed_sums((1.0 - d) * squares, d, before=start)
    variances = np.concatenate([[start], later])
    ratio = np.sqrt(variances[-1] / variances[:-1])
    found = _historical(kind, level, ratio * losses, probability)
    by_variance = found.slope * ratio * losses
    by_itself = np.append(-by_variance, by_variance.sum()) / (2.0 * variances)
    by_variance = decayed_sums(by_itself[::-1], d)[::-1]
    through = (1.0 - d) * by_variance[1:] + by_variance[0] / count
    return Sloped(found.value, found.slope * ratio + 2.0 * losses * through)


def _parametric(
    kind: TailKind, method: TailMethod, level: float, losses: Floats, probability: Floats
) -> Sloped:
    """k(S, K) s: the multiple of the deviation by skewness and excess kurtosis of the returns."""
    mean, deviation, skewness, kurtosis = moments(-losses, probability)
    if deviation == 0.0:
        return Sloped(0.0, np.zeros_like(losses))
    centred = -losses - mean
    variance = deviation**2
    scale = 1.0 / np.sqrt(1.0 - float(probability @ probability))
    # Slopes by each return; those by the losses are their negatives.
    by_second = 2.0 * probability * centred
    by_deviation = by_second / (2.0 * deviation) * scale
    third = 3.0 * probability * (centred**2 - variance)
    fourth = 4.0 * probability * (centred**3 - skewness * deviation**3)
    by_skewness = third / deviation**3 - 1.5 * skewness * by_second / variance
    by_kurtosis = fourth / variance**2 - 2.0 * (kurtosis + 3.0) * by_second / variance
    multiple, by_s, by_k = _multiple(kind, method, level, skewness, kurtosis)
    slope = multiple * by_deviation + deviation * scale * (by_s * by_skewness + by_k * by_kurtosis)
    return Sloped(multiple * deviation * scale, -slope)


def _multiple(
    kind: TailKind, method: TailMethod, level: float, skewness: float, kurtosis: float
) -> tuple[float, float, float]:
    """The measure of a return of mean 0 and deviation 1, and its slopes by S and K."""
    if method is TailMethod.NORMAL:
        return normal_multiple(kind, level), 0.0, 0.0
    if method is TailMethod.STUDENT:
        degrees = student_degrees(kurtosis)

        def of(nu: float) -> float:
            return _of(student_tail(level, nu), kind)

        if degrees >= DEGREES_MAX:
            return of(degrees), 0.0, 0.0
        step = _STEP * degrees
        by_degrees = (of(degrees + step) - of(degrees - step)) / (2.0 * step)
        return of(degrees), 0.0, by_degrees * -6.0 / kurtosis**2
    value = _of(cornish_fisher_tail(level, skewness, kurtosis), kind)
    z = float(ndtri(1.0 - level))
    if kind is TailKind.VALUE_AT_RISK:
        by_s = -((z * z - 1.0) / 6.0 - (2.0 * z**3 - 5.0 * z) * skewness / 18.0)
        return value, by_s, -(z**3 - 3.0 * z) / 24.0
    density = normal_density(z) / (1.0 - level)
    by_s = density * (z / 6.0 + (1.0 - 2.0 * z * z) * skewness / 18.0)
    return value, by_s, -density * (1.0 - z * z) / 24.0


def _extreme_value(kind: TailKind, level: float, losses: Floats, probability: Floats) -> Sloped:
    """Of a generalised Pareto tail above the largest tenth; slopes by its score equations."""
    if float(np.ptp(probability)) > 1e-9 * float(probability.max()):
        raise OutsideDomainError("scenarios are not equally likely")
    order = np.argsort(losses, kind="stable")
    wanted = int(np.floor(PARETO_FRACTION * len(losses)))
    if wanted < EXCEEDANCES_MIN:
        raise OutsideDomainError(
            f"{wanted} of {len(losses)} losses lie above the threshold; {EXCEEDANCES_MIN} are "
            "needed"
        )
    edge = order[-wanted - 1]
    u = float(losses[edge])
    beyond = np.flatnonzero(losses > u)
    if len(beyond) < EXCEEDANCES_MIN:
        raise OutsideDomainError(f"only {len(beyond)} losses differ from the threshold")
    excess = losses[beyond] - u
    xi, b = fit_pareto(excess)
    tail = ParetoTail(u, xi, b, len(losses), len(beyond)).tail(level)
    by_shape, by_scale = _fit_slopes(excess, xi, b)
    share = len(losses) / len(beyond) * (1.0 - level)
    height, bend = _stretch(xi, share)
    of_var = height * by_scale + b * bend * by_shape
    slope = np.zeros_like(losses)
    if kind is TailKind.VALUE_AT_RISK:
        slope[beyond], by_threshold = of_var, 1.0
    else:
        whole = tail.value_at_risk + b - xi * u
        left = 1.0 - xi
        slope[beyond] = (of_var + by_scale - u * by_shape) / left + whole / left**2 * by_shape
        by_threshold = 1.0
    slope[edge] = by_threshold - float(slope[beyond].sum())
    return Sloped(_of(tail, kind), slope)


def _stretch(xi: float, share: float) -> tuple[float, float]:
    """(share^-xi - 1) / xi and its slope by xi."""
    log = -np.log(share)
    if abs(xi) < EXPONENTIAL:
        return float(log + 0.5 * xi * log**2), float(0.5 * log**2)
    power = float(np.exp(xi * log))
    return (power - 1.0) / xi, float((log * power * xi - (power - 1.0)) / xi**2)


def _fit_slopes(y: Floats, xi: float, b: float) -> tuple[Floats, Floats]:
    """d xi / dy and d b / dy of the likelihood's maximum, (n,) each.

    With r = xi / b the maximum has xi = A(r) = mean ln(1 + r y) and g(r) = B / A + B - 1 / r = 0,
    B = A'(r) = mean y / (1 + r y); so dr / dy = -(dg / dy) / (dg / dr).
    """
    n, r = len(y), xi / b
    if abs(xi) < EXPONENTIAL:
        return np.zeros_like(y), np.full_like(y, 1.0 / n)
    inner = 1.0 + r * y
    second = float(np.mean(y / inner))
    third = -float(np.mean((y / inner) ** 2))
    by_first, by_second = r / inner / n, 1.0 / inner**2 / n
    by_ratio = third / xi - second**2 / xi**2 + third + 1.0 / r**2
    if by_ratio == 0.0:
        return np.zeros_like(y), np.full_like(y, 1.0 / n)
    moved = -(by_second * (1.0 / xi + 1.0) - second * by_first / xi**2) / by_ratio
    by_shape = by_first + second * moved
    return by_shape, by_shape / r - xi * moved / r**2
