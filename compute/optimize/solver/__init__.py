"""The smooth solver: `solve` one problem, `solve_batch` many in one compiled call."""

from compute.optimize.solver.blas import use_one_thread
from compute.optimize.solver.solve import solve as solve
from compute.optimize.solver.solve import solve_batch as solve_batch

use_one_thread()
