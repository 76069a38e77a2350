"""The kernel's answer on the host: one vector (`kernel._packed`), taken apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compute.optimize.problem import Array

OF_NAMES, OF_ROWS, NUMBERS = 6, 2, 5


class Answer(NamedTuple):
    """The best state met and its prices (`prices.Prices`), all in natural units.

    weights, lower, upper, reduced_cost, trade_slope, gross_slope: f64[n]; row_min,
    row_max: f64[m] with the budget in front; numbers: f64[5]. violation: f64[], of the soft
    rows, in kernel units; pairs: of slacks and duals; errors: f64[3], see `iteration.error`;
    scale: see `Prices`.
    doubtful: f64[], 1 where the limits have to be looked at first (`screening`) and nothing else
    counts. Each has a leading axis if it is the answer to a stack.
    """

    weights: Array
    lower: Array
    upper: Array
    reduced_cost: Array
    trade_slope: Array
    gross_slope: Array
    row_min: Array
    row_max: Array
    numbers: Array
    violation: Array
    pairs: Array
    errors: Array
    iterations: Array
    scale: Array
    doubtful: Array

    @property
    def error(self) -> Array:
        """The largest of the errors."""
        return np.asarray(self.errors.max(axis=-1))


def unpack(vector: Array, padded: tuple[int, int], own: tuple[int, int]) -> Answer:
    """The parts of a packed vector: names and rows of the kernel, and how many of each count."""
    lead, (n, m) = vector.shape[:-1], padded
    rows_at = OF_NAMES * n
    numbers_at = rows_at + OF_ROWS * m
    names = vector[..., :rows_at].reshape(*lead, OF_NAMES, n)[..., : own[0]]
    rows = vector[..., rows_at:numbers_at].reshape(*lead, OF_ROWS, m)[..., : own[1]]
    weights, lower, upper, reduced_cost, trade_slope, gross_slope = names.swapaxes(0, -2)
    row_min, row_max = rows.swapaxes(0, -2)
    tail = vector[..., numbers_at:]
    violation, pairs, *_, iterations, scale, doubtful = tail.T[NUMBERS:]
    return Answer(
        weights,
        lower,
        upper,
        reduced_cost,
        trade_slope,
        gross_slope,
        row_min,
        row_max,
        tail[..., :NUMBERS],
        violation,
        pairs,
        tail[..., NUMBERS + 2 : NUMBERS + 5],
        iterations,
        scale,
        doubtful,
    )
