"""Diagonals of matrices, small ones by a constant mask.

What JAX makes of a diagonal is gathered by indices, which takes ten times as long.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

SMALL = 64  # names up to which the mask is small beside the code


def diagonal(matrix: Array) -> Array:
    """The diagonal of f64[n, n], f64[n]."""
    size = matrix.shape[0]
    if size > SMALL:
        return jnp.diagonal(matrix)
    return jnp.sum(jnp.where(np.eye(size, dtype=bool), matrix, 0.0), axis=0)


def raised(matrix: Array, by: Array) -> Array:
    """The matrix with f64[n] added to its diagonal."""
    size = matrix.shape[0]
    if size > SMALL:
        return matrix + jnp.diag(by)
    return matrix + jnp.where(np.eye(size, dtype=bool), by[:, None], 0.0)
