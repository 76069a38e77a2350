"""The smooth solver: `solve` one problem, `solve_batch` many in one compiled call."""

from compute.optimize.interior_point.blas import use_one_thread
from compute.optimize.interior_point.solve import solve as solve
from compute.optimize.interior_point.solve import solve_batch as solve_batch

use_one_thread()
