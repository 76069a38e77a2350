"""Cholesky factors by blocks: LAPACK within a block of columns, matrix products between them.

A factor stays in its blocks. Put together, XLA would copy all of it into LAPACK's order for every
single right-hand side, which takes longer than solving.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

BLOCK = 128


class Columns(NamedTuple):
    """One block of columns of L: head f64[b, b], its lower triangle, and below f64[rest, b]."""

    head: Array
    below: Array


Factor = tuple[Columns, ...]
"""L of a positive definite matrix LL'."""


def factor(matrix: Array) -> Factor:
    """Of f64[n, n], whose lower triangle counts."""
    blocks = []
    for width in _widths(matrix.shape[0]):
        # The bare operation: nothing here reads what it leaves above the diagonal.
        head = lax.linalg.cholesky_p.bind(matrix[:width, :width])
        below = matrix[width:, :width]
        if below.shape[0]:
            below = lax.linalg.triangular_solve(
                head, below, left_side=False, lower=True, transpose_a=True
            )
            matrix = matrix[width:, width:] - below @ below.T
        blocks.append(Columns(head, below))
    return tuple(blocks)


def _widths(size: int) -> list[int]:
    return [min(BLOCK, size - at) for at in range(0, size, BLOCK)]


def lower(root: Factor, right: Array) -> Array:
    """L^-1 right, f64[n, k]."""
    found = []
    for head, below in root:
        width = head.shape[0]
        part = lax.linalg.triangular_solve(head, right[:width], left_side=True, lower=True)
        right = right[width:] - below @ part
        found.append(part)
    return jnp.concatenate(found)


def upper(root: Factor, right: Array) -> Array:
    """L'^-1 right, f64[n, k]."""
    end, found = right.shape[0], jnp.zeros((0, right.shape[1]))
    for head, below in reversed(root):
        at = end - head.shape[0]
        part = lax.linalg.triangular_solve(
            head, right[at:end] - below.T @ found, left_side=True, lower=True, transpose_a=True
        )
        end, found = at, jnp.concatenate([part, found])
    return found
