"""The growth that any uncorrelated returns of a mean and deviation keep, but for a chance epsilon.

Of returns y_1 .. y_T of a book only their mean m and standard deviation s are known, and that they
are uncorrelated: they may have any tails and need not be independent. To second order a period's
log growth is y - y^2 / 2. The largest growth that the mean of T of these is at or above with
probability 1 - epsilon, whatever the distribution, is (Rujeerapaiboon, Kuhn and Wiesemann 2016,
Management Science 62(7), their worst-case value at risk of growth):

    g = 1/2 (1 - (1 - m + kappa s)^2 - tau s^2)
    kappa = sqrt((1 - epsilon) / (epsilon T))        tau = (T - 1) / (epsilon T)

Derived anew, as follows. With z_t = 1 - y_t the growth is (1 - |z|^2 / T) / 2, and z in R^T has
mean (1 - m, .., 1 - m) and covariance s^2 I. Split z into its part u along the mean, E u = M = (1
- m) sqrt(T), and the rest v, E|v|^2 = (T - 1) s^2. *Attained*: with probability epsilon let u = M
+ h, h = s sqrt((1 - epsilon) / epsilon), and v be uniform on the sphere of radius sqrt((T - 1) /
epsilon) s; else v = 0 and u = c = M - h epsilon / (1 - epsilon). Mean and covariance are as
required, and |z|^2 = R^2 = (M + h)^2 + (T - 1) s^2 / epsilon with probability epsilon. *No worse*:
the quadratic alpha (u - c)^2 + beta |v|^2 with alpha (M + h - c) = beta (M + h), scaled to be 1 at
that point, is at least 1 wherever |z| >= R, as alpha >= beta for c >= 0; its mean is epsilon. So
|z|^2 > R^2 has no more chance than that, and g = (1 - R^2 / T) / 2. c >= 0 is the domain:

    1 - m >= s sqrt(epsilon / ((1 - epsilon) T))

A stake f of one asset with excess mean d >= 0 and deviation s at a rate r has m = r + f d. There g
is concave in f, and largest at

    f = (1 - r) (d - kappa s) / ((d - kappa s)^2 + tau s^2),    0 where d <= kappa s,

or at the end of the domain, f = (1 - r) / (d + s sqrt(epsilon / ((1 - epsilon) T))), where that is
nearer. With T f tends to Kelly's (1 - r) d / (d^2 + s^2 / epsilon) of a variance 1 / epsilon as
large.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Guarantee:
    """Over how many periods, >= 1, and with which chance epsilon of less, in (0, 1)."""

    periods: float
    probability: float

    @property
    def kappa(self) -> float:
        """By how many deviations the mean of all periods may be lower."""
        return float(np.sqrt((1.0 - self.probability) / (self.probability * self.periods)))

    @property
    def tau(self) -> float:
        """By how much the variance of the periods about their mean may be larger."""
        return (self.periods - 1.0) / (self.probability * self.periods)

    @property
    def edge_of_domain(self) -> float:
        """Deviations that 1 - m has to be at least."""
        return float(np.sqrt(self.probability / ((1.0 - self.probability) * self.periods)))


def guaranteed_growth(mean: ArrayLike, deviation: ArrayLike, guarantee: Guarantee) -> Floats:
    """The growth a period that is kept, of book returns of this mean and deviation >= 0, (...,).

    NaN outside the domain, where the formula is no value at risk.
    """
    m, s = np.asarray(mean, np.float64), np.asarray(deviation, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        growth = 0.5 * (1.0 - (1.0 - m + guarantee.kappa * s) ** 2 - guarantee.tau * s * s)
    return np.where(1.0 - m >= guarantee.edge_of_domain * s, growth, np.nan)


def guaranteed_stake(
    excess: ArrayLike, deviation: ArrayLike, rate: float, guarantee: Guarantee
) -> Floats:
    """The stake f >= 0 of the largest guaranteed growth, (...,): 0 where d <= kappa s.

    excess: mean d of the outcome over `rate`; deviation: s >= 0 of it. Infinite for a gain without
    any risk over which the domain has no end.
    """
    d, s = np.asarray(excess, np.float64), np.asarray(deviation, np.float64)
    left = d - guarantee.kappa * s
    with np.errstate(divide="ignore", invalid="ignore"):
        best = left / (left * left + guarantee.tau * s * s)
        last = 1.0 / (d + guarantee.edge_of_domain * s)
    return np.where(left > 0.0, (1.0 - rate) * np.minimum(best, last), 0.0)
