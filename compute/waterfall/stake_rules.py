"""The stages of the closed-form waterfall before the limits: from an edge to a stake.

Each takes the stacked input columns (`layout.Line`, `layout.Scalar`) and works line by line.
Stakes are unsigned, in the direction of the signal's side, until `signed`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from compute.kelly.classic import kelly_fraction
from compute.kelly.confidence import shrinkage
from compute.kelly.continuous import continuous_kelly_fraction
from compute.kelly.costs import fee_kelly_fraction, impact_kelly_fraction
from compute.kelly.interval import kelly_standard_error
from compute.limits.policy import LimitKind
from compute.waterfall.layout import Family, Line, Scalar, Stage, is_of

STAKE_MAX = 4096.0
"""Stakes are cut here, far beyond any limit, so that 2^-40 stays exact in a double."""


def bounded(stake: Array) -> Array:
    """max(f, 0), at most `STAKE_MAX`: no edge on this side is no bet."""
    return jnp.clip(stake, 0.0, STAKE_MAX)


def raw_kelly(lines: Array, scalars: Array) -> Array:
    """Full Kelly of each line by itself, (n,)."""
    return _by_source(
        lines,
        kelly_fraction(lines[Line.WIN_PROBABILITY], lines[Line.PAYOFF], lines[Line.LOSS_FRACTION]),
        continuous_kelly_fraction(
            lines[Line.EXPECTED_RETURN], lines[Line.VOLATILITY], scalars[Scalar.RISK_FREE_RATE]
        ),
        lines[Line.EXACT_STAKE],
    )


def kelly_after_cost(lines: Array, scalars: Array) -> Array:
    """Kelly with the trading cost of a period taken out of the edge, (n,)."""
    return _kelly_at(lines[Line.COST], lines[Line.EXACT_STAKE_AFTER_COST], lines, scalars)


def kelly_if_held(lines: Array, scalars: Array) -> Array:
    """Kelly with that cost added, (n,): down to this a position is worth selling.

    Unbounded where a loss would cost less than the sale.
    """
    return _kelly_at(-lines[Line.COST], lines[Line.EXACT_STAKE_HELD], lines, scalars)


def _kelly_at(cost: Array, exact: Array, lines: Array, scalars: Array) -> Array:
    loss = lines[Line.LOSS_FRACTION]
    bet = fee_kelly_fraction(
        lines[Line.WIN_PROBABILITY],
        lines[Line.PAYOFF],
        jnp.where(loss + cost > 0.0, loss, 1.0 - cost),
        cost,
    )
    return _by_source(
        lines,
        jnp.where(loss + cost > 0.0, bet, jnp.inf),
        continuous_kelly_fraction(
            lines[Line.EXPECTED_RETURN],
            lines[Line.VOLATILITY],
            scalars[Scalar.RISK_FREE_RATE] + cost,
        ),
        exact,
    )


def stake_error(stake: Array, lines: Array, scalars: Array) -> Array:
    """Standard error of the stake after cost by the delta method, (n,); 0 for a certain edge.

    A caller's confidence k is a relative error of sqrt(1/k - 1), for which the closed form of
    the shrinkage is k again.
    """
    error = _by_source(
        lines,
        kelly_standard_error(
            lines[Line.WIN_PROBABILITY],
            *bet_after_cost(lines),
            lines[Line.EDGE_ERROR],
            lines[Line.PAYOFF_ERROR],
            lines[Line.LOSS_FRACTION_ERROR],
        ),
        lines[Line.EDGE_ERROR] / lines[Line.VOLATILITY] ** 2,
        lines[Line.EXACT_ERROR],
    )
    return root_sum_square(error, stake * relative_error(lines))


def bet_after_cost(lines: Array) -> tuple[Array, Array]:
    """Payoff and loss fraction with the cost taken out, (n,) each.

    A payoff that the cost eats whole is left as it is: no stake depends on it.
    """
    cost, payoff = lines[Line.COST], lines[Line.PAYOFF]
    return jnp.where(payoff > cost, payoff - cost, payoff), lines[Line.LOSS_FRACTION] + cost


def relative_error(lines: Array) -> Array:
    """Standard error over edge that the caller's confidence stands for, (n,)."""
    confidence = lines[Line.CONFIDENCE]
    return jnp.sqrt(1.0 / jnp.where(confidence > 0.0, confidence, 1.0) - 1.0)


