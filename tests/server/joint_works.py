"""Functions of joint work for tests of the process that runs them."""

import os
import time

import numpy as np

from compute.market import MissingInputError
from compute.optimize.time_limit import TimeLimit
from server.errors import invalid


def doubled(values: np.ndarray, *, time_limit: TimeLimit) -> tuple[int, np.ndarray]:
    """The process it runs in, and twice the values."""
    time_limit.check()
    return os.getpid(), 2.0 * values


def patient(*, time_limit: TimeLimit) -> None:
    """Ends at its limit only."""
    while True:
        time_limit.check()
        time.sleep(0.01)


def deaf(*, time_limit: TimeLimit) -> None:
    """Looks at nothing, as a call of a library does."""
    del time_limit
    time.sleep(3600)


def refused(*, time_limit: TimeLimit) -> None:
    """Raises what callers are told."""
    raise invalid("problem.rows", "NOT_WELL_FORMED", "has no names")


def lacking(*, time_limit: TimeLimit) -> None:
    """Raises what a sizing lacks."""
    raise MissingInputError("MISSING_MATRIX", "no scenarios")


def dying(*, time_limit: TimeLimit) -> None:
    """Ends the process."""
    os._exit(9)
