"""Shapley values: a difference divided among the causes that made it.

    phi_g = sum over S without g of |S|! (k - |S| - 1)! / k! (v(S + g) - v(S))

the mean, over all k! orders in which k causes could have come one after another, of what g changed.
They sum to v(all) - v(none); a cause that never changes anything has 0; exchanging the two ends
changes all signs (Shapley 1953).
"""

from math import factorial

import numpy as np

from compute.market import Floats


def shapley_values(values: Floats) -> Floats:
    """Shares of k causes in n differences, (k, n).

    values: v of every subset, (2^k, n); bit g of the row says whether cause g is in the subset.
    Raises `ValueError` where the rows are no power of two.
    """
    rows = len(values)
    causes = rows.bit_length() - 1
    if rows != 1 << causes:
        raise ValueError(f"{rows} rows are not a value for every subset of some causes")
    subsets = np.arange(rows)
    size = np.array([int(subset).bit_count() for subset in subsets])
    # Whole numbers: dividing once at the end keeps lots, which are whole, free of rounding.
    orders = np.array([factorial(s) * factorial(causes - s - 1) for s in range(causes)] + [0])
    shares = np.zeros((causes, values.shape[1]))
    for cause in range(causes):
        without = subsets[(subsets >> cause) & 1 == 0]
        gained = values[without | 1 << cause] - values[without]
        shares[cause] = orders[size[without]].astype(np.float64) @ gained / factorial(causes)
    return shares
