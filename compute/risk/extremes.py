"""Extreme value theory: a generalised Pareto distribution of the losses above a threshold."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import inv_boxcox1p

from compute.history import Floats
from compute.risk.measures import OutsideDomainError, Tail

EXCEEDANCES_MIN = 20
"""Fewer losses above the threshold say next to nothing of the shape."""
_EXPONENTIAL = 1e-9
_NEVER = 1e9
"""Of a negative log likelihood; finite, as the search subtracts values."""


@dataclass(frozen=True)
class ParetoTail:
    """P(L - u > y | L > u) = (1 + xi y / b)^(-1/xi), and how well that is known.

    threshold u, shape xi, scale b, count n of all losses, exceedances Nu. Errors are asymptotic
    (xi > -1/2). distance: Kolmogorov-Smirnov, between 0 and 1. shape_of_half: xi from the larger
    half of the exceedances; far from `shape`, the threshold is too low.
    """

    threshold: float
    shape: float
    scale: float
    count: int
    exceedances: int
    shape_error: float = 0.0
    scale_error: float = 0.0
    distance: float = 0.0
    shape_of_half: float = 0.0

    def tail(self, level: float) -> Tail:
        """VaR = u + b/xi ((n/Nu (1-a))^-xi - 1), ES = VaR/(1-xi) + (b - xi u)/(1-xi).

        McNeil and Frey 2000, J. Empirical Finance 7. Raises `OutsideDomainError` for a level
        below the threshold's, and for xi >= 1, where no mean exists.
        """
        share = self.count / self.exceedances * (1.0 - level)
        if share > 1.0:
            raise OutsideDomainError(
                f"level {level:g} lies below the threshold, which {self.exceedances} of "
                f"{self.count} losses exceed"
            )
        if self.shape >= 1.0:
            raise OutsideDomainError(f"shape {self.shape:.3g}: the tail has no mean from 1 on")
        xi, b, u = self.shape, self.scale, self.threshold
        stretch = -np.log(share) if abs(xi) < _EXPONENTIAL else np.expm1(-xi * np.log(share)) / xi
        var = float(u + b * stretch)
        return Tail(var, (var + b - xi * u) / (1.0 - xi))


def fit_pareto(excesses: Floats) -> tuple[float, float]:
    """Shape xi and scale b of excesses y > 0 by maximum likelihood, xi > -1/2.

    For a given ratio r = xi / b the likelihood is largest at xi = mean ln(1 + r y) (Grimshaw 1993),
    which leaves a search along one line.
    """
    y = excesses / excesses.mean()
    largest = float(y.max())

    def shape(ratio: float) -> float:
        return float(np.mean(np.log1p(ratio * y)))

    def loss(ratio: float) -> float:
        if abs(ratio) < 1e-8:
            return 1.0  # exponential of mean 1: ln b + mean y / b at b = 1
        xi = shape(ratio)
        if xi <= -0.5 or xi / ratio <= 0.0:
            return _NEVER
        return float(np.log(xi / ratio) + 1.0 + xi)

    grid = np.concatenate([-np.geomspace(1e-4, 0.999999 / largest, 60)[::-1], [0.0],
                           np.geomspace(1e-4, 1e3, 100)])  # fmt: skip
    values = np.array([loss(float(r)) for r in grid])
    best = int(values.argmin())
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
    ratio = float(found.x) if found.fun <= values[best] else float(grid[best])
    if abs(ratio) < 1e-8:
        return 0.0, float(excesses.mean())
    xi = shape(ratio)
    return xi, xi / ratio * float(excesses.mean())


def _pareto_cdf(scaled: Floats, xi: float) -> Floats:
    """1 - (1 + xi x)^(-1 / xi), x the excess over the scale; 1 beyond the end of a bounded tail."""
    if xi < 0.0:
        scaled = np.minimum(scaled, -1.0 / xi)
    return np.asarray(-inv_boxcox1p(-scaled, -xi))


def pareto_tail(losses: Floats, fraction: float = 0.1) -> ParetoTail:
    """The tail fitted above the threshold that `fraction` of the losses exceed.

    Raises `OutsideDomainError` where fewer than 20 do. Losses are taken as independent; where
    volatility clusters, filter first.
    """
    ordered = np.sort(losses)
    wanted = int(np.floor(fraction * len(losses)))
    if wanted < EXCEEDANCES_MIN or wanted >= len(losses):
        raise OutsideDomainError(
            f"{wanted} of {len(losses)} losses lie above the threshold; {EXCEEDANCES_MIN} are "
            "needed"
        )
    threshold = float(ordered[-wanted - 1])
    excesses = ordered[ordered > threshold] - threshold
    if len(excesses) < EXCEEDANCES_MIN:
        raise OutsideDomainError(f"only {len(excesses)} losses differ from the threshold")
    xi, b = fit_pareto(excesses)
    n = len(excesses)
    model = _pareto_cdf(excesses / b, xi)
    steps = np.arange(n + 1) / n
    distance = max(np.abs(model - steps[1:]).max(), np.abs(model - steps[:-1]).max())
    middle = excesses[n // 2]
    upper = excesses[excesses > middle] - middle
    half, _ = fit_pareto(upper) if len(upper) > 1 else (xi, b)
    bounded = max(xi, -0.49)
    return ParetoTail(
        threshold=threshold,
        shape=xi,
        scale=b,
        count=len(losses),
        exceedances=n,
        shape_error=float((1.0 + bounded) / np.sqrt(n)),
        scale_error=float(b * np.sqrt(2.0 * (1.0 + bounded) / n)),
        distance=float(distance),
        shape_of_half=half,
    )
