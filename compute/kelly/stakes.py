"""One bet, or one asset, at several multiples of Kelly: growth, swings, falls, and what is known.

Chances are those of wealth W, counted in what cash earns, that is multiplied by independent
outcomes 1 + f x for ever. With
theta the root other than 0 of E (1 + f x)^-theta = 1, W^-theta is a martingale, so that

    P(ever below x)        = x^theta                                    (theta > 0, else 1)
    P(reach u before l)    = (1 - l^-theta) / (u^-theta - l^-theta)

exactly where wealth moves in small steps (an asset: theta = 2/c - 1 of the multiple c, Thorp 2006,
section 7.3) and as an upper bound of the fall where it jumps beyond (a bet: Lundberg's inequality;
Busseti, Ryu and Boyd 2016).
"""

from dataclasses import astuple, dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from compute.edge.numeric import decreasing_root
from compute.edge.posterior import beta_posterior
from compute.kelly.classic import break_even_probability as break_even
from compute.kelly.classic import doubling_time, growth_rate, kelly_fraction, zero_growth_fraction
from compute.kelly.continuous import (
    continuous_growth_rate,
    continuous_kelly_fraction,
    growth_volatility,
)
from compute.kelly.fractional import multiplier_for_drawdown
from compute.kelly.interval import (
    continuous_standard_error,
    estimation_growth_loss,
    kelly_standard_error,
    normal_interval,
    posterior_interval,
    proportion_standard_error,
)
from compute.kelly.no_trade import no_trade_region
from compute.kelly.risk_constrained import drawdown_exponent, risk_constrained_kelly
from compute.shapes import Kernel, KernelRegistry, padded

Floats = NDArray[np.float64]
MULTIPLES_MAX = 64
BET, ASSET = "bet_stakes", "asset_stakes"


@dataclass(frozen=True)
class Bet:
    """p, b and a of the position; outcomes: how many it was estimated from, None: it is certain."""

    win_probability: float
    payoff: float
    loss_fraction: float = 1.0
    outcomes: float | None = None


@dataclass(frozen=True)
class Asset:
    """Mean, deviation and risk-free rate a period; periods: of its history, None: it is certain."""

    expected_return: float
    volatility: float
    risk_free_rate: float = 0.0
    periods: float | None = None


@dataclass(frozen=True)
class Floor:
    """A wealth below which one wants to fall with at most this probability, ever."""

    level: float
    probability: float


@dataclass(frozen=True)
class Stakes:
    """Columns by multiple of Kelly, (m,); `ever_below` (m, levels). Growth is log growth a period.

    kelly: the full stake, negative where there is no bet on this side: then the columns are empty.
    interval: of the full stake, from the error of its estimate; None where it is certain.
    zero_growth: the stake beyond which wealth shrinks. floor_multiple: the largest multiple that
    keeps the floor, None without one. no_trade_low and high, safe_rate: of an asset traded for ever
    at a spread, NaN where there is none. growth_lost: by estimating, a period, None where
    certain or where nothing is staked.
    """

    kelly: float
    interval: tuple[float, float] | None
    standard_error: float | None
    break_even_probability: float | None
    zero_growth: float
    growth_lost: float | None
    floor_multiple: float | None
    multiple: Floats
    stake: Floats
    growth: Floats
    growth_volatility: Floats
    doubling_periods: Floats
    doubles_before_halving: Floats
    ever_below: Floats
    no_trade_low: Floats
    no_trade_high: Floats
    safe_rate: Floats


class _Inputs(NamedTuple):
    """What the kernels are told beside the multiples, NaN where it is not given."""

    first: float | Array
    second: float | Array
    third: float | Array
    observed: float | Array
    level: float | Array
    floor_level: float | Array
    floor_probability: float | Array
    spread: float | Array


ROUNDING = 1e-12
"""Relative error of Kelly times a multiple, and of logarithms of what it leaves, with room."""


class _Numbers(NamedTuple):
    """What they answer, NaN for what there isn't: () and, of each multiple, (m,)."""

    kelly: Array
    low: Array
    high: Array
    standard_error: Array
    break_even: Array
    zero_growth: Array
    growth_lost: Array
    floor_multiple: Array
    stake: Array
    growth: Array
    growth_volatility: Array
    doubling_periods: Array
    theta: Array
    no_trade_low: Array
    no_trade_high: Array
    safe_rate: Array


