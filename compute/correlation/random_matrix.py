"""What random matrix theory says is noise: Marchenko-Pastur edges, denoising, detoning."""

import numpy as np

from compute.correlation.spectrum import largest_pairs, pairs_above
from compute.history import Floats

_NOTHING = 1e-12
"""Of a variance of 1; less is what rounding leaves."""


def marchenko_pastur_edges(n: int, count: int, variance: float = 1.0) -> tuple[float, float]:
    """s2 (1 -+ sqrt(n / T))^2: where the eigenvalues of pure noise lie, n instruments, T = count.

    Laloux, Cizeau, Bouchaud and Potters 1999, Phys. Rev. Lett. 83.
    """
    root = np.sqrt(n / count)
    return variance * float((1.0 - root) ** 2), variance * float((1.0 + root) ** 2)


def denoised(correlation: Floats, count: int, variance: float = 1.0) -> tuple[Floats, int]:
    """The correlation with the eigenvalues of noise replaced by their mean, and how many are kept.

    Eigenvectors stay, the trace stays, and the diagonal is scaled back to one (constant residual
    eigenvalue, Lopez de Prado 2020, "Machine Learning for Asset Managers", section 2.5). variance:
    of the noise, a part of 1.
    """
    n = len(correlation)
    values, vectors = pairs_above(correlation, marchenko_pastur_edges(n, count, variance)[1])
    if len(values) == n:
        return _unit_diagonal(correlation), n
    # With all noise at one value m the matrix is V diag(l - m) V' + m I over what is kept.
    noise = (float(np.trace(correlation)) - float(values.sum())) / (n - len(values))
    cleaned = (vectors * (values - noise)) @ vectors.T
    cleaned[np.diag_indices(n)] += noise
    return _unit_diagonal(cleaned), len(values)


def detoned(correlation: Floats, removed: int = 1) -> Floats:
    """The correlation without its `removed` largest components (the market), unit diagonal.

    It is singular: for clustering, not for sizing. Lopez de Prado 2020, section 2.6. Raises
    `ValueError` where an instrument has no part in what is left.
    """
    n = len(correlation)
    if removed >= n:
        raise ValueError(f"removes {removed} of {n} components; one must be left")
    values, vectors = largest_pairs(correlation, removed)
    left = correlation - (vectors * values) @ vectors.T
    if np.diag(left).min() <= _NOTHING:
        raise ValueError(
            f"nothing is left of an instrument without the {removed} largest components"
        )
    return _unit_diagonal(left)


def _unit_diagonal(matrix: Floats) -> Floats:
    deviation = np.sqrt(np.diag(matrix))
    out: Floats = matrix / np.outer(deviation, deviation)
    np.fill_diagonal(out, 1.0)
    return out
