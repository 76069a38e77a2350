"""A size multiplier in [0, 1] that features decide, learned by the growth it brings.

    maximise  mean_i log(1 + c m(x_i) f_i r_i) - lambda/2 |beta|^2
    m(x) = 1 / (1 + exp -(b + x'beta))

f_i is the Kelly stake of the bet as it was claimed, r_i what came of it. The gradient goes through
the stake and the growth of it; L-BFGS does the rest.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from compute.kelly.classic import kelly_fraction
from compute.learn.logistic import padded_size
from compute.learn.rows import Rows
from compute.market import Floats

STEPS_MAX = 200
TOLERANCE = 1e-9
"""Of the gradient of mean growth."""
START = 2.0
"""Logit of the multiplier that the search starts from: 0.88, nearly the whole stake."""


def kelly_stakes(rows: Rows) -> Floats:
    """What Kelly would stake on each claimed bet, (n,), no more than can be lost."""
    if rows.claimed is None:
        raise ValueError("rows have no claimed win probability")
    stake = np.asarray(kelly_fraction(rows.claimed, rows.payoff, rows.loss))
    return np.clip(stake, 0.0, 1.0 / rows.loss)


def bet_growth(rows: Rows, fraction: float, multiplier: Floats) -> Floats:
    """log(1 + c m f r) of each bet by itself, (n,)."""
    outcome = np.where(rows.won > 0.0, rows.payoff, -rows.loss)
    growth: Floats = np.log1p(fraction * multiplier * kelly_stakes(rows) * outcome)
    return growth


def fit(x: Floats, rows: Rows, weight: Floats, fraction: float, ridge: float) -> Floats:
    """The coefficients, (k + 1,), the intercept first; x: (n, k) scaled, weight: (n,)."""
    n, k = x.shape
    size = padded_size(n)
    design, gain, used = np.zeros((size, k + 1)), np.zeros(size), np.zeros(size)
    outcome = np.where(rows.won > 0.0, rows.payoff, -rows.loss)
    design[:n, 0], design[:n, 1:] = 1.0, x
    gain[:n], used[:n] = fraction * kelly_stakes(rows) * outcome, weight / weight.sum()
    return np.asarray(_maximised(design, gain, used, np.float64(ridge / n)))


def lost_growth(beta: Array, design: Array, gain: Array, weight: Array, ridge: Array) -> Array:
    """What is minimised: the mean growth, negative, and the penalty."""
    growth = jnp.log1p(jax.nn.sigmoid(design @ beta) * gain)
    return 0.5 * ridge * jnp.sum(beta[1:] ** 2) - jnp.sum(weight * growth)


_State = tuple[Array, optax.OptState, Array, Array]


@jax.jit
def _maximised(design: Array, gain: Array, weight: Array, ridge: Array) -> Array:
    def loss(beta: Array) -> Array:
        return lost_growth(beta, design, gain, weight, ridge)

    method = optax.lbfgs()
    look = optax.value_and_grad_from_state(loss)
    start = jnp.zeros(design.shape[1]).at[0].set(START)

    def step(state: _State) -> _State:
        beta, inner, _, count = state
        value, slope = look(beta, state=inner)
        change, inner = method.update(slope, inner, beta, value=value, grad=slope, value_fn=loss)
        return optax.apply_updates(beta, change), inner, jnp.max(jnp.abs(slope)), count + 1

    def is_rising(state: _State) -> Array:
        _, _, steepest, count = state
        return (steepest > TOLERANCE) & (count < STEPS_MAX)

    state = start, method.init(start), jnp.array(jnp.inf), jnp.array(0)
    beta, _, _, _ = jax.lax.while_loop(is_rising, step, state)
    return beta