def kernels() -> list[Kernel]:
    """The two kernels."""
    shapes = (((len(_Inputs._fields),), (MULTIPLES_MAX,)),)
    return [Kernel(BET, _bet, shapes), Kernel(ASSET, _asset, shapes)]


def _bet(inputs: Array, multiples: Array) -> Array:
    p, b, a, n, level, *floor, _ = inputs
    none = jnp.full_like(multiples, jnp.nan)
    kelly, wins = kelly_fraction(p, b, a), p * n
    error = kelly_standard_error(p, b, a, proportion_standard_error(p, n))
    low, high = posterior_interval(beta_posterior(wins, n - wins), b, a, level)
    outcomes, odds = jnp.stack([b, -a]), jnp.stack([p, 1.0 - p])
    constrained = risk_constrained_kelly(outcomes, odds, drawdown_exponent(*floor)).fraction
    stake = jnp.maximum(kelly, 0.0) * multiples
    # A multiple that stakes everything does so whatever the rounding of Kelly times it.
    stake = jnp.where(jnp.abs(a * stake - 1.0) <= ROUNDING, 1.0 / a, stake)
    # Half the variance of the stake times the curvature of growth there, to second order.
    bent = p * (b / (1.0 + b * kelly)) ** 2 + (1.0 - p) * (a / (1.0 - a * kelly)) ** 2
    gain, loss = jnp.log1p(b * stake), jnp.log1p(-jnp.minimum(a * stake, 1.0))
    growth = growth_rate(stake, p, b, a)
    return _packed(
        _Numbers(
            kelly,
            low,
            high,
            jnp.where(n > 0.0, error, jnp.nan),
            break_even(b, a),
            zero_growth_fraction(p, b, a),
            jnp.where(
                (n > 0.0) & (kelly > 0.0) & (a * kelly < 1.0), 0.5 * error**2 * bent, jnp.nan
            ),
            # What can't lose keeps any floor, with whatever stake.
            jnp.where(jnp.isnan(floor[0]), jnp.nan, jnp.minimum(constrained / kelly, 1.0)),
            stake,
            growth,
            jnp.where(p * (1.0 - p) > 0.0, (gain - loss) * jnp.sqrt(p * (1.0 - p)), 0.0),
            doubling_time(growth),
            _exponent(p, gain, loss, growth),
            none,
            none,
            none,
        )
    )


def _asset(inputs: Array, multiples: Array) -> Array:
    m, s, r, periods, level, *floor, spread = inputs
    kelly = continuous_kelly_fraction(m, s, r)
    error, stake = continuous_standard_error(s, periods), kelly * multiples
    low, high = normal_interval(kelly, error, level)
    growth = continuous_growth_rate(stake, m, s, r)
    given = ~jnp.isnan(spread)
    region = no_trade_region(m - r, s, jnp.where(given, spread, 0.01), 1.0 / multiples, r)
    ends = jnp.where(given, jnp.sort(jnp.stack([region.lower, region.upper]), axis=0), jnp.nan)
    return _packed(
        _Numbers(
            kelly,
            low,
            high,
            error,
            jnp.full_like(kelly, jnp.nan),
            2.0 * kelly,
            estimation_growth_loss(1.0, periods),
            multiplier_for_drawdown(*floor),
            stake,
            growth,
            growth_volatility(stake, s),
            doubling_time(growth),
            2.0 / multiples - 1.0,
            ends[0],
            ends[1],
            jnp.where(given, region.growth_rate, jnp.nan),
        )
    )


def _packed(numbers: _Numbers) -> Array:
    return jnp.concatenate([jnp.ravel(number) for number in numbers])


