"""Fills the edge rows of the sizing kernel from whatever a line's edge comes from.

Given probabilities and moments are copied; histories and scenarios go through kernels of their
own, in chunks, because lines don't see each other there.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compute.market import Floats
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry, bucket, padded
from compute.signals import Signals
from compute.waterfall.kernels import HISTORY_BUCKETS, SCENARIO_BUCKETS, chunks
from compute.waterfall.layout import Line, Source


@dataclass(frozen=True)
class Scenarios:
    """Simple returns of the lines' instruments per period, and their probabilities.

    returns: (n, K), a row per line; probability: (K,), summing to 1.
    """

    returns: Floats
    probability: Floats


def edge_columns(
    lines: Floats,
    signals: Signals,
    parameters: EffectiveParameters,
    scenarios: Scenarios | None,
    kernels: KernelRegistry,
) -> None:
    """Writes the rows SOURCE to EXACT_ERROR, SHRINKAGE and the errors of `lines` in place.

    Lines that are not active may hold anything; they get a bet that is neutral.
    """
    active = lines[Line.ACTIVE] > 0
    refused = None if active.all() else ~active
    rows = (
        (Line.SOURCE, signals.source, Source.WIN_LOSS),
        (Line.WIN_PROBABILITY, signals.win_probability, 0.5),
        (Line.PAYOFF, signals.payoff, 1.0),
        (Line.LOSS_FRACTION, signals.loss_fraction, 1.0),
        (Line.EXPECTED_RETURN, signals.expected_return, 0.0),
        (Line.VOLATILITY, signals.volatility, 1.0),
        (Line.CONFIDENCE, signals.confidence, 1.0),
    )
    for row, column, neutral in rows:
        lines[row] = neutral if column is None else column
        if refused is not None:
            lines[row, refused] = neutral
    bets = lines[Line.SOURCE] == Source.WIN_LOSS
    _neutral_where_unused(lines, signals, bets)
    error = signals.win_probability_error, signals.expected_return_error
    for given, used in ((error[0], bets), (error[1], ~bets)):
        if given is not None:
            lines[Line.EDGE_ERROR] += np.where(active & used, given, 0.0)
    _histories(lines, signals, parameters, kernels)
    if scenarios is not None:
        _scenarios(lines, scenarios, parameters, kernels)
    if parameters.confidence_shrinkage is Shrinkage.BAKER_MCHALE_NUMERIC:
        numeric_shrinkage(lines, parameters, kernels)


def _neutral_where_unused(lines: Floats, signals: Signals, bets: NDArray[np.bool_]) -> None:
    """A column that a line's source doesn't use may hold 0, which no formula should divide by."""
    if signals.volatility is not None:
        lines[Line.VOLATILITY, lines[Line.SOURCE] != Source.RETURN_VOLATILITY] = 1.0
    if not bets.all():
        lines[Line.PAYOFF, ~bets] = 1.0
        lines[Line.LOSS_FRACTION, ~bets] = 1.0
    if signals.confidence is not None:
        lines[Line.CONFIDENCE, lines[Line.CONFIDENCE] <= 0] = 1.0


def _histories(
    lines: Floats, signals: Signals, parameters: EffectiveParameters, kernels: KernelRegistry
) -> None:
    outcome, length = signals.history_outcome, signals.history_length
    if outcome is None or length is None:
        return
    used = np.flatnonzero((lines[Line.SOURCE] == Source.HISTORY) & (lines[Line.ACTIVE] > 0))
    start = np.concatenate([[0], np.cumsum(length)])
    prior = np.array([parameters.prior_wins, parameters.prior_losses])
    for piece, size in chunks(used):
        longest = bucket(int(length[piece].max()), HISTORY_BUCKETS)
        outcomes, mask = np.zeros((size, longest)), np.zeros((size, longest))
        for row, line in enumerate(piece):
            outcomes[row, : length[line]] = outcome[start[line] : start[line + 1]]
            mask[row, : length[line]] = 1.0
        bet = kernels.run("history_bet", outcomes, mask, prior)[:, : len(piece)]
        seen = outcomes[: len(piece)]
        bet = one_sided(bet, seen.max(axis=1) > 0.0, seen.min(axis=1) < 0.0)
        fair = bet[2] / (bet[1] + bet[2])
        bet[0] = fair + parameters.edge_multiplier * (bet[0] - fair)
        if signals.history_multiplier is not None:
            m = signals.history_multiplier[piece]
            bet[0], bet[3:] = fair + m * (bet[0] - fair), m * bet[3:]
        rows = (
            Line.WIN_PROBABILITY,
            Line.PAYOFF,
            Line.LOSS_FRACTION,
            Line.EDGE_ERROR,
            Line.PAYOFF_ERROR,
            Line.LOSS_FRACTION_ERROR,
        )
        lines[np.ix_(np.array(rows), piece)] = bet


def one_sided(bet: Floats, won: NDArray[np.bool_], lost: NDArray[np.bool_]) -> Floats:
    """The bets of histories, (6, n), where one side was never seen, at their worst.

    Without a loss a loss takes the whole stake. Without a win nobody knows what a win pays: even
    odds are taken, and no prior makes an edge of them.
    """
    probability, payoff, loss, error, payoff_error, loss_error = bet
    loss, loss_error = np.where(lost, loss, 1.0), np.where(lost, loss_error, 0.0)
    payoff, payoff_error = np.where(won, payoff, loss), np.where(won, payoff_error, loss)
    probability = np.where(won, probability, np.minimum(probability, 0.5))
    return np.stack([probability, payoff, loss, error, payoff_error, loss_error])


def _scenarios(
    lines: Floats, scenarios: Scenarios, parameters: EffectiveParameters, kernels: KernelRegistry
) -> None:
    used = np.flatnonzero((lines[Line.SOURCE] == Source.SCENARIOS) & (lines[Line.ACTIVE] > 0))
    rate = np.array([parameters.risk_free_rate])
    count = bucket(len(scenarios.probability), SCENARIO_BUCKETS)
    probability = padded(scenarios.probability, count)
    for piece, size in chunks(used):
        outcomes = lines[Line.SIDE, piece, None] * scenarios.returns[piece]
        drawn = padded(outcomes, size, count)
        cost = padded(lines[Line.COST, piece], size)
        exact = kernels.run("scenario_kelly", drawn, probability, rate, cost)[:, : len(piece)]
        rows = (
            Line.EXACT_STAKE,
            Line.EXACT_STAKE_AFTER_COST,
            Line.EXACT_ERROR,
            Line.EXACT_STAKE_HELD,
            Line.EXACT_MEAN,
        )
        lines[np.ix_(np.array(rows), piece)] = exact


def numeric_shrinkage(
    lines: Floats, parameters: EffectiveParameters, kernels: KernelRegistry
) -> None:
    """Writes the row SHRINKAGE of `lines` (len(Line), n) in place: what is left of each stake."""
    rate = np.array([parameters.risk_free_rate])
    for piece, size in chunks(np.arange(lines.shape[1])):
        columns = padded(lines[:, piece], len(Line), size)
        lines[Line.SHRINKAGE, piece] = kernels.run("shrinkage", columns, rate)[: len(piece)]
