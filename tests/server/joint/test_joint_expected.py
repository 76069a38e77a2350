"""Joint work that took long is expected to take long again, and not for ever."""

import numpy as np
import pytest

from compute.optimize.problem import Objective, ObjectiveKind, Problem
from compute.optimize.time_limit import TooLongError
from server.joint import work
from server.joint.expected import Expected, Size, size_of


def test_what_took_too_long_is_refused_with_its_sizes_until_it_is_forgotten() -> None:
    scenarios = np.zeros((1000, 200))
    problem = Problem(Objective(ObjectiveKind.MIN_CVAR), scenarios=scenarios)
    size, expected = size_of(work.frontier, problem), Expected()
    words = "200 points of 200 instruments and 1000 scenarios"
    expected.check(size, 200, 20.0, words)  # nothing is known
    expected.learn(size, 200, 400.0, finished=False)
    with pytest.raises(TooLongError, match=r"200 points of 200 .* about 4e\+02 s; 20 s are left"):
        expected.check(size, 200, 20.0, words)
    expected.check(size, 5, 20.0, words)
    refused = 1
    while True:
        try:
            expected.check(size, 200, 20.0, words)
        except TooLongError:
            refused += 1
        else:
            break
    assert 10 < refused < 60
    assert size != size_of(work.optimized, problem)
    assert size_of(work.frontier, problem) == size


def test_a_size_not_seen_takes_at_least_what_smaller_ones_took() -> None:
    def size(instruments: int, periods: int, kind: ObjectiveKind = ObjectiveKind.MIN_CVAR) -> Size:
        problem = Problem(Objective(kind), scenarios=np.zeros((periods, instruments)))
        return size_of(work.frontier, problem)

    expected = Expected()
    expected.learn(size(64, 256), 20, 20.0, finished=True)  # a second a point
    with pytest.raises(TooLongError, match=r"about 64 s; 20 s are left, enough for 5 points"):
        expected.check(size(128, 512), 16, 20.0, "16 points")
    expected.check(size(128, 512), 4, 20.0, "4 points")
    # Of less, and of another kind, nothing is known.
    expected.check(size(32, 1024), 200, 20.0, "200 points")
    expected.check(size(128, 512, ObjectiveKind.MIN_CDAR), 200, 20.0, "200 points")
