"""The risk of a book in numbers: every measure that the data at hand allow, or why not.

Parametric measures take the mean return as zero: over a day or a week it is small beside its own
error. Measures of scenarios take them as they are.
"""

from dataclasses import dataclass, field

import numpy as np

from compute.history import Floats
from compute.risk.conditional import FILTERED_MIN, filtered
from compute.risk.contributions import (
    Contributions,
    diversification_ratio,
    effective_bets_principal,
    effective_bets_torsion,
    normal_contributions,
    scenario_contributions,
)
from compute.risk.drawdown import drawdown_tail
from compute.risk.extremes import ParetoTail, pareto_tail
from compute.risk.measures import (
    OutsideDomainError,
    Tail,
    cornish_fisher_tail,
    entropic_normal,
    entropic_value_at_risk,
    historical_tail,
    moments,
    normal_tail,
    spectral_risk,
    student_degrees,
    student_tail,
    tail_weights,
)
from compute.risk.tail_method import PARETO_FRACTION, TailMethod


@dataclass(frozen=True)
class Choices:
    """What a reader may choose of the measures.

    tail_fraction: share of the losses that the Pareto tail is fitted to. degrees: of the Student t,
    None: by the kurtosis. aversion: of the spectrum, > 0.
    """

    tail_fraction: float = PARETO_FRACTION
    degrees: float | None = None
    aversion: float = 20.0


DEFAULT = Choices()


@dataclass(frozen=True)
class Scenarios:
    """returns (K, n), probabilities (K,); `in_order` where rows are periods, one after another."""

    returns: Floats
    probability: Floats
    in_order: bool = True


@dataclass(frozen=True)
class BookRisk:
    """Risk of one book over one period, as fractions of equity. NaN where there is no such number.

    tails: by method; refused: why a method has none. normal and historical: contributions to ES.
    """

    volatility: float
    tails: dict[TailMethod, Tail] = field(default_factory=dict)
    refused: dict[TailMethod, str] = field(default_factory=dict)
    entropic: float = np.nan
    entropic_normal: float = np.nan
    spectral: float = np.nan
    skewness: float = np.nan
    kurtosis: float = np.nan
    degrees: float = np.nan
    pareto: ParetoTail | None = None
    diversification: float = np.nan
    bets_variance: float = np.nan
    bets_principal: float = np.nan
    bets_torsion: float = np.nan
    normal: Contributions | None = None
    historical: Contributions | None = None
    max_drawdown: float = np.nan
    conditional_drawdown: float = np.nan


def book_risk(
    weights: Floats,
    covariance: Floats,
    level: float,
    scenarios: Scenarios | None = None,
    choices: Choices = DEFAULT,
) -> BookRisk:
    """Every measure of a book: weights (n,), covariance (n, n) of a period, level in (0.5, 1)."""
    variance = float(weights @ covariance @ weights)
    volatility = float(np.sqrt(max(variance, 0.0)))
    unit = normal_tail(level)
    ratio, principal, torsion = _diversification(weights, covariance)
    out = BookRisk(
        volatility,
        tails={TailMethod.NORMAL: normal_tail(level, 0.0, volatility)},
        normal=normal_contributions(weights, covariance, unit.expected_shortfall),
        diversification=ratio,
        bets_variance=ratio**2,
        bets_principal=principal,
        bets_torsion=torsion,
        entropic_normal=entropic_normal(level, volatility),
    )
    return out if scenarios is None else _with_scenarios(out, weights, level, scenarios, choices)


def _diversification(weights: Floats, covariance: Floats) -> tuple[float, float, float]:
    """Ratio, effective bets by principal component and by torsion, of what is held."""
    held = np.flatnonzero(weights)
    if not len(held):
        return np.nan, np.nan, np.nan
    part, own = covariance[np.ix_(held, held)], weights[held]
    try:
        torsion = effective_bets_torsion(own, part)
    except ValueError:  # a singular covariance has no torsion
        torsion = np.nan
    return diversification_ratio(own, part), effective_bets_principal(own, part), torsion


def _with_scenarios(
    out: BookRisk, weights: Floats, level: float, scenarios: Scenarios, choices: Choices
) -> BookRisk:
    probability = scenarios.probability
    losses = -(scenarios.returns @ weights)
    _, _, skewness, kurtosis = moments(-losses, probability)
    degrees = student_degrees(kurtosis) if choices.degrees is None else choices.degrees
    tails, refused = dict(out.tails), dict[TailMethod, str]()
    tails[TailMethod.STUDENT] = student_tail(level, degrees, 0.0, out.volatility)
    tails[TailMethod.HISTORICAL] = historical_tail(losses, probability, level)
    try:
        tails[TailMethod.CORNISH_FISHER] = cornish_fisher_tail(
            level, skewness, kurtosis, out.volatility
        )
    except OutsideDomainError as error:
        refused[TailMethod.CORNISH_FISHER] = str(error)
    if not scenarios.in_order:
        refused[TailMethod.FILTERED_HISTORICAL] = "scenarios are not periods in order"
    elif len(losses) < FILTERED_MIN:
        text = f"{len(losses)} periods; {FILTERED_MIN} are needed"
        refused[TailMethod.FILTERED_HISTORICAL] = text
    else:
        tails[TailMethod.FILTERED_HISTORICAL] = historical_tail(
            filtered(losses), probability, level
        )
    pareto = None
    try:
        if np.ptp(probability) > 1e-9 * probability.max():
            raise OutsideDomainError("scenarios are not equally likely")
        pareto = pareto_tail(losses, choices.tail_fraction)
        tails[TailMethod.EXTREME_VALUE] = pareto.tail(level)
    except OutsideDomainError as error:
        refused[TailMethod.EXTREME_VALUE] = str(error)
    weights_of_tail, _ = tail_weights(losses, probability, level)
    falls = drawdown_tail(-losses, level) if scenarios.in_order else (np.nan, np.nan)
    return BookRisk(
        **{
            **vars(out),
            "tails": tails,
            "refused": refused,
            "entropic": entropic_value_at_risk(losses, probability, level),
            "spectral": spectral_risk(losses, probability, choices.aversion),
            "skewness": skewness,
            "kurtosis": kurtosis,
            "degrees": degrees,
            "pareto": pareto,
            "historical": scenario_contributions(weights, scenarios.returns, weights_of_tail),
            "max_drawdown": falls[0],
            "conditional_drawdown": falls[1],
        }
    )
