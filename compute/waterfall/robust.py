"""By what the worst case of its edge multiplies a line's stake: fills the ROBUST row.

Every line is held against the worst of a set of distributions around its own, after trading costs
(`EffectiveParameters.robust`). r is the radius:

    set                 bet (p, b, a)            mean m, deviation s         scenarios x_k, pi_k
    BOX                 p - r                    m - r                       every pi_k within r
    TOTAL_VARIATION     p - r                    m - 2 s z((1 + r)/2)        r of all mass moved
    KL                  lowest p' with           m - s sqrt(2 r)             divergence at most r
                        KL(p' || p) <= r
    WASSERSTEIN         p - r/(a + b)            m - r                       mass moved by r in all
    ELLIPSOID           p - r sqrt(p q)          m - r s                     x - r s

The set UNCORRELATED has no worst edge: it knows of outcomes only their mean and deviation, and that
periods are uncorrelated, and stakes what guarantees most (`kelly/growth_guarantee.py`).

z is the normal quantile. Of moments the worst normal distribution of the same deviation counts. Of
scenarios mass moves between the outcomes that there are: best to worst first (total variation,
box), or next worst to worst first (Wasserstein), which no stake changes; the divergence is
minimised at each stake (`kelly.robust.robust_kelly`). Sun and Boyd 2018 (arXiv:1812.10371);
Garlappi, Uppal and Wang 2007 for the ellipsoid, whose stake is (1 - r / SR)+ of Kelly.
"""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from compute.inputs import Inputs
from compute.kelly.growth_guarantee import Guarantee, guaranteed_stake
from compute.market import Floats
from compute.parameters import Robust, RobustSet
from compute.shapes import KernelRegistry, bucket, padded
from compute.waterfall.edge_inputs import Scenarios
from compute.waterfall.kernels import SCENARIO_BUCKETS, chunks
from compute.waterfall.layout import Family, Line, is_of

_BISECTIONS = 60


def robust_column(
    lines: Floats, inputs: Inputs, kernels: KernelRegistry, *, costs_count: bool = True
) -> Floats:
    """What is left of the stake of each line, in [0, 1], (n,); without `costs_count`, before cost.

    lines: the kernel's input (len(Line), n), edges and costs filled in.
    """
    robust, scenarios = inputs.parameters.robust, inputs.scenarios
    rate = inputs.parameters.risk_free_rate
    out = np.ones(lines.shape[1])
    if robust is None or robust.is_certain:
        return out
    if not costs_count:
        lines = lines.copy()
        lines[Line.COST], lines[Line.EXACT_STAKE_AFTER_COST] = 0.0, lines[Line.EXACT_STAKE]
    source, active = lines[Line.SOURCE], lines[Line.ACTIVE] > 0.0
    bets = np.flatnonzero(active & is_of(source, Family.BET))
    moments = np.flatnonzero(active & is_of(source, Family.MOMENTS))
    drawn = np.flatnonzero(active & is_of(source, Family.SCENARIOS))
    if robust.kind is RobustSet.UNCORRELATED:
        guarantee = Guarantee(robust.periods, robust.probability)
        out[bets] = _guaranteed_bets(lines[:, bets], guarantee)
        out[moments] = _guaranteed_moments(lines[:, moments], rate, guarantee)
        if len(drawn) and scenarios is not None:
            out[drawn] = _guaranteed_scenarios(lines, drawn, rate, guarantee, scenarios)
        return out
    out[bets] = _bets(lines[:, bets], robust)
    out[moments] = _moments(lines[:, moments], rate, robust)
    if len(drawn) and scenarios is not None:
        out[drawn] = _scenarios(lines, drawn, rate, robust, scenarios, kernels)
    return out


def _guaranteed_bets(lines: Floats, guarantee: Guarantee) -> Floats:
    """After cost; bets are net of the rate."""
    cost, p = lines[Line.COST], lines[Line.WIN_PROBABILITY]
    gain, loss, q = lines[Line.PAYOFF] - cost, lines[Line.LOSS_FRACTION] + cost, 1.0 - p
    usable = gain > 0.0
    kelly = np.where(usable, p / loss - q / np.where(usable, gain, 1.0), 0.0)
    best = guaranteed_stake(p * gain - q * loss, np.sqrt(p * q) * (gain + loss), 0.0, guarantee)
    return _share(best, kelly)


