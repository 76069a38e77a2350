"""The edge that outcome scenarios and their probabilities imply, for the closed forms and reports.

To size from scenarios, prefer ``kelly.exact``, which uses the whole distribution.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import floats


class ScenarioEdge(NamedTuple):
    """What scenarios imply for each line (...,), with probabilities renormalised to 1.

    ``win_probability`` is that of a gain given that something changes; ``payoff`` and
    ``loss_fraction`` are the averages of gains and losses, NaN where there are none.
    """

    win_probability: Array
    payoff: Array
    loss_fraction: Array
    expected_return: Array
    volatility: Array
    worst: Array


def edge_from_scenarios(outcomes: ArrayLike, probabilities: ArrayLike) -> ScenarioEdge:
    """Return the edge in ``outcomes`` (..., K), with ``probabilities`` (K,) or (..., K).

    Probabilities are divided by their sum. An outcome with probability zero is padding and may
    be NaN; any other NaN makes the line NaN, as does a line of nothing but padding.
    """
    x, weights = floats(outcomes, probabilities)
    weights = jnp.broadcast_to(weights, x.shape)
    x = jnp.where(weights == 0.0, 0.0, x)
    total = jnp.sum(weights, axis=-1)
    weights = weights / jnp.where(total > 0.0, total, jnp.nan)[..., None]
    gain = jnp.sum(weights * jnp.maximum(x, 0.0), axis=-1)
    loss = jnp.sum(weights * jnp.maximum(-x, 0.0), axis=-1)
    p_gain = jnp.sum(jnp.where(x > 0.0, weights, 0.0), axis=-1)
    p_loss = jnp.sum(jnp.where(x < 0.0, weights, 0.0), axis=-1)
    mean = gain - loss
    variance = jnp.sum(weights * (x - mean[..., None]) ** 2, axis=-1)
    defined = 0.0 * variance
    return ScenarioEdge(
        win_probability=p_gain / jnp.where(p_gain + p_loss > 0.0, p_gain + p_loss, jnp.nan)
        + defined,
        payoff=gain / jnp.where(p_gain > 0.0, p_gain, jnp.nan),
        loss_fraction=loss / jnp.where(p_loss > 0.0, p_loss, jnp.nan),
        expected_return=mean,
        volatility=jnp.sqrt(variance),
        worst=jnp.min(jnp.where(weights > 0.0, x, jnp.inf), axis=-1) + defined,
    )
