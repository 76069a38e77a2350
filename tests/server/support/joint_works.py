"""Functions of joint work for tests of the process that runs them."""

import os
import time

import numpy as np

from compute.market import MissingInputError
from compute.optimize.execution import Execution
from server.calls.errors import invalid


def doubled(values: np.ndarray, *, execution: Execution) -> tuple[int, np.ndarray]:
    """The process it runs in, and twice the values."""
    execution.time_limit.check()
    return os.getpid(), 2.0 * values


def patient(*, execution: Execution) -> None:
    """Ends at its limit only."""
    while True:
        execution.time_limit.check()
        time.sleep(0.01)


def deaf(*, execution: Execution) -> None:
    """Looks at nothing, as a call of a library does."""
    del execution
    time.sleep(3600)


def refused(*, execution: Execution) -> None:
    """Raises what callers are told."""
    raise invalid("problem.rows", "NOT_WELL_FORMED", "has no names")


def lacking(*, execution: Execution) -> None:
    """Raises what a sizing lacks."""
    raise MissingInputError("MISSING_MATRIX", "no scenarios")


def dying(*, execution: Execution) -> None:
    """Ends the process."""
    os._exit(9)