def _exponent(p: Array, gain: Array, loss: Array, growth: Array) -> Array:
    """The root theta other than 0 of h = ln(p e^(-theta gain) + q e^(-theta loss)).

    It has the sign of the growth: inf where no loss can happen, -inf where one takes everything.
    h is convex; its least value is at c = ln(p gain / (q |loss|)) / (gain + |loss|), between 0 and
    the root, and where one of its two terms is 1 by itself h > 0: there is the other end.
    """
    q, fall = 1.0 - p, -loss
    lose, ruined = (q > 0.0) & (fall > 0.0), jnp.isinf(fall)
    inner = lose & ~ruined & (gain > 0.0) & (p > 0.0)
    up, down = jnp.where(inner, gain, 1.0), jnp.where(inner, fall, 1.0)
    p, q = jnp.where(inner, p, 0.6), jnp.where(inner, q, 0.4)
    least = jnp.log(p * up / (q * down)) / (up + down)
    grows = growth > 0.0

    def rise(theta: Array) -> Array:
        value = jnp.logaddexp(jnp.log(p) - theta * up, jnp.log(q) + theta * down)
        return jnp.where(grows, -value, value)

    far = jnp.where(grows, -jnp.log(q) / down, jnp.log(p) / up)
    root = decreasing_root(rise, jnp.minimum(least, far), jnp.maximum(least, far))
    return jnp.where(inner, root, jnp.where(lose, -jnp.inf, jnp.inf))


def stakes_of(
    edge: Bet | Asset,
    multiples: Floats,
    levels: Floats,
    registry: KernelRegistry,
    floor: Floor | None = None,
    level: float = 0.95,
    spread: float | None = None,
) -> Stakes:
    """A bet with two outcomes, or an asset whose log wealth diffuses, at these multiples of Kelly.

    multiples: (m,), at most `MULTIPLES_MAX`. levels: of wealth, below which falls are looked at.
    level: the probability of the interval, of a bet that of the Beta posterior after p n wins and
    q n losses from a uniform prior, of an asset the normal one. spread: relative bid-ask spread of
    an asset that is traded for ever, in (0, 1). Raises `NotReadyError`.
    """
    is_bet = isinstance(edge, Bet)
    limits = (np.nan, np.nan) if floor is None else (floor.level, floor.probability)
    inputs = [
        np.nan if value is None else value for value in (*astuple(edge), level, *limits, spread)
    ]
    filled = padded(multiples, MULTIPLES_MAX, fill=1.0)
    found = registry.run(BET if is_bet else ASSET, np.array(inputs, dtype=np.float64), filled)
    n_columns = 8
    one, columns = np.split(found, [len(found) - n_columns * MULTIPLES_MAX])
    kelly = float(one[0])
    n = len(multiples) if kelly > 0.0 or (kelly < 0.0 and not is_bet) else 0
    stake, growth, deviation, doubling, theta, *traded = columns.reshape(n_columns, -1)[:, :n]
    with np.errstate(over="ignore", invalid="ignore"):
        power = 2.0**theta
        # (1 - l^-theta) / (u^-theta - l^-theta) at l = 1/2 and u = 2.
        doubles = np.where(np.isposinf(power), 1.0, power / (1.0 + power))
        below = np.exp(np.maximum(theta, 0.0)[:, None] * np.log(levels))
    if isinstance(edge, Bet):
        doubles = np.where(np.isneginf(growth), _doubles_without_a_loss(edge, stake), doubles)
    return Stakes(
        kelly=kelly,
        interval=None if np.isnan(one[1]) else (float(one[1]), float(one[2])),
        standard_error=_known(one[3]),
        break_even_probability=_known(one[4]),
        zero_growth=float(one[5]),
        growth_lost=_known(one[6]) if kelly != 0.0 else None,
        floor_multiple=_known(one[7]) if n else None,
        multiple=multiples[:n],
        stake=stake,
        growth=growth,
        growth_volatility=deviation,
        doubling_periods=doubling,
        doubles_before_halving=doubles,
        ever_below=below,
        no_trade_low=traded[0],
        no_trade_high=traded[1],
        safe_rate=traded[2],
    )


def _doubles_without_a_loss(bet: Bet, stake: Floats) -> Floats:
    """P(wins in a row until wealth has doubled), (m,): where the first loss takes everything."""
    with np.errstate(divide="ignore"):
        wins = np.ceil(np.log(2.0) / np.log1p(bet.payoff * stake) - ROUNDING)
    chance: Floats = bet.win_probability**wins
    return chance


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
