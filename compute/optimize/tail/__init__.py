"""Portfolios whose objective and limits are piecewise linear: CVaR, CDaR, maximum drawdown.

Read `rows` for how few scenarios are kept, `frame` for the limits as a linear program, `interior`
for the program's solver in JAX, `solve` for the loop that joins them, `duals` for the proof.
"""

from compute.optimize.tail.duals import TailMultipliers
from compute.optimize.tail.solve import has_tail, solve_tail, solve_tail_batch, supports

__all__ = ["TailMultipliers", "has_tail", "solve_tail", "solve_tail_batch", "supports"]
