"""Regimes of a market as a hidden Markov chain (Hamilton 1989), seen through its returns.

With predicted probabilities p of the regimes and return x of the period,

    f_i = p_i l_i(x) / sum_j p_j l_j(x)          p' = f P          P_ij from regime i to regime j

p' is for the period that comes: what is known before it. Probabilities of a period that take in
what came after it (smoothed ones) are nowhere made: a size from them would know the future.

l_i is normal with mean m_i and deviation s_i, or Student's t with the same deviation. f is kept
above `FLOOR`, so that one return that a regime rules out doesn't rule it out for ever.
"""

from dataclasses import dataclass
from math import lgamma, log, pi

import numpy as np

from compute.market import Floats, Integers

FLOOR = 1e-12
REGIMES_MAX = 4


@dataclass(frozen=True)
class RegimeSwitching:
    """Regimes by rising deviation, at least two and at most `REGIMES_MAX`, per period.

    transition: rows sum to 1, each entry above 0. degrees_of_freedom: of Student's t, above 2;
    None: normal.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    transition: tuple[tuple[float, ...], ...]
    degrees_of_freedom: float | None = None

    @property
    def stationary(self) -> Floats:
        """Probabilities of the regimes in the long run, (K,): q = q P."""
        matrix = np.array(self.transition)
        k = len(matrix)
        equations = np.vstack([matrix.T - np.eye(k), np.ones(k)])
        found: Floats = np.linalg.lstsq(equations, np.append(np.zeros(k), 1.0), rcond=None)[0]
        return found


def log_density(x: Floats, model: RegimeSwitching, means: float | Floats = 1.0) -> Floats:
    """ln l_i(x), (K, m), of returns x, (m,), with that many times the means."""
    mean, deviation = np.array(model.mean)[:, None] * means, np.array(model.deviation)[:, None]
    z2 = ((x - mean) / deviation) ** 2
    if model.degrees_of_freedom is None:
        out: Floats = -0.5 * (z2 + log(2.0 * pi)) - np.log(deviation)
        return out
    v = model.degrees_of_freedom
    scale = lgamma((v + 1.0) / 2.0) - lgamma(v / 2.0) - 0.5 * log(pi * (v - 2.0))
    out = scale - np.log(deviation) - 0.5 * (v + 1.0) * np.log1p(z2 / (v - 2.0))
    return out


def filtered(
    predicted: Floats, x: Floats, model: RegimeSwitching, means: float | Floats = 1.0
) -> tuple[Floats, Floats]:
    """Probabilities of the regimes after returns x, (K, m), and ln of the density of x, (m,)."""
    joint = np.log(predicted) + log_density(x, model, means)
    top = joint.max(axis=0)
    weights = np.exp(joint - top)
    total = weights.sum(axis=0)
    kept = np.maximum(weights / total, FLOOR)
    return kept / kept.sum(axis=0), top + np.log(total)


def ahead(probability: Floats, periods: Integers, model: RegimeSwitching) -> Floats:
    """Probabilities that many periods later, (K, m): f P^k."""
    matrix, out = np.array(model.transition).T, probability
    for k in np.unique(periods):
        columns = periods == k
        moved = np.linalg.matrix_power(matrix, int(k)) @ probability[:, columns]
        out = out.copy()
        out[:, columns] = moved
    return out


def mixture(probability: Floats, model: RegimeSwitching) -> tuple[Floats, Floats]:
    """Mean and variance of the next return, (m,): m = sum p m_i, v = sum p (s_i^2 + m_i^2) - m^2.

    Kelly's fraction of it is near m / v. The mean of the regimes' own fractions is another number,
    and too large wherever the volatile regime has the smaller edge.
    """
    mean, deviation = np.array(model.mean), np.array(model.deviation)
    first: Floats = mean @ probability
    second: Floats = (deviation**2 + mean**2) @ probability
    return first, second - first**2
