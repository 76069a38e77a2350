"""Portfolios whose objective and limits are piecewise linear: CVaR, CDaR, maximum drawdown.

Read `scenario_selection` for how few scenarios are kept, `linear_model` for the limits as a
linear program, `interior_point` for the program's solver in JAX, `solve` for the loop that joins
them, `duals` for the prices.
"""

from compute.optimize.tail_lp.duals import TailMultipliers
from compute.optimize.tail_lp.solve import has_tail, solve_tail, solve_tail_batch, supports

__all__ = ["TailMultipliers", "has_tail", "solve_tail", "solve_tail_batch", "supports"]
