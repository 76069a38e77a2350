"""What is wrong with the inputs of a line, said before any kernel sees them.

Kernels turn bad input into NaN on its own line; these checks, in NumPy on the host, say which
field of which line is bad and why. Each returns one ``Problem`` code per line, the first that
applies; ``Problem.NONE`` is 0, so ``codes == 0`` is the mask of good lines.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

Codes = NDArray[np.int8]


class Problem(IntEnum):
    """Why a line can't be sized; ``message`` is for people."""

    NONE = 0
    PROBABILITY_NOT_IN_UNIT_INTERVAL = 1
    PAYOFF_NOT_POSITIVE = 2
    LOSS_FRACTION_NOT_POSITIVE = 3
    VOLATILITY_NOT_POSITIVE = 4
    NOT_FINITE = 5
    WEIGHT_NEGATIVE = 6
    WEIGHTS_SUM_TO_ZERO = 7
    STOP_ON_WRONG_SIDE = 8
    PRICE_NOT_POSITIVE = 9
    FEE_NOT_A_FRACTION = 10

    @property
    def message(self) -> str:
        """Return the sentence that says what to correct."""
        return _MESSAGES[self]


_MESSAGES = {
    Problem.NONE: "",
    Problem.PROBABILITY_NOT_IN_UNIT_INTERVAL: "The win probability must be between 0 and 1.",
    Problem.PAYOFF_NOT_POSITIVE: "The payoff must be positive and finite: a gain of 50 % is 0.5.",
    Problem.LOSS_FRACTION_NOT_POSITIVE: (
        "The loss fraction must be positive and finite: 1 loses the whole stake."
    ),
    Problem.VOLATILITY_NOT_POSITIVE: "The volatility must be positive and finite.",
    Problem.NOT_FINITE: "A number is missing or infinite.",
    Problem.WEIGHT_NEGATIVE: "A scenario's probability must not be negative.",
    Problem.WEIGHTS_SUM_TO_ZERO: "At least one scenario must have a positive probability.",
    Problem.STOP_ON_WRONG_SIDE: "The stop must be below the entry if long, above it if short.",
    Problem.PRICE_NOT_POSITIVE: "Entry and stop must be positive and finite prices.",
    Problem.FEE_NOT_A_FRACTION: "The fee must be a fraction of notional, from 0 to less than 1.",
}


def check_bet(win_probability: ArrayLike, payoff: ArrayLike, loss_fraction: ArrayLike) -> Codes:
    """Return the codes (n,) of two-outcome bets: 0 <= p <= 1, 0 < b < inf, 0 < a < inf."""
    p, b, a = _columns(win_probability, payoff, loss_fraction)
    return _first(
        (~((p >= 0.0) & (p <= 1.0)), Problem.PROBABILITY_NOT_IN_UNIT_INTERVAL),
        (~_positive(b), Problem.PAYOFF_NOT_POSITIVE),
        (~_positive(a), Problem.LOSS_FRACTION_NOT_POSITIVE),
    )


def check_moments(
    expected_return: ArrayLike, volatility: ArrayLike, risk_free_rate: ArrayLike = 0.0
) -> Codes:
    """Return the codes (n,) of lines sized by moments: all finite, volatility positive."""
    m, s, r = _columns(expected_return, volatility, risk_free_rate)
    return _first(
        (~(np.isfinite(m) & np.isfinite(r)), Problem.NOT_FINITE),
        (~_positive(s), Problem.VOLATILITY_NOT_POSITIVE),
    )


def check_scenarios(outcomes: ArrayLike, probabilities: ArrayLike) -> Codes:
    """Return the codes (n,) of lines with ``outcomes`` (n, K), ``probabilities`` (K,) or (n, K).

    An outcome of probability zero is padding and may hold anything.
    """
    x = np.asarray(outcomes, dtype=np.float64)
    weights = np.broadcast_to(np.asarray(probabilities, dtype=np.float64), x.shape)
    broken = ~np.isfinite(weights) | ((weights != 0.0) & ~np.isfinite(x))
    return _first(
        (np.any(broken, axis=-1), Problem.NOT_FINITE),
        (np.any(weights < 0.0, axis=-1), Problem.WEIGHT_NEGATIVE),
        (~np.any(weights > 0.0, axis=-1), Problem.WEIGHTS_SUM_TO_ZERO),
    )


def check_stop(
    entry_price: ArrayLike, stop_price: ArrayLike, fee_rate: ArrayLike, side: ArrayLike
) -> Codes:
    """Return the codes (n,) of lines sized to a stop; ``side`` is +1 or -1."""
    entry, stop, fee, direction = _columns(entry_price, stop_price, fee_rate, side)
    return _first(
        (~(_positive(entry) & _positive(stop)), Problem.PRICE_NOT_POSITIVE),
        (~(direction * (entry - stop) > 0.0), Problem.STOP_ON_WRONG_SIDE),
        (~((fee >= 0.0) & (fee < 1.0)), Problem.FEE_NOT_A_FRACTION),
    )


def _columns(*values: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    arrays = (np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in values)
    return tuple(np.broadcast_arrays(*arrays))


def _positive(x: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isfinite(x) & (x > 0.0)


def _first(*checks: tuple[NDArray[np.bool_], Problem]) -> Codes:
    masks, problems = zip(*checks, strict=True)
    return np.select(masks, [np.int8(problem) for problem in problems], np.int8(0))
