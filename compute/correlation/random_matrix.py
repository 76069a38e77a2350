"""What random matrix theory says is noise: Marchenko-Pastur edges, denoising, detoning."""

import numpy as np

from compute.history import Floats


def marchenko_pastur_edges(n: int, count: int, variance: float = 1.0) -> tuple[float, float]:
    """s2 (1 -+ sqrt(n / T))^2: where the eigenvalues of pure noise lie, n instruments, T = count.

    Laloux, Cizeau, Bouchaud and Potters 1999, Phys. Rev. Lett. 83.
    """
    root = np.sqrt(n / count)
    return variance * float((1.0 - root) ** 2), variance * float((1.0 + root) ** 2)


def signal_count(eigenvalues: Floats, count: int, variance: float = 1.0) -> int:
    """How many eigenvalues of a correlation lie above the edge of noise of that variance."""
    _, edge = marchenko_pastur_edges(len(eigenvalues), count, variance)
    return int((eigenvalues > edge).sum())


def denoised(correlation: Floats, count: int, variance: float = 1.0) -> tuple[Floats, int]:
    """The correlation with the eigenvalues of noise replaced by their mean, and how many are kept.

    Eigenvectors stay, the trace stays, and the diagonal is scaled back to one (constant residual
    eigenvalue, Lopez de Prado 2020, "Machine Learning for Asset Managers", section 2.5). variance:
    of the noise, a part of 1.
    """
    values, vectors = np.linalg.eigh(correlation)
    kept = signal_count(values, count, variance)
    noise = len(values) - kept
    if noise > 0:
        values = np.concatenate([np.full(noise, values[:noise].mean()), values[noise:]])
    return _unit_diagonal((vectors * values) @ vectors.T), kept


def detoned(correlation: Floats, removed: int = 1) -> Floats:
    """The correlation without its `removed` largest components (the market), unit diagonal.

    It is singular: for clustering, not for sizing. Lopez de Prado 2020, section 2.6.
    """
    values, vectors = np.linalg.eigh(correlation)
    rest = len(values) - removed
    if rest < 1:
        raise ValueError(f"removes {removed} of {len(values)} components; one must be left")
    low = vectors[:, :rest]
    return _unit_diagonal((low * values[:rest]) @ low.T)


def _unit_diagonal(matrix: Floats) -> Floats:
    deviation = np.sqrt(np.diag(matrix))
    out: Floats = matrix / np.outer(deviation, deviation)
    np.fill_diagonal(out, 1.0)
    return out
