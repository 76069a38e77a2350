"""Means made better by what is known beside each line's own sample: the other lines, priors, views.

James-Stein   of k means with errors e_i, towards their average weighted with 1 / e^2:

    m' = M + (1 - B)+ (m - M),   B = (k - 3) / sum ((m - M) / e)^2

the positive-part estimator with the centre estimated too; below four lines nothing is shrunk. All
means together are nearer to the truth than the samples, each by itself need not be. Efron and
Morris 1973 (J. American Statistical Association 68); errors of the shrunk means are those of the
normal model behind it, sqrt(1 - B) e, and leave out that M and B are estimates.

Prior and views   of means with error covariance C (samples) joined with a prior N(p, d^2) a line
and views A mu = q with errors w, as Black and Litterman (1992) do with an equilibrium as their
prior:

    mu = m + C A' (A C A' + W)^-1 (q - A m),    C' = C - C A' (A C A' + W)^-1 A C
"""

from dataclasses import dataclass

import numpy as np

from compute.market import Floats

LINES_MIN = 4
"""With an estimated centre fewer means can't be shrunk for the better."""


@dataclass(frozen=True)
class Means:
    """Means (n,) and the covariance of their errors (n, n)."""

    mean: Floats
    covariance: Floats

    @property
    def error(self) -> Floats:
        """Standard errors, (n,)."""
        return np.sqrt(np.maximum(np.diagonal(self.covariance), 0.0))


@dataclass(frozen=True)
class Shrunk:
    """Shrunk means, what they were shrunk towards, and by how much: B in [0, 1]."""

    means: Means
    centre: float
    intensity: float


def james_stein(means: Means) -> Shrunk:
    """All means shrunk towards their weighted average. Means without an error stay as they are."""
    m, error = means.mean, means.error
    used = np.flatnonzero((error > 0.0) & np.isfinite(error) & np.isfinite(m))
    precision = 1.0 / error[used] ** 2
    if len(used) < LINES_MIN:
        centre = float(precision @ m[used] / precision.sum()) if len(used) else 0.0
        return Shrunk(means, centre, 0.0)
    centre = float(precision @ m[used] / precision.sum())
    spread = float(precision @ (m[used] - centre) ** 2)
    intensity = 1.0 if spread <= len(used) - 3 else (len(used) - 3) / spread
    out, kept = m.copy(), np.ones(len(m))
    out[used] = centre + (1.0 - intensity) * (m[used] - centre)
    kept[used] = np.sqrt(1.0 - intensity)
    return Shrunk(Means(out, means.covariance * np.outer(kept, kept)), centre, intensity)


def with_views(means: Means, views: Floats, told: Floats, error: Floats) -> Means:
    """Means once v views A (v, n) of them are heard: A mu is `told` (v,) but for `error` (v,).

    An error of 0 is certainty; `contradicted` says whether certain views can all be true.
    """
    reach = means.covariance @ views.T
    inner = views @ reach + np.diag(error**2)
    gain = reach @ np.linalg.pinv(inner, hermitian=True)
    mean = means.mean + gain @ (told - views @ means.mean)
    covariance = means.covariance - gain @ reach.T
    return Means(mean, 0.5 * (covariance + covariance.T))


def contradicted(views: Floats, told: Floats, error: Floats) -> int | None:
    """The first certain view that those certain before it rule out; None where all can be true."""
    certain = np.flatnonzero(error == 0.0)
    for count in range(2, len(certain) + 1):
        rows, wanted = views[certain[:count]], told[certain[:count]]
        best = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        # Rounding of doubles, far below what anybody means by another view.
        if np.abs(rows @ best - wanted).max() > 1e-9 * np.abs(wanted).max():
            return int(certain[count - 1])
    return None


def with_prior(means: Means, prior: Floats, error: Floats) -> Means:
    """Means joined with a prior mean of each line (n,) and its error (n,)."""
    return with_views(means, np.eye(len(prior)), prior, error)
