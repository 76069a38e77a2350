"""Logistic regression by Newton's method: ridge on all weights but the intercept.

    minimise  sum_i w_i (ln(1 + exp z_i) - y_i z_i) + lambda/2 |beta|^2,    z = beta_0 + X beta

Rows are padded to a power of four with weight 0, so that few shapes are compiled.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from compute.market import Floats, Integers
from compute.shapes import padded

STEPS_MAX = 100
TOLERANCE = 1e-12
"""Of the step, relative to the weights."""
HALVINGS_MAX = 30


@dataclass(frozen=True)
class Fit:
    """coefficients: (k + 1,), the intercept first; covariance: (k + 1, k + 1), see `fit`.

    of_model: H^-1, the covariance where the model is true and rows are independent.
    """

    coefficients: Floats
    covariance: Floats
    of_model: Floats

    @property
    def covariance_at_least_of_model(self) -> Floats:
        """The least covariance that is at least both, along the axes that they have in common.

        With few rows, or classes that the scores separate, residuals say next to nothing.
        """
        values, vectors = np.linalg.eigh(self.of_model)
        some = values > 0.0
        root = vectors[:, some] * np.sqrt(values[some])
        back = vectors[:, some] / np.sqrt(values[some])
        ratios, axes = np.linalg.eigh(back.T @ self.covariance @ back)
        spread = root @ axes
        return np.asarray((spread * np.maximum(ratios, 1.0)) @ spread.T)


def fit(x: Floats, y: Floats, weight: Floats, ridge: float, cluster: Integers | None = None) -> Fit:
    """Fit to x (n, k) and targets y (n,) in [0, 1], which may be between the two.

    cluster: (n,), rows that may depend on each other have one number. The covariance is the
    sandwich H^-1 (sum_c g_c g_c') H^-1 times G / (G - 1) over G clusters (Liang and Zeger 1986),
    each row by itself where none are given; with one cluster that of independent rows, H^-1.
    """
    n, k = x.shape
    size = padded_size(n)
    design = np.column_stack([np.ones(n), x])
    columns = padded(design, size, k + 1), padded(y, size), padded(weight, size)
    penalty = np.full(k + 1, ridge)
    penalty[0] = 0.0
    found, hessian = (np.asarray(item) for item in _newton(*columns, penalty))
    inverse = np.linalg.pinv(hessian, hermitian=True)
    residual = weight * (y - 1.0 / (1.0 + np.exp(-design @ found)))
    gradient = design * residual[:, None]
    if cluster is not None:
        _, places = np.unique(cluster, return_inverse=True)
        summed = np.zeros((places.max() + 1, k + 1))
        np.add.at(summed, places, gradient)
        gradient = summed
    count = len(gradient)
    if count < 2:
        return Fit(found, inverse, inverse)
    meat = gradient.T @ gradient * (count / (count - 1.0))
    return Fit(found, inverse @ meat @ inverse, inverse)


def padded_size(n: int) -> int:
    """The least power of four from 64 on that is at least n."""
    return int(4 ** max(3, ((n - 1).bit_length() + 1) // 2))


@jax.jit
def _newton(x: Array, y: Array, weight: Array, penalty: Array) -> tuple[Array, Array]:
    """The weights and the Hessian at them."""

    def value(beta: Array) -> Array:
        z = x @ beta
        return jnp.sum(weight * (jnp.logaddexp(0.0, z) - y * z)) + 0.5 * jnp.sum(penalty * beta**2)

    def hessian(beta: Array) -> Array:
        p = jax.nn.sigmoid(x @ beta)
        return (x * (weight * p * (1.0 - p))[:, None]).T @ x + jnp.diag(penalty)

    def gradient(beta: Array) -> Array:
        return x.T @ (weight * (jax.nn.sigmoid(x @ beta) - y)) + penalty * beta

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        beta, _, count = state
        curved = hessian(beta) + 1e-12 * jnp.eye(len(beta))
        full = jnp.linalg.solve(curved, gradient(beta))
        now = value(beta)

        def too_far(halved: tuple[Array, Array]) -> Array:
            scale, tries = halved
            allowed = now + 1e-15 * jnp.abs(now)
            return (value(beta - scale * full) > allowed) & (tries < HALVINGS_MAX)

        scale, _ = jax.lax.while_loop(
            too_far, lambda halved: (0.5 * halved[0], halved[1] + 1), (jnp.array(1.0), jnp.array(0))
        )
        return beta - scale * full, scale * full, count + 1

    def is_moving(state: tuple[Array, Array, Array]) -> Array:
        beta, moved, count = state
        largest = jnp.max(jnp.abs(moved))
        return (largest > TOLERANCE * (1.0 + jnp.max(jnp.abs(beta)))) & (count < STEPS_MAX)

    start = jnp.zeros(x.shape[1])
    beta, _, _ = jax.lax.while_loop(
        is_moving, step, (start, jnp.full_like(start, jnp.inf), jnp.array(0))
    )
    return beta, hessian(beta)
