"""Custom sizing algorithms: what one is shown of the lines, and what of its answer may be used.

An algorithm is a function of an `AlgorithmInput`, wherever it runs. Its answer takes the place that
the joint optimum has: every limit, cash, whole lots and the guard come afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np

from compute.inputs import Inputs
from compute.limits.binding import Binding
from compute.limits.line_risk import risk_caps
from compute.limits.projection import NO_LIMIT
from compute.market import Floats, Integers
from compute.parameters import EffectiveParameters
from compute.shapes import GROUP_BUCKETS, LINE_BUCKETS, KernelRegistry, bucket, padded
from compute.signals import LineError
from compute.waterfall.kernel_inputs import line_columns, scalar_inputs
from compute.waterfall.kernels import run_waterfalls
from compute.waterfall.layout import Exposure, Family, Line, Stage, is_of

COLUMNS = (
    "side",
    "win_probability",
    "payoff",
    "loss_fraction",
    "expected_return",
    "volatility",
    "raw_kelly",
    "kelly",
    "price",
    "annual_volatility",
    "weight_before",
    "weight_min",
    "weight_max",
)
"""Names as in `LineColumns` of the contract, which says what each is."""

_IN_FORCE = ("kelly_fraction", "risk_free_rate", "cost_rate", "periods_per_year")


@dataclass(frozen=True)
class AlgorithmPortfolio:
    """The portfolio that is sized for. Money in its base currency, weights fractions of equity."""

    portfolio_id: str
    strategy_id: str
    base_currency: str
    equity: float
    free: float
    gross_weight: float
    net_weight: float
    is_reducing: bool


@dataclass(frozen=True)
class AlgorithmInput:
    """All that an algorithm is told: n lines in columns, numbers, and the portfolio.

    columns: an (n,) array for each of `COLUMNS`, NaN where a line lacks it.
    """

    instrument_ids: tuple[str, ...]
    columns: Mapping[str, Floats]
    parameters: Mapping[str, float]
    portfolio: AlgorithmPortfolio


class AlgorithmTier(IntEnum):
    """Where an algorithm runs. The numbers are those of the contract."""

    PYTHON = 1
    PROCESS = 2
    WASM = 3


@dataclass(frozen=True)
class AlgorithmAnswer:
    """What an algorithm answered for a decision, to be recorded with it.

    weight: signed raw sizes over all lines of the request, (n,), NaN where it wasn't asked or gave
    none. weight_max: the largest that is accepted. failure: why it gave no answer at all, or empty.
    """

    name: str
    tier: AlgorithmTier
    weight: Floats
    weight_max: float
    version: str = ""
    sha256: str = ""
    failure: str = ""
    failure_message: str = ""


def columns_of(inputs: Inputs, kernels: KernelRegistry) -> dict[str, Floats]:
    """The columns of the active lines, in their order.

    Raises `MissingInputError` where a parameter needs data that isn't there.
    """
    lines, limit_bounds = line_columns(inputs, kernels), inputs.limit_bounds
    stakes = _stakes(lines, inputs, kernels)
    mean, deviation = _moments(lines, inputs)
    bets = is_of(lines[Line.SOURCE], Family.BET)
    market = limit_bounds.market
    found = {
        "side": lines[Line.SIDE],
        "win_probability": np.where(bets, lines[Line.WIN_PROBABILITY], np.nan),
        "payoff": np.where(bets, lines[Line.PAYOFF], np.nan),
        "loss_fraction": np.where(bets, lines[Line.LOSS_FRACTION], np.nan),
        "expected_return": mean,
        "volatility": deviation,
        "raw_kelly": stakes[Stage.RAW_KELLY],
        "kelly": stakes[Stage.CONFIDENCE],
        "price": market.price[inputs.index],
        "annual_volatility": np.full(len(inputs.index), np.nan)
        if market.volatility is None
        else market.volatility[inputs.index],
        "weight_before": lines[Line.WEIGHT_BEFORE],
        "weight_min": limit_bounds.least[inputs.index],
        "weight_max": limit_bounds.most[inputs.index],
    }
    return {name: np.ascontiguousarray(column[inputs.active]) for name, column in found.items()}


def numbers_of(parameters: EffectiveParameters) -> dict[str, float]:
    """The parameters in force that every algorithm is told."""
    return {name: float(getattr(parameters, name)) for name in _IN_FORCE}


def _stakes(lines: Floats, inputs: Inputs, kernels: KernelRegistry) -> Floats:
    """The built-in waterfall without bounds on sums: only its stakes are looked at."""
    n = lines.shape[1]
    width, groups = bucket(n, LINE_BUCKETS), bucket(2, GROUP_BUCKETS)
    bounds = np.zeros((len(Exposure), groups))
    bounds[Exposure.GROSS_MAX], bounds[Exposure.NET_MAX] = NO_LIMIT, NO_LIMIT
    bounds[Exposure.NET_MIN] = -NO_LIMIT
    arguments = (padded(lines, width), scalar_inputs(inputs), np.zeros((groups, width)), bounds)
    return run_waterfalls(kernels, [arguments])[0][:, :n]


def _moments(lines: Floats, inputs: Inputs) -> tuple[Floats, Floats]:
    """Mean and deviation per period of a position on each line's side, whatever its edge, (n,)."""
    source = lines[Line.SOURCE]
    p, payoff, loss = lines[Line.WIN_PROBABILITY], lines[Line.PAYOFF], lines[Line.LOSS_FRACTION]
    given = is_of(source, Family.MOMENTS)
    bet = p * payoff - (1.0 - p) * loss, np.sqrt(p * (1.0 - p)) * (payoff + loss)
    mean = np.where(given, lines[Line.EXPECTED_RETURN], bet[0])
    deviation = np.where(given, lines[Line.VOLATILITY], bet[1])
    drawn = is_of(source, Family.SCENARIOS)
    if drawn.any() and inputs.scenarios is not None:
        outcomes = lines[Line.SIDE, drawn, None] * inputs.scenarios.returns[drawn]
        weight = inputs.scenarios.probability
        mean[drawn] = outcomes @ weight
        apart = outcomes - mean[drawn, None]
        deviation[drawn] = np.sqrt(np.square(apart) @ weight)
    return mean, deviation