def _guaranteed_moments(lines: Floats, rate: float, guarantee: Guarantee) -> Floats:
    excess = lines[Line.EXPECTED_RETURN] - rate - lines[Line.COST]
    deviation = lines[Line.VOLATILITY]
    best = guaranteed_stake(excess, deviation, rate, guarantee)
    return _share(best * deviation**2, excess)


def _guaranteed_scenarios(
    lines: Floats,
    drawn: np.ndarray,
    rate: float,
    guarantee: Guarantee,
    scenarios: Scenarios,
) -> Floats:
    outcomes = lines[Line.SIDE, drawn, None] * scenarios.returns[drawn]
    mean = outcomes @ scenarios.probability
    deviation = np.sqrt(np.maximum(outcomes**2 @ scenarios.probability - mean**2, 0.0))
    excess = mean - lines[Line.COST, drawn] - rate
    best = guaranteed_stake(excess, deviation, rate, guarantee)
    return _share(best, lines[Line.EXACT_STAKE_AFTER_COST, drawn])


def _bets(lines: Floats, robust: Robust) -> Floats:
    """After cost: payoff b - c, loss a + c."""
    cost = lines[Line.COST]
    p, gain = lines[Line.WIN_PROBABILITY], lines[Line.PAYOFF] - cost
    loss = lines[Line.LOSS_FRACTION] + cost
    worst = np.maximum(worst_chance(p, gain + loss, robust), 0.0)
    usable = gain > 0.0
    payoff = np.where(usable, gain, 1.0)
    stakes = [np.where(usable, q / loss - (1.0 - q) / payoff, 0.0) for q in (worst, p)]
    return _share(*stakes)


def worst_chance(p: Floats, width: Floats, robust: Robust) -> Floats:
    """The lowest win probability of the set, (n,), below 0 where nothing is left; width: a + b."""
    r = robust.radius
    match robust.kind:
        case RobustSet.KL:
            return _lowest_within(p, r)
        case RobustSet.WASSERSTEIN:
            return p - r / width
        case RobustSet.ELLIPSOID:
            return p - r * np.sqrt(p * (1.0 - p))
    return p - r


def _lowest_within(p: Floats, divergence: float) -> Floats:
    """The lowest q with q ln(q/p) + (1-q) ln((1-q)/(1-p)) <= divergence, (n,).

    0 where even certainty of loss is within it, -ln(1-p) <= divergence.
    """
    low, high = np.zeros(len(p)), p.copy()
    inside = (p > 0.0) & (p < 1.0)
    safe = np.where(inside, p, 0.5)
    for _ in range(_BISECTIONS):
        q = np.where(inside, 0.5 * (low + high), 0.25)
        far = q * np.log(q / safe) + (1.0 - q) * np.log((1.0 - q) / (1.0 - safe)) > divergence
        low, high = np.where(far, q, low), np.where(far, high, q)
    found = np.where(-np.log1p(-safe) <= divergence, 0.0, high)
    # What is certain stays certain: nothing else is within any divergence of it.
    return np.where(inside, found, p)


def _moments(lines: Floats, rate: float, robust: Robust) -> Floats:
    excess = lines[Line.EXPECTED_RETURN] - rate - lines[Line.COST]
    worst = excess - mean_shift(lines[Line.VOLATILITY], robust)
    return _share(worst, excess)


def mean_shift(deviation: Floats, robust: Robust) -> Floats:
    """By how much the mean may be lower, (n,)."""
    r = robust.radius
    match robust.kind:
        case RobustSet.TOTAL_VARIATION:
            if r >= 1.0:
                return np.full(len(deviation), np.inf)
            return 2.0 * deviation * NormalDist().inv_cdf(0.5 * (1.0 + r))
        case RobustSet.KL:
            return deviation * np.sqrt(2.0 * r)
        case RobustSet.ELLIPSOID:
            return r * deviation
    return np.full(len(deviation), r)


