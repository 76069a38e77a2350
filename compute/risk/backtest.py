"""Were the VaR and ES forecasts right: tests on recorded forecasts and what came.

Losses, VaR and ES are positive numbers of the same period. A forecast of level a is exceeded with
probability p = 1 - a if it is right.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, chdtrc, ndtr, stdtr, xlogy

from compute.history import Floats
from compute.risk.measures import normal_tail, student_tail

BETTING_FRACTION = 0.01
"""Of the e-process, where none is chosen."""

GRID = 1 << 16
"""Points on which the distribution of a sum of exceedances is computed."""


@dataclass(frozen=True)
class LikelihoodRatio:
    """A statistic and the probability of a larger one if the forecasts were right."""

    statistic: float
    p_value: float


def kupiec(count: int, exceedances: int, probability: float) -> LikelihoodRatio:
    """Are there as many exceedances as there should be (Kupiec 1995); chi-squared(1).

    -2 ln [(1-p)^(T-x) p^x / ((1-x/T)^(T-x) (x/T)^x)]
    """
    rate = exceedances / count
    stayed = count - exceedances
    null = xlogy(stayed, 1.0 - probability) + xlogy(exceedances, probability)
    found = xlogy(stayed, 1.0 - rate) + xlogy(exceedances, rate)
    statistic = float(max(-2.0 * (null - found), 0.0))
    return LikelihoodRatio(statistic, float(chdtrc(1, statistic)))


def transitions(hits: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """n00, n01, n10, n11: how often a period of one kind followed one of the other."""
    before, after = hits[:-1], hits[1:]
    return (
        int((~before & ~after).sum()),
        int((~before & after).sum()),
        int((before & ~after).sum()),
        int((before & after).sum()),
    )


def independence(hits: NDArray[np.bool_]) -> LikelihoodRatio:
    """Do exceedances come in clusters (Christoffersen 1998, first-order Markov); chi-squared(1)."""
    n00, n01, n10, n11 = transitions(hits)
    total = n00 + n01 + n10 + n11
    if total == 0:
        return LikelihoodRatio(0.0, 1.0)
    rate = (n01 + n11) / total
    calm = n01 / max(n00 + n01, 1)
    after = n11 / max(n10 + n11, 1)
    null = xlogy(n00 + n10, 1.0 - rate) + xlogy(n01 + n11, rate)
    found = xlogy(n00, 1.0 - calm) + xlogy(n01, calm) + xlogy(n10, 1.0 - after) + xlogy(n11, after)
    statistic = float(max(-2.0 * (null - found), 0.0))
    return LikelihoodRatio(statistic, float(chdtrc(1, statistic)))


def conditional_coverage(hits: NDArray[np.bool_], probability: float) -> LikelihoodRatio:
    """Number and independence together (Christoffersen 1998); chi-squared(2)."""
    statistic = (
        kupiec(len(hits), int(hits.sum()), probability).statistic + independence(hits).statistic
    )
    return LikelihoodRatio(statistic, float(chdtrc(2, statistic)))


def traffic_light(count: int, exceedances: int, probability: float) -> tuple[str, float]:
    """Zone of the Basel framework and P(X <= x): green below .95, yellow below .9999, else red.

    For 250 days of 99 %: green to 4, yellow 5 to 9, red from 10 exceedances.
    """
    reached = float(bdtr(exceedances, count, probability))
    zone = "GREEN" if reached < 0.95 else "YELLOW" if reached < 0.9999 else "RED"
    return zone, reached


def shortfall_test(losses: Floats, var: Floats, es: Floats, probability: float) -> float:
    """Z2 = 1 - sum L 1[L > VaR] / (T p ES), 0 if ES is right, negative if losses are larger.

    Acerbi and Szekely 2014, "Backtesting expected shortfall". Tests size and number together.
    At p = .025 and T = 250 a forecast is rejected at 5 % below -.70 to -.81, for normal to
    Student t(3) returns.
    """
    beyond = np.where(losses > var, losses / es, 0.0)
    return float(1.0 - beyond.sum() / (len(losses) * probability))


def shortfall_p_value(
    statistic: float, count: int, probability: float, degrees: float | None = None
) -> float:
    """P(Z2 <= statistic) over T = count independent periods if the forecasts are right.

    Losses are of mean 0 and of one distribution but for their scale: normal, or a Student t of
    `degrees` > 2. Then T p (1 - Z2) is a sum of T terms that are 0 with probability 1 - p and else
    L / ES beyond VaR / ES: its distribution is the T-th power of theirs under the Fourier
    transform, on a grid that reaches eight times as far as asked, whose second half nothing
    reaches but a sum with a term beyond the first.
    """
    reached = count * probability * (1.0 - statistic)
    if reached <= 0.0:
        return 1.0
    step = 8.0 * max(reached, count * probability, 1.0) / GRID
    level = 1.0 - probability
    tail = normal_tail(level) if degrees is None else student_tail(level, degrees)
    # What lies between two midpoints is put on the point between them, all beyond on the last.
    ends = (np.arange(GRID // 2) + 0.5) * step * tail.expected_shortfall
    losses = np.maximum(ends, tail.value_at_risk)
    if degrees is None:
        beyond = ndtr(-losses)
    else:  # of variance one
        beyond = stdtr(degrees, -losses * np.sqrt(degrees / (degrees - 2.0)))
    cells = np.zeros(GRID)
    cells[: GRID // 2] = np.concatenate([[1.0], beyond[:-1]]) - beyond
    cells[GRID // 2] = beyond[-1]
    total = np.fft.irfft(np.fft.rfft(cells) ** count, GRID)
    place = int(np.ceil(reached / step - 1e-9))
    return float(np.clip(total[place:].sum(), 0.0, 1.0))


def shortfall_size_test(losses: Floats, var: Floats, es: Floats) -> float:
    """Z1 = 1 - mean of L / ES over the exceedances: their size alone; NaN without exceedances."""
    hits = losses > var
    return float(1.0 - np.mean(losses[hits] / es[hits])) if hits.any() else np.nan


def e_values(losses: Floats, var: Floats, es: Floats, probability: float) -> Floats:
    """(L - VaR)+ / (p (ES - VaR)), (T,): of mean at most 1 if neither VaR nor ES is too small.

    Wang, Wang and Ziegel 2022, "E-backtesting". Needs no model of the losses.
    """
    return np.asarray(np.maximum(losses - var, 0.0) / (probability * (es - var)))


def e_process(values: Floats, fraction: float = BETTING_FRACTION) -> Floats:
    """prod (1 - l + l e_t), (T,): above 1 / q the forecast is rejected at level q, at any time."""
    return np.asarray(np.cumprod(1.0 - fraction + fraction * values))
