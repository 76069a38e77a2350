"""The derivative program under construction: columns, rows and how both move.

Its columns are d, the change of the weights [n], then auxiliary ones: distances from kinks,
violations of soft limits, thresholds and excesses of tail measures. Its rows are the limits that
hold, each in the form row'x <= move; an equality is two of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compute.optimize.problem import Array

Index = NDArray[np.int64]

STEP = 1e-6  # of differences along the family, at fixed weights


@dataclass(frozen=True)
class Program:
    """rows f64[m, k] x <= move f64[m], rows of size one, and the first-order cost f64[k] of x.

    drift: f64[k], d cost / d parameter; turn: f64[m, n], d row / d parameter by weight. pairs:
    int[p, 2], rows that are each other's negative. curved: int[q], the rows of the curved limits,
    scaled by size f64[m].
    """

    cost: Array
    drift: Array
    rows: Array
    move: Array
    turn: Array
    size: Array
    pairs: Index
    curved: Index


class Builder:
    """Collects columns and rows; the first `size` columns are the weights'."""

    def __init__(self, cost: Array, drift: Array) -> None:
        self._size = len(cost)
        self.cost, self.drift = cost.copy(), drift.copy()
        self._aux: list[tuple[float, float]] = []
        self._rows: list[tuple[Array, dict[int, float], float, Array | None]] = []
        self._pairs: list[tuple[int, int]] = []
        self._curved: list[int] = []

    def column(self, cost: float, drift: float = 0.0) -> int:
        """A further column with its cost and how that moves; its number."""
        self._aux.append((cost, drift))
        return self._size + len(self._aux) - 1

    def price(self, column: int, cost: float) -> None:
        """Give an auxiliary column its cost."""
        self._aux[column - self._size] = (cost, 0.0)

    def row(
        self,
        weights: Array,
        move: float,
        others: dict[int, float] | None = None,
        turn: Array | None = None,
    ) -> int:
        """weights'd + others <= move; turn f64[n] is how the row itself moves. Its number."""
        self._rows.append((weights, others or {}, float(move), turn))
        return len(self._rows) - 1

    def bound(self, column: int, side: float, move: float) -> int:
        """side * x[column] <= move."""
        return self.row(np.zeros(self._size), move, {column: side})

    def pair(self, first: int, second: int) -> None:
        """Two rows that are each other's negative: an equality while they move alike."""
        self._pairs.append((first, second))

    def curved(self, row: int) -> None:
        """The row is the next curved limit."""
        self._curved.append(row)

    def build(self) -> Program:
        """The program, its rows scaled."""
        count, width = len(self._rows), self._size + len(self._aux)
        rows, turn = np.zeros((count, width)), np.zeros((count, self._size))
        for k, (weights, others, _, turned) in enumerate(self._rows):
            rows[k, : self._size] = weights
            for column, value in others.items():
                rows[k, column] += value
            if turned is not None:
                turn[k] = turned
        size = np.linalg.norm(rows, axis=1)
        size[size == 0.0] = 1.0
        aux = np.array(self._aux).reshape(-1, 2)
        return Program(
            np.append(self.cost, aux[:, 0]),
            np.append(self.drift, aux[:, 1]),
            rows / size[:, None],
            np.array([row[2] for row in self._rows]) / size,
            turn / size[:, None],
            size,
            np.array(self._pairs, np.int64).reshape(-1, 2),
            np.array(self._curved, np.int64),
        )
