"""From a history of outcomes to a two-outcome bet: p, b and a, each with its standard error.

    p = (a0 + wins) / (a0 + b0 + wins + losses)        b = mean gain of the wins
                                                       a = mean loss of the losses

An outcome of exactly zero is neither: it leaves wealth as it was, so the stake that maximises
growth is the same without it. Reducing wins and losses to their averages hides their spread;
where the spread matters, size from the outcomes themselves (``kelly.exact``).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import floats
from compute.edge.posterior import (
    BetaPosterior,
    beta_posterior,
    posterior_mean,
    posterior_standard_error,
)


class HistoryEdge(NamedTuple):
    """A bet estimated from history; every field has the shape of the lines.

    ``payoff`` and ``loss_fraction`` are NaN where no win or no loss was seen, and their standard
    errors where fewer than two were: unknown is not zero.
    """

    win_probability: Array
    payoff: Array
    loss_fraction: Array
    win_probability_standard_error: Array
    payoff_standard_error: Array
    loss_fraction_standard_error: Array
    posterior: BetaPosterior
    n_wins: Array
    n_losses: Array


def edge_from_history(
    outcomes: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    prior_wins: ArrayLike = 1.0,
    prior_losses: ArrayLike = 1.0,
) -> HistoryEdge:
    """Return the bet behind ``outcomes`` (..., T), returns on the stake, of which ``mask`` count.

    ``mask`` (..., T) is true where there is an observation; without it, NaN outcomes are missing.
    The prior is in pseudo-counts, scalar or (...,); uniform unless given.
    """
    (x,) = floats(outcomes)
    seen = ~jnp.isnan(x) if mask is None else jnp.broadcast_to(jnp.asarray(mask, bool), x.shape)
    won, lost = seen & (x > 0.0), seen & (x < 0.0)
    payoff, payoff_error = _mean_and_error(x, won)
    loss, loss_error = _mean_and_error(-x, lost)
    # A masked-in NaN is a broken line, not a missing observation: it must not pass for data.
    broken = jnp.where(jnp.any(seen & jnp.isnan(x), axis=-1), jnp.nan, 0.0)
    n_wins, n_losses = jnp.sum(won, axis=-1) + broken, jnp.sum(lost, axis=-1) + broken
    posterior = beta_posterior(n_wins, n_losses, prior_wins=prior_wins, prior_losses=prior_losses)
    return HistoryEdge(
        win_probability=posterior_mean(posterior),
        payoff=payoff + broken,
        loss_fraction=loss + broken,
        win_probability_standard_error=posterior_standard_error(posterior),
        payoff_standard_error=payoff_error + broken,
        loss_fraction_standard_error=loss_error + broken,
        posterior=posterior,
        n_wins=n_wins,
        n_losses=n_losses,
    )


def _mean_and_error(x: Array, counted: Array) -> tuple[Array, Array]:
    """Return the mean over the last axis where ``counted`` and its standard error s / sqrt(n)."""
    n = jnp.sum(counted, axis=-1).astype(jnp.float64)
    some, several = n > 0.0, n > 1.0
    mean = jnp.sum(jnp.where(counted, x, 0.0), axis=-1) / jnp.where(some, n, jnp.nan)
    deviation = jnp.where(counted, x - mean[..., None], 0.0)
    variance = jnp.sum(deviation**2, axis=-1) / jnp.where(several, n - 1.0, jnp.nan)
    return mean, jnp.sqrt(variance / n)
