"""How long until one could know: what an edge takes to show in its own results.

Log growth of mean g and deviation s a period is so many standard errors from 0 after n periods:

    t = g sqrt(n) / s,    so  n = (t s / g)^2

of full Kelly in continuous time (g = SR^2 / 2, s = SR) 4 t^2 / SR^2: with t = 2, 16 years at a
Sharpe ratio of 1 and 64 at a half. Wald's (1945) sequential test of claimed win probabilities p
against break-even ones q adds log(q^x (1-q)^(1-x) / (p^x (1-p)^(1-x))) a bet and stops at

    A = log((1 - b) / a)  "gone",    B = log(b / (1 - a))  "holds"

a the probability of "gone" where the edge holds, b of "holds" where it is gone; bounds taken as met
exactly, it takes (P(A) A + P(B) B) / E[step] bets. No other test of these errors needs fewer.
"""

from dataclasses import dataclass
from math import inf, log, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from compute.market import Floats
from compute.simulate.long_run import DEVIATION_MIN

STANDARD_ERRORS = 2.0
FALSE_ALARM, MISSED = 0.05, 0.1
"""Usual errors a and b of a sequential test."""
MARGIN = 1e-9
"""Certainty is moved in by this much: a surprise ends a test, and costs no infinity."""
NEAR = 0.02
"""Up to here the terms of `_LOG_SERIES` are all that doubles can tell."""
_LOG_SERIES = -((-1.0) ** np.arange(9)) / np.arange(2, 11)
"""Of log(1 + x) - x, over x^2."""


def periods_needed(growth: Floats, deviation: Floats) -> Floats:
    """Periods until the mean log growth is `STANDARD_ERRORS` away from 0; inf where it is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.square(STANDARD_ERRORS * deviation / growth)
    return np.where(growth == 0.0, inf, found)


@dataclass(frozen=True)
class GrowthEvidence:
    """Log growth a period, its deviation, standard errors from 0 so far, and periods until two."""

    growth: float
    deviation: float
    t_statistic: float
    periods_needed: float


def growth_evidence(logs: Floats) -> GrowthEvidence | None:
    """Of realised log growth, (n,).

    None for fewer than two periods, after ruin, and without variation.
    """
    if len(logs) < 2 or not np.isfinite(logs).all():
        return None
    growth, deviation = float(logs.mean()), float(logs.std(ddof=1))
    if deviation <= DEVIATION_MIN * max(abs(growth), DEVIATION_MIN):
        return None
    needed = float(periods_needed(np.array(growth), np.array(deviation)))
    return GrowthEvidence(growth, deviation, growth * sqrt(len(logs)) / deviation, needed)


@dataclass(frozen=True)
class SequentialTest:
    """Wald's test of bets on a claimed edge.

    gone_above: A; holds_below: B. bets_if_it_holds, bets_if_gone: mean bets until it stops, of bets
    like those claimed. bets_fixed: of a test with these errors that looks once; None for bets of
    several kinds.
    """

    gone_above: float
    holds_below: float
    bets_if_it_holds: float
    bets_if_gone: float
    bets_fixed: float | None


@dataclass(frozen=True)
class SequentialResult:
    """Where the test stands: its sum after all bets, whether it stopped, and after how many.

    is_gone: None while it goes on.
    """

    test: SequentialTest
    log_ratio: float
    is_gone: bool | None
    bets: int


def sequential_test(
    claimed: Floats,
    break_even: Floats,
    false_alarm: float = FALSE_ALARM,
    missed: float = MISSED,
) -> SequentialTest | None:
    """The test of bets with these claims, (n,) each; None where none claims an edge.

    false_alarm + missed < 1. Bets that claim no edge are left out.
    """
    p, q, _ = _edges(claimed, break_even)
    if not len(p):
        return None
    upper, lower = log((1.0 - missed) / false_alarm), log(missed / (1.0 - false_alarm))
    if_holds, if_gone = -float(_information(p, q).mean()), float(_information(q, p).mean())
    alike = bool((p == p[0]).all() and (q == q[0]).all())
    return SequentialTest(
        gone_above=upper,
        holds_below=lower,
        bets_if_it_holds=(false_alarm * upper + (1.0 - false_alarm) * lower) / if_holds,
        bets_if_gone=((1.0 - missed) * upper + missed * lower) / if_gone,
        bets_fixed=_fixed(float(p[0]), float(q[0]), false_alarm, missed) if alike else None,
    )


def sequential_result(
    claimed: Floats,
    break_even: Floats,
    won: Floats,
    false_alarm: float = FALSE_ALARM,
    missed: float = MISSED,
) -> SequentialResult | None:
    """What the bets made say, wins in {0, 1}, in order; None where none claims an edge."""
    test = sequential_test(claimed, break_even, false_alarm, missed)
    if test is None:
        return None
    p, q, held = _edges(claimed, break_even)
    x = won[held]
    path = np.where(x > 0.0, np.log(q / p), np.log((1.0 - q) / (1.0 - p))).cumsum()
    stops = np.flatnonzero((path >= test.gone_above) | (path <= test.holds_below))
    if not len(stops):
        return SequentialResult(test, float(path[-1]), None, len(path))
    end = int(stops[0])
    return SequentialResult(test, float(path[-1]), bool(path[end] > 0.0), end + 1)


def _edges(claimed: Floats, break_even: Floats) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Probabilities of the bets that claim an edge, and which these are.

    An edge that is less than `MARGIN` away from certainty can't be told from none.
    """
    p, q = (np.clip(each, MARGIN, 1.0 - MARGIN) for each in (claimed, break_even))
    held = p > q
    return p[held], q[held], held


def _information(p: Floats, q: Floats) -> Floats:
    """p log(p/q) + (1-p) log((1-p)/(1-q)), (n,): what a bet tells of p against q, in nats.

    Of two that are nearly the same it is the difference of numbers as large as their distance,
    which it is the square of: these are left out of the logarithms.
    """
    apart = q - p
    return -(p * _beyond_linear(apart / p) + (1.0 - p) * _beyond_linear(-apart / (1.0 - p)))


def _beyond_linear(x: Floats) -> Floats:
    """log(1 + x) - x, for x > -1."""
    near = np.abs(x) < NEAR
    series = x * x * np.polynomial.polynomial.polyval(np.where(near, x, 0.0), _LOG_SERIES)
    return np.where(near, series, np.log1p(x) - x)


def _fixed(p: float, q: float, false_alarm: float, missed: float) -> float:
    """((z_a sqrt(p (1-p)) + z_b sqrt(q (1-q))) / (p - q))^2, the normal approximation."""
    normal = NormalDist()
    reach = normal.inv_cdf(1.0 - false_alarm) * sqrt(p * (1.0 - p))
    reach += normal.inv_cdf(1.0 - missed) * sqrt(q * (1.0 - q))
    return (reach / (p - q)) ** 2 if p > q else inf
