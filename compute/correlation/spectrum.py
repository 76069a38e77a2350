"""Parts of the spectrum of a symmetric matrix: only the pairs that are asked for are computed.

Bringing a matrix to tridiagonal form takes 4/3 n^3 operations and gives every eigenvalue; all
eigenvectors take three times as long again (LAPACK's `syevr`), and estimators need few of them.
"""

import numpy as np
from scipy.linalg import eigh

from compute.history import Floats


def smallest_eigenvalue(matrix: Floats) -> float:
    """The least eigenvalue of a symmetric matrix (n, n)."""
    return float(eigh(matrix, eigvals_only=True, subset_by_index=(0, 0))[0])


def largest_pairs(matrix: Floats, count: int) -> tuple[Floats, Floats]:
    """The `count` largest eigenvalues of a symmetric matrix (n, n), rising, and their vectors.

    Vectors (n, count) stand in columns.
    """
    n = len(matrix)
    values, vectors = eigh(matrix, subset_by_index=(n - count, n - 1))
    return values, vectors


def pairs_above(matrix: Floats, edge: float) -> tuple[Floats, Floats]:
    """The eigenvalues of a symmetric matrix (n, n) above `edge`, rising, and their vectors.

    k of them, perhaps none: values (k,), vectors (n, k) in columns.
    """
    values, vectors = eigh(matrix, subset_by_value=(edge, np.inf))
    return values, vectors
