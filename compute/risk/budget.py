"""Risk budgets: each strategy may risk so much, whatever its signals ask for."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from compute.edge.numeric import floats


def risk_budget_scale(
    line_risk: ArrayLike, strategy: ArrayLike, budget: ArrayLike, used: ArrayLike = 0.0
) -> Array:
    """Return the factor in [0, 1] (n,) that brings every strategy within its risk budget.

        scale_s = min(1, max(0, budget_s - used_s) / sum of line_risk over s)

    ``line_risk`` (n,) >= 0 is what each line may lose, in money or as a fraction of equity:
    notional times loss fraction, or distance to the stop; lines of a strategy add up, without
    credit for diversification. ``strategy`` (n,) is the index of each line into ``budget`` (m,)
    and ``used`` (m,) or scalar, what open positions and reservations already risk. A line of
    risk zero is padding. ``inf`` is no budget; NaN in a line makes its strategy NaN.
    """
    risk, budget, used = floats(line_risk, budget, used)
    index = jnp.asarray(strategy)
    total = jax.ops.segment_sum(risk, index, num_segments=budget.shape[0])
    idle = total == 0.0
    scale = jnp.maximum(budget - used, 0.0) / jnp.where(idle, 1.0, total)
    return jnp.where(idle, 1.0, jnp.minimum(scale, 1.0))[index]
