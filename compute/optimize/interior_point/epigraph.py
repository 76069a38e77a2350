"""Variables beside the weights that lie above linear functions of them.

    maximise  U(w) - price'v   subject to   slopes w <= above v

At the optimum each v_k is the largest of the functions it lies above, so a convex measure in the
objective is stated by its tangents. A level is no name: it has no bounds, takes no part in budget,
gross or turnover, and is not part of the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from compute.optimize.limits import Linear
from compute.optimize.problem import Array


@dataclass(frozen=True)
class Levels:
    """price: f64[k] > 0; slopes: f64[c, n]; above: f64[c, k] >= 0, what a level counts in a row.

    A level is best counted so that its rows have coefficients of one size.
    """

    price: Array
    slopes: Array
    above: Array

    def beside(self, limits: Linear) -> Linear:
        """The limits with the levels as further columns and their rows below the others."""
        count, size = limits.rows.shape
        lines, width = self.above.shape
        rows = np.zeros((count + lines, size + width))
        rows[:count, :size], rows[count:, :size] = limits.rows, self.slopes
        rows[count:, size:] = -self.above
        free = np.full(width, np.inf)
        return replace(
            limits,
            lower=np.append(limits.lower, -free),
            upper=np.append(limits.upper, free),
            rows=rows,
            row_min=np.append(limits.row_min, np.full(lines, -np.inf)),
            row_max=np.append(limits.row_max, np.zeros(lines)),
            price=np.append(limits.price, np.full(lines, np.inf)),
        )
