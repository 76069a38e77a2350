"""The kernels of the closed form and the shapes they are compiled for.

Everything the service may run is listed here: after start-up nothing else compiles.
"""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from compute.edge.history import edge_from_history
from compute.kelly import stakes
from compute.kelly.classic import break_even_probability
from compute.kelly.confidence import numeric_shrinkage, shrinkage
from compute.kelly.exact import exact_kelly_fraction
from compute.kelly.no_trade import long_run_band
from compute.kelly.robust import robust_kelly
from compute.market import Floats, Integers
from compute.shapes import (
    GROUP_BUCKETS,
    LINE_BUCKETS,
    Kernel,
    KernelRegistry,
    bucket,
    compiled,
)
from compute.waterfall import stake_rules
from compute.waterfall.layout import Exposure, Line, Scalar, Source
from compute.waterfall.stages import waterfall

HOT_LINES = 1024
"""From so many lines on the waterfall's own loops are what it takes; below, calling it is."""

LINE_CHUNKS = (16, 256)
"""Lines of the kernels below don't see each other: more than this many run in chunks."""

SCENARIO_BUCKETS = (256, 1024, 4096)
HISTORY_BUCKETS = (64, 1024, 8192)

SENSITIVE = (
    Line.WIN_PROBABILITY,
    Line.PAYOFF,
    Line.LOSS_FRACTION,
    Line.EXPECTED_RETURN,
    Line.VOLATILITY,
)
"""Inputs that sensitivities are given for, in the order of the contract."""


def scenario_kelly(outcomes: Array, probability: Array, rate: Array, costs: Array) -> Array:
    """Kelly of each line from its scenarios, on the side given by the sign of the outcomes.

    outcomes: f64[n, K] returns on the signal's side; probability: f64[K], 0 for padding; rate:
    f64[1], risk-free; costs: f64[n], trading cost of a period. Returns f64[5, n]: the stake, the
    stake after cost, and the standard error of the latter as an M-estimate from as many draws as
    there are scenarios, sd(s) / (sqrt(K) mean(s^2)) with the score s = x / (1 + f x); then the
    stake with the cost added, and the mean excess outcome after cost.
    """
    risk_free, cost = rate[0], costs[:, None]
    cap = stake_rules.STAKE_MAX

    def kelly(paid: Array) -> Array:
        return exact_kelly_fraction(
            outcomes - paid, probability, risk_free, long_max=cap, short_max=0.0
        )

    stake = kelly(jnp.zeros_like(cost))
    net, held = jax.lax.cond(
        jnp.all(cost == 0.0), lambda: (stake, stake), lambda: (kelly(cost), kelly(-cost))
    )
    excess = (outcomes - cost - risk_free) / (1.0 + risk_free)
    wealth = 1.0 + net[:, None] * excess
    possible = probability[None, :] > 0.0
    score = jnp.where(possible, excess / jnp.where(possible & (wealth > 0.0), wealth, 1.0), 0.0)
    mean = score @ probability
    square = (score**2) @ probability
    count = jnp.sum(probability > 0.0)
    spread = jnp.sqrt(jnp.maximum(square - mean**2, 0.0) / count)
    error = spread / jnp.where(square > 0.0, square, 1.0)
    return jnp.stack([stake, net, error, held, excess @ probability])


def robust_stakes(outcomes: Array, probability: Array, scalars: Array) -> Array:
    """Kelly of each line from scenarios with probabilities of its own, f64[n], in [0, STAKE_MAX].

    outcomes, probability: f64[n, K], after cost, 0 probability for padding; scalars: f64[2], the
    risk-free rate and, above 0, the divergence from these probabilities that the worst may have.
    """
    rate, divergence = scalars[0], scalars[1]
    cap = stake_rules.STAKE_MAX
    stake = exact_kelly_fraction(outcomes, probability, rate, long_max=cap, short_max=0.0)

    def worst() -> Array:
        excess = (outcomes - rate) / (1.0 + rate)
        found = robust_kelly(excess, probability, jnp.maximum(divergence, 1e-15)).fraction
        return jnp.where(jnp.isfinite(found), jnp.clip(found, 0.0, cap), stake)

    return jax.lax.cond(divergence > 0.0, worst, lambda: stake)


def history_bet(outcomes: Array, mask: Array, prior: Array) -> Array:
    """The bet behind past outcomes: p, b, a and their standard errors, f64[6, n].

    outcomes, mask: f64[n, T]; prior: f64[2] pseudo wins and losses. One win or loss says nothing
    about its spread: its standard error is its own size.
    """
    edge = edge_from_history(outcomes, mask > 0.0, prior_wins=prior[0], prior_losses=prior[1])
    # A history shows a loss of the whole stake at most.
    loss = jnp.minimum(edge.loss_fraction, 1.0)
    rows = jnp.stack(
        [
            edge.win_probability,
            edge.payoff,
            loss,
            edge.win_probability_standard_error,
            jnp.where(
                jnp.isnan(edge.payoff_standard_error), edge.payoff, edge.payoff_standard_error
            ),
            jnp.where(
                jnp.isnan(edge.loss_fraction_standard_error),
                loss,
                edge.loss_fraction_standard_error,
            ),
        ]
    )
    return jnp.nan_to_num(rows)


