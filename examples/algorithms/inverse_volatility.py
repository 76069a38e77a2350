"""A custom sizing algorithm in Python: every line with an edge takes the same part of the risk.

    weight_i = side_i gross (1 / volatility_i) / sum_j (1 / volatility_j)

over the lines with a Kelly stake; the others get 0. `gross` is a parameter, by default 1.
It runs in the server's process; see `algorithms.toml` for how it is named.
"""

import numpy as np

VERSION = "1.0"
"""Another one wherever sizes may differ: it is recorded with every decision."""


def size(columns, parameters, portfolio):
    """Equal risk for every line with an edge."""
    del portfolio
    has_edge = (columns["kelly"] != 0.0) & (columns["volatility"] > 0.0)
    inverse = np.where(has_edge, 1.0 / np.where(has_edge, columns["volatility"], 1.0), 0.0)
    total = inverse.sum()
    if total == 0.0:
        return np.zeros(len(inverse))
    return columns["side"] * parameters.get("gross", 1.0) * inverse / total
