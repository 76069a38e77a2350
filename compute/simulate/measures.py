"""Performance measures of a series of simple returns, one convention each.

r: returns per period, (n,); rf: risk-free rate per period; P: periods per year. Where a measure is
not defined it is None: a standard deviation that is nothing but rounding has no Sharpe ratio, a
path that never falls has no Calmar ratio.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from compute.analytics.evidence import growth_evidence
from compute.market import Floats
from compute.risk.drawdown import drawdowns
from compute.simulate.sharpe import (
    autocorrelated_sharpe,
    probabilistic_sharpe,
    sharpe_error,
    sharpe_ratio,
    track_record_min,
)


@dataclass(frozen=True)
class Measures:
    """Measures of one series; None where not defined. Fractions, annualised where said.

    total_return: prod(1 + r) - 1. cagr: (1 + total)^(P/n) - 1. log_growth: P mean log(1 + r);
    None where a return is -1 or less (ruin). volatility: sqrt(P) sd(r), n - 1 in the denominator.
    sharpe: sqrt(P) mean(r - rf) / sd(r - rf). sortino: with sqrt(P mean min(r - rf, 0)^2) below, n
    in the denominator (Sortino and van der Meer 1991). max_drawdown: from the running peak, the
    start included. calmar: cagr / max_drawdown. ulcer: sqrt(mean drawdown^2). omega: gains over
    losses around 0. hit_rate: part of all periods with r > 0.
    sharpe_error: standard error of the Sharpe ratio per period times sqrt(P), Mertens 2002.
    sharpe_probability: P(true Sharpe ratio > 0), Bailey and Lopez de Prado 2012.
    sharpe_autocorrelated, sharpe_autocorrelated_error: a year's ratio where returns depend on
    those before, and its standard error, Lo 2002. track_record_min: periods until
    sharpe_probability is 0.95, at this ratio and shape. evidence_periods: until the mean log growth
    is two standard errors from 0, at this mean and deviation.
    """

    periods: int
    total_return: float | None
    cagr: float | None
    log_growth: float | None
    volatility: float | None
    sharpe: float | None
    sharpe_error: float | None
    sharpe_probability: float | None
    sortino: float | None
    max_drawdown: float | None
    calmar: float | None
    ulcer: float | None
    omega: float | None
    hit_rate: float | None
    sharpe_autocorrelated: float | None
    sharpe_autocorrelated_error: float | None
    track_record_min: float | None
    evidence_periods: float | None


def measures(returns: Floats, periods_per_year: float, risk_free_rate: float = 0.0) -> Measures:
    """All measures of a series. Raises `ValueError` naming the first period that is not finite."""
    _require_finite(returns)
    n, per_year = len(returns), periods_per_year
    excess = returns - risk_free_rate
    solvent = n > 0 and bool((returns > -1.0).all())
    total = float(np.prod(1.0 + returns)) - 1.0 if n else None
    cagr = (1.0 + total) ** (per_year / n) - 1.0 if solvent and total is not None else None
    ratio = sharpe_ratio(excess)
    error = None if ratio is None else sharpe_error(excess)
    below = sqrt(per_year * float(np.mean(np.minimum(excess, 0.0) ** 2))) if n else 0.0
    falls = drawdowns(returns)
    worst = float(falls.max(initial=0.0))
    known = growth_evidence(np.log1p(returns)) if solvent else None
    dependent = autocorrelated_sharpe(excess, round(per_year))
    losses = float(np.maximum(-returns, 0.0).sum())
    return Measures(
        periods=n,
        total_return=total,
        cagr=cagr,
        log_growth=per_year * float(np.log1p(returns).mean()) if solvent else None,
        volatility=sqrt(per_year) * float(returns.std(ddof=1)) if n > 1 else None,
        sharpe=None if ratio is None else sqrt(per_year) * ratio,
        sharpe_error=None if error is None else sqrt(per_year) * error,
        sharpe_probability=None if ratio is None else probabilistic_sharpe(excess, 0.0),
        sortino=per_year * float(excess.mean()) / below if below > 0.0 else None,
        max_drawdown=worst if n else None,
        calmar=cagr / worst if cagr is not None and worst > 0.0 else None,
        ulcer=sqrt(float(np.mean(falls**2))) if n else None,
        omega=float(np.maximum(returns, 0.0).sum()) / losses if losses > 0.0 else None,
        hit_rate=float(np.mean(returns > 0.0)) if n else None,
        sharpe_autocorrelated=None if dependent is None else dependent[0],
        sharpe_autocorrelated_error=None if dependent is None else dependent[1],
        track_record_min=track_record_min(excess),
        evidence_periods=None if known is None or not known.growth else known.periods_needed,
    )


def _require_finite(returns: Floats) -> None:
    wrong = np.flatnonzero(~np.isfinite(returns))
    if len(wrong):
        raise ValueError(f"the return of period {int(wrong[0])} is {returns[wrong[0]]}")
