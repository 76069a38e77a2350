"""Joint sizing: one convex problem over the book, its solver and its certificate.

`solve` and `solve_batch` take any `Problem`: piecewise-linear ones go to `tail`, smooth ones to
`solver`, smooth ones with a tail limit to `cuts`, which joins the two.
"""

from compute.optimize.dispatch import solve, solve_batch

__all__ = ["solve", "solve_batch"]
