"""How fast to trade: slowly costs risk, fast costs impact (Almgren and Chriss 2000).

X units are traded in N periods of tau days. Selling at the rate v units a day takes eta v off the
price of those units and gamma a unit off all later ones; every unit costs half the spread. Days
are independent, of deviation sigma of the price. With x_k left after k periods and n_k = x_(k-1) -
x_k traded in one,

    E = gamma X^2 / 2 + eps X + (eta' / tau) sum n_k^2,    eta' = eta - gamma tau / 2
    V = sigma^2 tau sum x_k^2                              k = 1 .. N

are mean and variance of what trading costs against today's price. E + lambda V is least for

    x_k = X sinh(kappa (N - k) tau) / sinh(kappa N tau)
    2 (cosh(kappa tau) - 1) / tau^2 = lambda sigma^2 / eta', so kappa tau = 2 arsinh(sqrt(..) / 2)

the straight line for lambda = 0. J. Risk 3(2), 5-39. A growth-optimal investor of wealth W who
stakes the fraction c of Kelly takes E + V / (2 c W), to second order: `kelly_aversion`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compute.history import Floats

PERIODS_MAX = 1000


class ImpactError(ValueError):
    """eta' is not positive: periods are so long that the permanent impact of one outweighs."""


@dataclass(frozen=True)
class TradingCost:
    """What moves the price of one instrument, all in money a unit.

    deviation sigma: of the price over a day, > 0. half_spread eps >= 0. temporary eta > 0: for a
    unit traded a day. permanent gamma >= 0: for a unit.
    """

    deviation: float
    half_spread: float
    temporary: float
    permanent: float


@dataclass(frozen=True)
class Schedule:
    """left (N + 1,): units still to be traded, X first and 0 last, of its sign.

    urgency kappa, a day. cost and cost_deviation: mean and deviation of what it costs, money.
    """

    left: Floats
    urgency: float
    cost: float
    cost_deviation: float

    @property
    def trades(self) -> Floats:
        """Units traded in each period, (N,), of the sign of X."""
        return self.left[:-1] - self.left[1:]


def kelly_aversion(wealth: float, kelly_fraction: float) -> float:
    """lambda = 1 / (2 c W), a unit of money to the power -1, of the wealth W > 0."""
    return 1.0 / (2.0 * kelly_fraction * wealth)


def linear_impact(
    spread: float, daily_volume: float, deviation: float, temporary: float, permanent: float
) -> TradingCost:
    """Impacts by the rule of Almgren and Chriss, that so much of a day's volume costs a spread.

    spread > 0 and deviation: money a unit. temporary, permanent: parts of `daily_volume` (units),
    0.01 and 0.1 in their example: trading the first within a day moves the price by a spread while
    it lasts, having traded the second moves it by one for good.
    """
    return TradingCost(
        deviation,
        spread / 2.0,
        spread / (temporary * daily_volume),
        spread / (permanent * daily_volume),
    )


def scheduled(
    units: float, days: float, periods: int, cost: TradingCost, aversion: float
) -> Schedule:
    """The best schedule of X `units` of either sign in `periods` of days / periods.

    aversion lambda >= 0. Raises `ImpactError` where eta' <= 0.
    """
    tau = days / periods
    kept = _kept(cost, tau)
    half = np.sqrt(aversion / kept) * cost.deviation * tau / 2.0
    urgency = float(2.0 * np.arcsinh(half) / tau)
    return priced(units * _left(urgency, days, periods), days, cost, urgency)


def priced(left: Floats, days: float, cost: TradingCost, urgency: float = 0.0) -> Schedule:
    """Any schedule with what it costs; raises `ImpactError` as `scheduled`."""
    tau = days / (len(left) - 1)
    kept, size = _kept(cost, tau), abs(float(left[0]))
    trades = left[:-1] - left[1:]
    mean = (
        0.5 * cost.permanent * size**2
        + cost.half_spread * float(np.abs(trades).sum())
        + kept / tau * float(trades @ trades)
    )
    variance = cost.deviation**2 * tau * float(left[1:] @ left[1:])
    return Schedule(left, urgency, mean, float(np.sqrt(variance)))


def _left(urgency: float, days: float, periods: int) -> Floats:
    """sinh(kappa (T - t)) / sinh(kappa T) at the ends of the periods, (N + 1,)."""
    ahead = np.linspace(days, 0.0, periods + 1)
    if urgency * days <= 1e-8:
        return ahead / days
    # By what is left of it where both are large.
    share = np.exp(urgency * (ahead - days))
    return np.asarray(share * np.expm1(-2.0 * urgency * ahead) / np.expm1(-2.0 * urgency * days))


def _kept(cost: TradingCost, tau: float) -> float:
    kept = cost.temporary - 0.5 * cost.permanent * tau
    if not kept > 0.0:
        raise ImpactError(f"in periods of {tau:g} days the permanent impact outweighs the other")
    return kept


def scheduled_together(
    units: Floats,
    days: float,
    periods: int,
    costs: Sequence[TradingCost],
    covariance: Floats,
    aversion: float,
) -> Floats:
    """What is left of each of n orders after k = 0 .. N periods, (N + 1, n): the best of a basket.

        V = tau sum x_k' C x_k         C (n, n): covariance of prices over a day, money^2

    takes the place of the variance of single orders. In y = H^(1/2) x, H = diag(eta'_i), impact is
    that of a ball, and H^-1/2 C H^-1/2 = U e U' parts the basket into directions, each an order by
    itself with e in the place of sigma^2 / eta' (Almgren and Chriss 2000, appendix A). Orders that
    hedge each other wait together; an order may be overdone for a while to hedge a slower one. The
    spread counts in no choice here, as it is the same of every schedule that never turns.

    units (n,), of either sign. costs: their deviations are not read. Raises `ImpactError`.
    """
    tau = days / periods
    root = np.sqrt(np.array([_kept(cost, tau) for cost in costs]))
    risk, axes = np.linalg.eigh(covariance / np.outer(root, root))
    half = np.sqrt(aversion * np.maximum(risk, 0.0)) * tau / 2.0
    urgency = 2.0 * np.arcsinh(half) / tau
    shares = np.stack([_left(float(kappa), days, periods) for kappa in urgency], axis=1)
    return np.asarray((shares * (axes.T @ (root * units))) @ axes.T / root)


def power_law(
    size: float, days: float, daily_volume: float, deviation: float, outstanding: float
) -> tuple[float, float]:
    """What even trading of |X| = `size` units over T days costs in US shares, of the price.

        I = 0.314 s (X / V) (O / V)^(1/4)        J = I / 2 + 0.142 s (X / (V T))^(3/5)

    I: by which the price has moved for good; J: what is paid on average, half the spread not in it.
    s: relative deviation of a day; V, O: units a day and outstanding. Almgren, Thum, Hauptmann and
    Li 2005, "Direct estimation of equity market impact", Risk, July; orders up to a tenth of V.
    """
    share = size / daily_volume
    permanent = 0.314 * deviation * share * (outstanding / daily_volume) ** 0.25
    return permanent, permanent / 2.0 + 0.142 * deviation * (share / days) ** 0.6