def root_sum_square(left: Array, right: Array) -> Array:
    """sqrt(left^2 + right^2), (n,), with a slope of 0 where both are 0."""
    total = left**2 + right**2
    some = total > 0.0
    return jnp.where(some, jnp.sqrt(jnp.where(some, total, 1.0)), 0.0)


def confident(stake: Array, lines: Array, scalars: Array) -> Array:
    """The stake shrunk for the uncertainty of its edge, (n,)."""
    mode = scalars[Scalar.SHRINK]
    closed = shrinkage(stake, stake_error(stake, lines, scalars))
    numeric = lines[Line.SHRINKAGE]
    return stake * jnp.where(mode == 1.0, closed, jnp.where(mode == 2.0, numeric, 1.0))


def curvature(stake: Array, lines: Array) -> Array:
    """-d^2 growth / d stake^2 of each line, to second order, (n,); stake: full Kelly after cost.

    a b of a bet after cost, the variance of a return, mean over stake of scenarios.
    """
    payoff, loss = bet_after_cost(lines)
    some = (stake > 0.0) & (lines[Line.EXACT_MEAN] > 0.0)
    scenarios = jnp.where(some, lines[Line.EXACT_MEAN] / jnp.where(some, stake, 1.0), 1.0)
    return _by_source(lines, payoff * loss, lines[Line.VOLATILITY] ** 2, scenarios)


def worth_trading(stake: Array, curved: Array, lines: Array) -> Array:
    """The stake where trades that aren't worth their cost are left, (n,).

    stake: after the correlation penalty. curved: curvature at the Kelly fraction. What is held
    between the ends of the band stays; from outside it moves to the nearer end, by impact less far:

        max_g  v (e - f0) g - v g^2 / 2 - k |g|^(3/2),   e the end, f0 held, v the curvature
    """
    held = lines[Line.SIDE] * lines[Line.WEIGHT_BEFORE]
    has_band = lines[Line.BAND_HIGH] >= 0.0
    low, high = (lines[Line.CORRELATION] * lines[row] for row in (Line.BAND_LOW, Line.BAND_HIGH))
    goal = jnp.where(has_band, jnp.clip(held, low, high), stake)
    start = jnp.where(has_band, held, 0.0)
    impact = lines[Line.IMPACT]
    slows = (impact > 0.0) & (curved > 0.0)
    curved = jnp.where(slows, curved, 1.0)
    step = impact_kelly_fraction(curved * (goal - start), jnp.sqrt(curved), impact)
    return jnp.where(slows, start + step, goal)


def risk_capped(stake: Array, risk: Array, risk_max: Array) -> Array:
    """min(stake, risk_max / risk per unit of weight), (n,); padding and lines without any pass."""
    known = risk > 0.0
    cap = risk_max / jnp.where(known, risk, 1.0)
    return jnp.where(known, jnp.minimum(stake, cap), stake)


def risk_budgeted(stake: Array, lines: Array, scalars: Array) -> Array:
    """Scales all stakes so that sum_i |w_i| volatility_i stays inside the budget, (n,).

    A sum of standalone volatilities: it takes no credit for diversification.
    """
    risk = jnp.sum(stake * lines[Line.ANNUAL_VOLATILITY])
    budget = scalars[Scalar.RISK_BUDGET]
    over = risk > budget
    return stake * jnp.where(over, budget / jnp.where(over, risk, 1.0), 1.0)