_NONE: Integers = np.empty(0, dtype=np.int64)


def unusable(answer: AlgorithmAnswer, inputs: Inputs) -> list[LineError]:
    """The active lines that an answer leaves without a size: why they keep their position.

    A size is 0 or has the sign of its line's side.
    """
    weight, name = answer.weight, answer.name
    if answer.failure:
        reason = f"ALGORITHM_{answer.failure}"
        text = f"the algorithm {name!r} failed: {answer.failure_message}; the position is kept"
        return [_kept(line, reason, text) for line in np.flatnonzero(inputs.active)]
    missing, inside = np.isnan(weight), np.abs(weight) <= answer.weight_max
    found: list[LineError] = []
    for line in np.flatnonzero(inputs.active & missing):
        text = f"the algorithm {name!r} gave it no size; the position is kept"
        found.append(_kept(line, "ALGORITHM_REFUSED", text))
    for line in np.flatnonzero(inputs.active & ~missing & ~inside):
        text = (
            f"the algorithm {name!r} gave it the size {weight[line]:.6g}; at most "
            f"{answer.weight_max:.6g} of equity is accepted, so the position is kept"
        )
        found.append(_kept(line, "ALGORITHM_OUT_OF_BOUNDS", text))
    against = inside & (weight * inputs.signals.side < 0.0)
    for line in np.flatnonzero(inputs.active & against):
        text = (
            f"the algorithm {name!r} gave it the size {weight[line]:.6g}, against its side; "
            "the position is kept"
        )
        found.append(_kept(line, "ALGORITHM_WRONG_SIDE", text))
    return found


def _kept(line: np.integer[Any], reason: str, text: str) -> LineError:
    return LineError(int(line), "instrument_ids", reason, text)


def with_sizes(inputs: Inputs, raw: Floats, refused: Integers = _NONE) -> Inputs:
    """The inputs with raw sizes as their target; the lines `refused` keep their position.

    raw: signed weights, (n,), read where a line stays active. What the rules took off the Kelly
    fraction comes off them too, and `volatility_target` and `stop_risk_max` hold.
    """
    active = inputs.active.copy()
    active[refused] = False
    weight = np.where(active, raw, 0.0) * inputs.parameters.fraction_multiplier
    target, cut = _within_rules(replace(inputs, active=active), weight)
    return replace(inputs, active=active, target=target, target_binding=cut)


def _within_rules(inputs: Inputs, weight: Floats) -> tuple[Floats, Binding]:
    """min(|w|, caps of `risk_caps`) line by line, and what cut."""
    size, kind = np.abs(weight), np.zeros(len(weight), dtype=np.int64)
    bound = np.zeros(len(weight))
    for cap in risk_caps(inputs):
        cut = size > cap.weight_max
        size, kind = np.where(cut, cap.weight_max, size), np.where(cut, int(cap.kind), kind)
        bound = np.where(cut, cap.bound, bound)
    none = np.full(len(weight), -1, dtype=np.int64)
    return np.copysign(size, weight), Binding(kind, none, bound, weight)
