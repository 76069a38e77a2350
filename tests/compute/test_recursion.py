"""Sums that forget against the loop that they are."""

import subprocess
import sys

import numpy as np
import pytest

from compute.recursion import decayed_sums


@pytest.mark.parametrize("before", [0.0, 2.5])
def test_sums_that_forget_are_the_loop(before: float) -> None:
    values, expected, last = np.random.default_rng(0).standard_normal(50), [], before
    for value in values:
        last = 0.9 * last + value
        expected.append(last)
    np.testing.assert_allclose(decayed_sums(values, 0.9, before), expected, rtol=1e-13)


def test_rows_are_summed_each_by_itself() -> None:
    rows = np.random.default_rng(1).standard_normal((3, 20))
    expected = [decayed_sums(row, 0.5) for row in rows]
    np.testing.assert_array_equal(decayed_sums(rows, 0.5), expected)


def test_a_worker_starts_without_scipy_stats() -> None:
    """It takes a seventh of the processor time of a start, and few works need it."""
    script = "import server.jobs.worker, sys; print('scipy.stats' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert found.stdout.split() == [b"False"]