def _by_source(lines: Array, win_loss: Array, moments: Array, exact: Array) -> Array:
    """Chooses by the line's source; a history has been turned into a win/loss bet before."""
    source = lines[Line.SOURCE]
    is_bet = is_of(source, Family.BET)
    return jnp.where(is_bet, win_loss, jnp.where(is_of(source, Family.SCENARIOS), exact, moments))


class Batch(NamedTuple):
    """What every rule may look at."""

    lines: Array
    scalars: Array
    full: Array
    """Full Kelly of each line after cost, (n,)."""


@dataclass(frozen=True)
class StakeRule:
    """A stage that makes a stake of the one before it.

    apply: (stake, batch) -> stake, (n,) each. limit: what cuts there, at the bound of the parameter
    that `LimitKind` names; NONE where the stage explains itself.
    """

    stage: Stage
    apply: Callable[[Array, Batch], Array]
    limit: LimitKind = LimitKind.NONE


def _of_fraction(stake: Array, batch: Batch) -> Array:
    return batch.scalars[Scalar.KELLY_FRACTION] * stake


def _worth_trading(stake: Array, batch: Batch) -> Array:
    share = batch.scalars[Scalar.KELLY_FRACTION] * batch.lines[Line.CORRELATION]
    curved = curvature(batch.full, batch.lines) / jnp.where(share > 0.0, share, jnp.inf)
    return worth_trading(stake, curved, batch.lines)


def _risk_budgeted(stake: Array, batch: Batch) -> Array:
    # Padding has no edge but 0/0, which would make the sum over all lines NaN.
    used = jnp.where(batch.lines[Line.ACTIVE] > 0.0, stake, 0.0)
    return risk_budgeted(used, batch.lines, batch.scalars)


RULES = (
    StakeRule(Stage.CONFIDENCE, lambda stake, of: confident(stake, of.lines, of.scalars)),
    StakeRule(Stage.ROBUST, lambda stake, of: stake * of.lines[Line.ROBUST]),
    StakeRule(Stage.KELLY_FRACTION, _of_fraction),
    StakeRule(Stage.CORRELATION, lambda stake, of: stake * of.lines[Line.CORRELATION]),
    StakeRule(Stage.TRADING_COST, _worth_trading),
    StakeRule(
        Stage.VOLATILITY_TARGET,
        lambda stake, of: risk_capped(
            stake, of.lines[Line.ANNUAL_VOLATILITY], of.scalars[Scalar.VOLATILITY_TARGET]
        ),
        LimitKind.VOLATILITY_TARGET,
    ),
    StakeRule(
        Stage.STOP_RISK,
        lambda stake, of: risk_capped(
            stake, of.lines[Line.STOP_LOSS], of.scalars[Scalar.STOP_RISK_MAX]
        ),
        LimitKind.STOP_RISK,
    ),
    StakeRule(Stage.RISK_BUDGET, _risk_budgeted, LimitKind.RISK_BUDGET),
)
"""The stages from the stake after cost to the one that limits are applied to, in their order."""


def permitted(weight: Array, lines: Array, scalars: Array) -> Array:
    """No short position, no change of side and no increase where that isn't allowed, (n,)."""
    before = lines[Line.WEIGHT_BEFORE]
    covered = jnp.maximum(weight, jnp.minimum(lines[Line.STAYS], 0.0))
    weight = jnp.where((weight < 0.0) & (scalars[Scalar.ALLOW_SHORT] == 0.0), covered, weight)
    flips = weight * before < 0.0
    weight = jnp.where(flips & (scalars[Scalar.ALLOW_FLIP] == 0.0), 0.0, weight)
    towards_zero = jnp.clip(weight, jnp.minimum(before, 0.0), jnp.maximum(before, 0.0))
    return jnp.where(scalars[Scalar.REDUCING] == 1.0, towards_zero, weight)
