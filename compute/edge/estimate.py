"""Estimates of edges from outcomes, each with how far it may be off.

Of n outcomes x_k of a line with weights v_k summing to 1 (equal, or halving with age):

    mean m = sum v x        its error s / sqrt(n'),   n' = 1 / sum v^2
    volatility s            s^2 = sum v (x - m)^2 / (1 - sum v^2),   its error s / sqrt(2 (n' - 1))
    p | w wins, l losses    Beta(a0 + n' share of wins, b0 + n' share of losses)
    payoff b, loss a        means of wins and of losses, each with its error

Intervals are of the probability that is asked for: of p by quantiles of the Beta, of m by those of
Student's t with n' - 1 degrees of freedom, of Kelly p/a - q/b by the ends of p, which is exact for
known b and a and not cut at 0: a lower end below 0 says that the data don't rule out an edge on the
other side. Browne and Whitt 1996.

What was never seen is taken at its worst, as sizes are (`edges.one_sided`): without a loss a loss
takes the whole stake, without a win a win pays what a loss costs, at no more than even odds. One
win or loss says nothing about its spread: its error is its own size.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, ndtri, stdtrit

from compute.market import Floats
from compute.optimize.time_limit import checkpoint

Flags = NDArray[np.bool_]

SEEN_MIN = 1
"""Fewer outcomes estimate nothing."""


@dataclass(frozen=True)
class EdgeSettings:
    """prior_wins, prior_losses: the Beta prior. half_life: in outcomes, None for equal weights.

    risk_free_rate: what the Kelly fraction of moments has to beat. probability: of all intervals.
    """

    prior_wins: float = 1.0
    prior_losses: float = 1.0
    half_life: float | None = None
    risk_free_rate: float = 0.0
    probability: float = 0.95


@dataclass(frozen=True)
class EdgeEstimates:
    """Estimates of n lines, (n,) each; NaN where the outcomes don't say.

    mean_sample: before it was shrunk or joined with prior and views; equal to `mean` else.
    kelly: of the bet (p, b, a); its ends `kelly_low` and `kelly_high`; kelly_positive: the
    probability that it is above 0. kelly_moments: (m - r) / s^2 with its error.
    """

    count: Floats
    wins: Floats
    losses: Floats
    win_probability: Floats
    win_probability_error: Floats
    win_probability_low: Floats
    win_probability_high: Floats
    payoff: Floats
    payoff_error: Floats
    loss_fraction: Floats
    loss_fraction_error: Floats
    mean: Floats
    mean_error: Floats
    mean_low: Floats
    mean_high: Floats
    mean_sample: Floats
    volatility: Floats
    volatility_error: Floats
    kelly: Floats
    kelly_low: Floats
    kelly_high: Floats
    kelly_positive: Floats
    kelly_moments: Floats
    kelly_moments_error: Floats


def age_weights(count: int, half_life: float | None) -> Floats:
    """Weights of `count` outcomes, oldest first, summing to 1, (count,)."""
    if half_life is None:
        return np.full(count, 1.0 / count)
    raw = 0.5 ** (np.arange(count)[::-1] / half_life)
    out: Floats = raw / raw.sum()
    return out


def estimates_of(outcomes: list[Floats], settings: EdgeSettings) -> EdgeEstimates:
    """Estimates from the outcomes of each line, oldest first, on the line's side."""
    rows = [_row(x, age_weights(len(x), settings.half_life), settings) for x in outcomes]
    columns = np.array(rows).reshape(-1, _ROW).T
    return from_moments(*columns, settings=settings)


def estimates_of_scenarios(
    outcomes: list[Floats], probability: Floats, settings: EdgeSettings
) -> EdgeEstimates:
    """The same of scenarios (K,) of each line with their probabilities (K,)."""
    some = probability > 0.0
    weight = probability[some] / probability[some].sum()
    columns = np.array([_row(x[some], weight, settings) for x in outcomes]).reshape(-1, _ROW).T
    return from_moments(*columns, settings=settings)


_ROW = 12


def _row(x: Floats, weight: Floats, settings: EdgeSettings) -> tuple[float, ...]:
    """Counts, payoff, loss and their errors, mean, variance and effective count of one line."""
    checkpoint()
    if len(x) < SEEN_MIN:
        return (0.0, 0.0, 0.0, *([np.nan] * (_ROW - 3)))
    effective = 1.0 / float(weight @ weight)
    won, lost = x > 0.0, x < 0.0
    mean = float(weight @ x)
    free = 1.0 - float(weight @ weight)
    variance = float(weight @ (x - mean) ** 2) / free if free > 1e-12 else np.nan
    return (
        float(len(x)),
        _count(won, weight, effective),
        _count(lost, weight, effective),
        *_mean_and_error(x[won], weight[won]),
        *_mean_and_error(-x[lost], weight[lost]),
        mean,
        variance,
        effective,
        settings.prior_wins,
        settings.prior_losses,
    )