def bet_shrinkage(lines: Array, rate: Array) -> Array:
    """Numeric Baker-McHale factor of each line after cost, f64[n].

    lines: f64[len(Line), n]; rate: f64[1], risk-free. The closed form serves lines
    whose edge is not a bet, and those for which no Beta has the given mean and standard error.
    """
    scalars = jnp.zeros(len(Scalar))
    scalars = scalars.at[Scalar.RISK_FREE_RATE].set(rate[0])
    p, (b, a) = lines[Line.WIN_PROBABILITY], stake_rules.bet_after_cost(lines)
    unsure = (p - break_even_probability(b, a)) * stake_rules.relative_error(lines)
    error = stake_rules.root_sum_square(lines[Line.EDGE_ERROR], unsure)
    is_bet = (lines[Line.SOURCE] != Source.RETURN_VOLATILITY) & (
        lines[Line.SOURCE] != Source.SCENARIOS
    )
    numeric = numeric_shrinkage(p, b, a, jnp.where(is_bet, error, 0.0))
    stake = stake_rules.bounded(stake_rules.kelly_after_cost(lines, scalars))
    closed = shrinkage(stake, stake_rules.stake_error(stake, lines, scalars))
    return jnp.where(is_bet & jnp.isfinite(numeric), numeric, closed)


def trade_band(lines: Array, scalars: Array) -> Array:
    """Between which stakes a position is kept, at the Kelly fraction, f64[4, n].

    lines: f64[len(Line), n]; scalars: f64[len(Scalar)]. The lower and the upper end over the
    holding time, then those of trading for ever, as weights at the price halfway between bid and
    ask.
    """
    fraction, robust = scalars[Scalar.KELLY_FRACTION], lines[Line.ROBUST]

    def sure(stake: Array) -> Array:
        return robust * stake_rules.confident(stake_rules.bounded(stake), lines, scalars)

    low = fraction * sure(stake_rules.kelly_after_cost(lines, scalars))
    high = fraction * sure(stake_rules.kelly_if_held(lines, scalars))
    band = long_run_band(
        lines[Line.SIDE] * sure(stake_rules.raw_kelly(lines, scalars)),
        lines[Line.TRADE_COST],
        fraction,
    )
    side = lines[Line.SIDE]
    ends = side * band.lower, side * band.upper
    return jnp.stack([low, jnp.maximum(low, high), jnp.minimum(*ends), jnp.maximum(*ends)])


def sensitivity(lines: Array, scalars: Array) -> Array:
    """d weight / d input of the stake before risk rules and limits, f64[len(SENSITIVE), n].

    The caller's confidence and standard errors are held fixed. Where there is no bet, 0.
    """

    def total(inputs: Array) -> Array:
        varied = lines.at[jnp.asarray(SENSITIVE)].set(inputs)
        net = stake_rules.bounded(stake_rules.kelly_after_cost(varied, scalars))
        sure = varied[Line.ROBUST] * stake_rules.confident(net, varied, scalars)
        return (
            jnp.sum(varied[Line.ACTIVE] * varied[Line.SIDE] * sure) * scalars[Scalar.KELLY_FRACTION]
        )

    gradient = jax.grad(total)(lines[jnp.asarray(SENSITIVE)])
    return jnp.nan_to_num(gradient)


def registry() -> KernelRegistry:
    """All kernels, not yet compiled."""
    waterfalls = tuple(
        ((len(Line), n), (len(Scalar),), (g, n), (len(Exposure), g))
        for n in LINE_BUCKETS
        for g in GROUP_BUCKETS
    )
    large = tuple(shapes for shapes in waterfalls if shapes[0][1] >= HOT_LINES)
    small = tuple(shapes for shapes in waterfalls if shapes[0][1] < HOT_LINES)
    scenarios = tuple(((n, k), (k,), (1,), (n,)) for n in LINE_CHUNKS for k in SCENARIO_BUCKETS)
    worst_cases = tuple(((n, k), (n, k), (2,)) for n in LINE_CHUNKS for k in SCENARIO_BUCKETS)
    histories = tuple(((n, t), (n, t), (2,)) for n in LINE_CHUNKS for t in HISTORY_BUCKETS)
    gradients = tuple(((len(Line), n), (len(Scalar),)) for n in LINE_CHUNKS)
    return KernelRegistry(
        [
            Kernel("waterfall", waterfall, small),
            Kernel("waterfall", waterfall, large, uses_fusion_emitters=True),
            Kernel("scenario_kelly", scenario_kelly, scenarios),
            Kernel("robust_kelly", robust_stakes, worst_cases),
            Kernel("history_bet", history_bet, histories),
            Kernel("shrinkage", bet_shrinkage, tuple(((len(Line), n), (1,)) for n in LINE_CHUNKS)),
            Kernel("trade_band", trade_band, gradients),
            Kernel("sensitivity", sensitivity, gradients),
            *stakes.kernels(),
        ]
    )


def just_in_time() -> KernelRegistry:
    """The registry of scripts and backtests: a program is compiled when it is first called."""
    everything = registry()
    return KernelRegistry(everything.kernels, lambda key: compiled(everything.kernel(key), key[1]))


def run_waterfalls(kernels: KernelRegistry, batches: Sequence[tuple[Floats, ...]]) -> list[Floats]:
    """The waterfall of each batch, in the order given.

    One after another: programs for sixteen at once saved a tenth of a millisecond each at 16 lines
    and nothing at 1,024, and took five seconds to compile for each of eight shapes.
    """
    return [kernels.run("waterfall", *batch) for batch in batches]


def chunks(lines: Integers) -> Iterator[tuple[Integers, int]]:
    """Lines in pieces of at most the largest chunk, with the bucket each fits."""
    for start in range(0, len(lines), LINE_CHUNKS[-1]):
        piece = lines[start : start + LINE_CHUNKS[-1]]
        yield piece, bucket(len(piece), LINE_CHUNKS)