def _scenarios(
    lines: Floats,
    drawn: np.ndarray,
    rate: float,
    robust: Robust,
    scenarios: Scenarios,
    kernels: KernelRegistry,
) -> Floats:
    count = bucket(len(scenarios.probability), SCENARIO_BUCKETS)
    out = np.zeros(len(drawn))
    divergence = robust.radius if robust.kind is RobustSet.KL else 0.0
    scalars = np.array([rate, divergence])
    for piece, size in chunks(np.arange(len(drawn))):
        own = drawn[piece]
        outcomes = (
            lines[Line.SIDE, own, None] * scenarios.returns[own] - lines[Line.COST, own, None]
        )
        x, weight = worst_scenarios(outcomes, scenarios.probability, robust)
        worst = padded(x, size, count), padded(weight, size, count)
        stake = kernels.run("robust_kelly", *worst, scalars)[: len(piece)]
        out[piece] = _share(stake, lines[Line.EXACT_STAKE_AFTER_COST, own])
    return out


def worst_scenarios(outcomes: Floats, probability: Floats, robust: Robust) -> tuple[Floats, Floats]:
    """Outcomes and probabilities (n, K) of the worst case; of KL those given."""
    r, weight = robust.radius, np.broadcast_to(probability, outcomes.shape)
    move = _MOVES.get(robust.kind)
    if robust.kind is RobustSet.ELLIPSOID:
        mean = outcomes @ probability
        deviation = np.sqrt(np.maximum(outcomes**2 @ probability - mean**2, 0.0))
        return outcomes - r * deviation[:, None], weight
    if move is None:
        return outcomes, weight
    order = np.argsort(np.where(weight > 0.0, outcomes, np.inf), axis=1, kind="stable")
    x, sorted_weight = (np.take_along_axis(v, order, axis=1) for v in (outcomes, weight))
    moved = np.empty_like(x)
    np.put_along_axis(moved, order, move(x, sorted_weight, r), axis=1)
    return outcomes, moved


def _moved_to_worst(x: Floats, weight: Floats, radius: float) -> Floats:
    """`radius` of all mass taken from the best and given to the worst; columns rising."""
    taken = _taken_from_end(weight, np.full(len(x), min(radius, 1.0)))
    out: Floats = np.maximum(weight - taken, 0.0)
    out[:, 0] += taken.sum(axis=1)
    return out


def _moved_within_box(x: Floats, weight: Floats, radius: float) -> Floats:
    """Every probability moved by `radius` at most: up for the worst, down for the best.

    What is taken above a place is given below it, as much as both allow.
    """
    give = np.where(weight > 0.0, radius, 0.0)
    take = np.minimum(weight, radius)
    below, above = np.cumsum(give, axis=1), np.cumsum(take[:, ::-1], axis=1)[:, ::-1]
    later = np.concatenate([above[:, 1:], np.zeros((len(x), 1))], axis=1)
    amount = np.minimum(below, later).max(axis=1, keepdims=True)
    given = np.clip(amount - (below - give), 0.0, give)
    taken = np.clip(amount - (above - take), 0.0, take)
    out: Floats = np.maximum(weight + given - taken, 0.0)
    return out


def _moved_by(x: Floats, weight: Floats, radius: float) -> Floats:
    """Mass moved to the worst outcome for `radius` of mass times distance in all."""
    far = np.where(weight > 0.0, x - x[:, :1], 0.0)
    price = weight * far
    spent = np.clip(radius - (np.cumsum(price, axis=1) - price), 0.0, price)
    taken = np.divide(spent, far, out=np.zeros_like(spent), where=far > 0.0)
    out: Floats = np.maximum(weight - taken, 0.0)
    out[:, 0] += taken.sum(axis=1)
    return out


_MOVES: dict[RobustSet, Callable[[Floats, Floats, float], Floats]] = {
    RobustSet.BOX: _moved_within_box,
    RobustSet.TOTAL_VARIATION: _moved_to_worst,
    RobustSet.WASSERSTEIN: _moved_by,
}


def _taken_from_end(weight: Floats, amount: Floats) -> Floats:
    """What is taken of each column from the last one on, until `amount` (n,) is."""
    after = np.cumsum(weight[:, ::-1], axis=1)[:, ::-1] - weight
    out: Floats = np.clip(amount[:, None] - after, 0.0, weight)
    return out


def _share(worst: Floats, stake: Floats) -> Floats:
    """max(worst, 0) / stake, in [0, 1]; 1 where nothing is staked anyhow."""
    some = stake > 0.0
    ratio = np.divide(np.maximum(worst, 0.0), stake, out=np.ones_like(stake), where=some)
    return np.minimum(ratio, 1.0)
