"""Joint sizing: one convex problem over the book, its solvers and the proof of its answer.

`solve` and `solve_batch` take any `Problem`: piecewise-linear ones go to `tail_lp`, smooth ones to
`interior_point`, smooth ones with a tail measure to `cutting_planes`, which joins the two.
README.md beside this file is the map.
"""

from compute.optimize.dispatch import solve, solve_batch

__all__ = ["solve", "solve_batch"]