def _count(chosen: Flags, weight: Floats, effective: float) -> float:
    """How many are chosen; of weighted outcomes the effective number."""
    if weight[0] == weight[-1] and np.ptp(weight) == 0.0:
        return float(chosen.sum())
    return effective * float(weight[chosen].sum())


def _mean_and_error(x: Floats, weight: Floats) -> tuple[float, float]:
    if not len(x):
        return np.nan, np.nan
    share = weight / weight.sum()
    mean, squares = float(share @ x), float(share @ share)
    if squares >= 1.0 - 1e-12:
        return mean, np.nan
    variance = float(share @ (x - mean) ** 2) / (1.0 - squares)
    return mean, float(np.sqrt(variance * squares))


def from_moments(
    count: Floats,
    wins: Floats,
    losses: Floats,
    payoff: Floats,
    payoff_error: Floats,
    loss: Floats,
    loss_error: Floats,
    mean: Floats,
    variance: Floats,
    effective: Floats,
    prior_wins: Floats,
    prior_losses: Floats,
    *,
    settings: EdgeSettings,
) -> EdgeEstimates:
    """The same from what the outcomes come to, (n,) each."""
    tail = 0.5 * (1.0 - settings.probability)
    loss = np.where((losses > 0.0) | np.isnan(effective), loss, 1.0)
    loss_error = np.where(losses > 0.0, np.where(np.isnan(loss_error), loss, loss_error), 0.0)
    payoff = np.where((wins > 0.0) | np.isnan(effective), payoff, loss)
    payoff_error = np.where(wins > 0.0, np.where(np.isnan(payoff_error), payoff, payoff_error), 0.0)
    alpha, beta = wins + prior_wins, losses + prior_losses
    total = alpha + beta
    p = np.where(wins > 0.0, alpha / total, np.minimum(alpha / total, 0.5))
    low, high = betaincinv(alpha, beta, tail), betaincinv(alpha, beta, 1.0 - tail)
    volatility = np.sqrt(variance)
    degrees = np.where(effective > 1.0, effective - 1.0, np.nan)
    mean_error = volatility / np.sqrt(effective)
    reach = stdtrit(degrees, 1.0 - tail) * mean_error
    with np.errstate(divide="ignore", invalid="ignore"):
        edge = (mean - settings.risk_free_rate) / variance
        edge_error = mean_error / variance
        fair = loss / (loss + payoff)
    return EdgeEstimates(
        count=count,
        wins=wins,
        losses=losses,
        win_probability=p,
        win_probability_error=np.sqrt(p * (1.0 - p) / (total + 1.0)),
        win_probability_low=low,
        win_probability_high=high,
        payoff=payoff,
        payoff_error=payoff_error,
        loss_fraction=loss,
        loss_fraction_error=loss_error,
        mean=mean,
        mean_error=mean_error,
        mean_low=mean - reach,
        mean_high=mean + reach,
        mean_sample=mean,
        volatility=volatility,
        volatility_error=volatility / np.sqrt(2.0 * degrees),
        kelly=_kelly(p, payoff, loss),
        kelly_low=_kelly(low, payoff, loss),
        kelly_high=_kelly(high, payoff, loss),
        kelly_positive=betainc(beta, alpha, 1.0 - fair),
        kelly_moments=edge,
        kelly_moments_error=edge_error,
    )


def _kelly(p: Floats, payoff: Floats, loss: Floats) -> Floats:
    out: Floats = p / loss - (1.0 - p) / payoff
    return out


def with_means(
    found: EdgeEstimates, mean: Floats, error: Floats, settings: EdgeSettings
) -> EdgeEstimates:
    """The estimates with other means and errors (n,), whose intervals are normal."""
    reach = ndtri(0.5 * (1.0 + settings.probability)) * error
    variance = found.volatility**2
    with np.errstate(divide="ignore", invalid="ignore"):
        edge, edge_error = (mean - settings.risk_free_rate) / variance, error / variance
    return replace(
        found,
        mean=mean,
        mean_error=error,
        mean_low=mean - reach,
        mean_high=mean + reach,
        kelly_moments=edge,
        kelly_moments_error=edge_error,
    )
