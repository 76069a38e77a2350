"""What is measured of the tail of a book's return, and how. The numbers are the contract's."""

from enum import IntEnum

PARETO_FRACTION = 0.1
"""Share of the losses that EXTREME_VALUE fits its tail to."""


class TailKind(IntEnum):
    """What is measured: a quantile of the loss, or the mean of what is beyond it."""

    VALUE_AT_RISK = 1
    EXPECTED_SHORTFALL = 2


class TailMethod(IntEnum):
    """How it is computed."""

    NORMAL = 1
    STUDENT = 2
    CORNISH_FISHER = 3
    HISTORICAL = 4
    FILTERED_HISTORICAL = 5
    EXTREME_VALUE = 6
