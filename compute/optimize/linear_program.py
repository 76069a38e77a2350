"""Linear and mixed-integer programs, and HiGHS, which solves them with duals of one sign.

    maximise  c'x   subject to   row_min <= A x <= row_max,   lower <= x <= upper,
    x_j integer where asked.

Duals: `row_dual[r] = d value / d bound`, positive where the upper side of a row binds and negative
where the lower side does; `reduced_cost = c - A' row_dual`. Programs of tail measures are solved by
an interior point of their own (`tail_lp/interior_point.py`), and here where it stalls.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import highspy
import numpy as np
import numpy.typing as npt
from scipy import sparse

from compute.optimize.time_limit import ENDLESS, TimeLimit

Vector = npt.NDArray[np.float64]

# The tightest HiGHS accepts: the programs are scaled to coefficients near one before they come.
TOLERANCE = 1e-10


class LpStatus(Enum):
    """How a linear program ended."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    FAILED = "failed"  # time limit without a point, or a numerical failure


@dataclass(frozen=True)
class LinearProgram:
    """max c'x over rows and bounds; shapes c[k], rows[m, k], bounds [m] and [k].

    rows: sparse, dense for tail measures. excess: number of last columns of which every row has one
    at most, but for the caps of tail measures.
    """

    cost: Vector
    rows: Any
    row_min: Vector
    row_max: Vector
    lower: Vector
    upper: Vector
    integer: npt.NDArray[np.bool_] | None = None
    excess: int = 0

    @property
    def loss(self) -> Vector:
        """-c[k], of which the same point is the minimum."""
        return -self.cost


@dataclass(frozen=True)
class LpSolution:
    """The point, its duals (zeros for integer programs) and a proven bound on the optimum."""

    status: LpStatus
    point: Vector
    value: float
    row_dual: Vector
    bound: float


_STATUSES = {
    highspy.HighsModelStatus.kOptimal: LpStatus.OPTIMAL,
    highspy.HighsModelStatus.kInfeasible: LpStatus.INFEASIBLE,
    highspy.HighsModelStatus.kUnbounded: LpStatus.UNBOUNDED,
    highspy.HighsModelStatus.kModelEmpty: LpStatus.OPTIMAL,
}


def maximise(
    program: LinearProgram,
    *,
    time_limit_s: float = 60.0,
    nodes_max: int = 2**31 - 1,
    iterations_max: int = 2**31 - 1,
    gap_relative: float = 1e-9,
    tolerance: float = TOLERANCE,
    time_limit: TimeLimit = ENDLESS,
) -> LpSolution:
    """Solve `program` exactly (dual simplex; branch and bound where variables are integer).

    `iterations_max` of the simplex method bounds the work the same on every machine; a program cut
    off has no optimum. `gap_relative` only matters for integer programs: HiGHS stops when the best
    point is proven within it; `bound` is the proven upper bound. A limit of time or nodes with a
    feasible point is reported as OPTIMAL with the looser `bound`: the point is usable, the bound
    says how good. Raises `StoppedError` where the caller's `time_limit` is over, before or after;
    `time_limit_s` is of this program.
    """
    # The public wrapper switches callbacks on, which prints a banner before output can be muted.
    solver = highspy._core._Highs()
    options: dict[str, Any] = {
        "output_flag": False,
        "primal_feasibility_tolerance": tolerance,
        "dual_feasibility_tolerance": tolerance,
        "time_limit": time_limit.least(time_limit_s),
        "mip_max_nodes": nodes_max,
        "simplex_iteration_limit": iterations_max,
        "mip_rel_gap": gap_relative,
        # The number of threads is left alone: HiGHS refuses one that differs from what another
        # caller in this process has set before.
        "parallel": "off",
        "mip_feasibility_tolerance": 1e-9,
    }
    for name, value in options.items():
        solver.setOptionValue(name, value)
    solver.passModel(_model(program))
    solver.run()
    time_limit.check()
    return _read(solver, program)


def _model(program: LinearProgram) -> Any:
    rows = sparse.csr_array(program.rows)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(program.cost), rows.shape[0]
    model.col_cost_ = program.cost
    model.col_lower_, model.col_upper_ = program.lower, program.upper
    model.row_lower_, model.row_upper_ = program.row_min, program.row_max
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = rows.indptr
    model.a_matrix_.index_ = rows.indices
    model.a_matrix_.value_ = rows.data
    model.sense_ = highspy.ObjSense.kMaximize
    if program.integer is not None:
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        model.integrality_ = [kinds[int(flag)] for flag in program.integer]
    return model


def _read(solver: Any, program: LinearProgram) -> LpSolution:
    status = _STATUSES.get(solver.getModelStatus(), LpStatus.FAILED)
    info, solution = solver.getInfo(), solver.getSolution()
    point = np.array(solution.col_value, dtype=np.float64)
    has_point = len(point) == len(program.cost) and info.primal_solution_status == 2
    if program.integer is not None and status is LpStatus.FAILED and has_point:
        status = LpStatus.OPTIMAL
    if status is LpStatus.OPTIMAL and len(program.cost) and not has_point:
        status = LpStatus.FAILED  # optimal as scaled for the solver, not within tolerance as stated
    value = float(program.cost @ point) if has_point else float("nan")
    duals = np.array(solution.row_dual, dtype=np.float64)
    if len(duals) != len(program.row_min) or not solution.dual_valid:
        duals = np.zeros(len(program.row_min))
    bound = float(info.mip_dual_bound) if program.integer is not None else value
    return LpSolution(status, point, value, duals, bound)


class Builder:
    """Assembles a `LinearProgram` from named blocks of columns and rows."""

    def __init__(self) -> None:
        self._columns: dict[str, tuple[Vector, Vector, Vector, bool]] = {}
        self._rows: dict[str, tuple[dict[str, Any], Vector, Vector]] = {}

    def columns(
        self,
        name: str,
        count: int,
        lower: Vector | float,
        upper: Vector | float,
        cost: Vector | float = 0.0,
        *,
        integer: bool = False,
    ) -> None:
        """Add `count` variables within [lower, upper] and `cost` in the objective (maximised)."""
        spread = [
            np.broadcast_to(np.asarray(part, float), (count,)) for part in (lower, upper, cost)
        ]
        self._columns[name] = (spread[0], spread[1], spread[2], integer)

    def rows(
        self, name: str, blocks: dict[str, Any], row_min: Vector | float, row_max: Vector | float
    ) -> None:
        """Add row_min <= sum_k blocks[k] @ column_k <= row_max; blocks are [rows, columns]."""
        count = next(iter(blocks.values())).shape[0]
        low = np.broadcast_to(np.asarray(row_min, float), (count,))
        high = np.broadcast_to(np.asarray(row_max, float), (count,))
        self._rows[name] = (blocks, low, high)

    def build(self) -> LinearProgram:
        """The program, columns and rows in the order in which they were added."""
        lower, upper, cost = (
            np.concatenate([column[part] for column in self._columns.values()]) for part in range(3)
        )
        integer = np.concatenate(
            [np.full(len(column[0]), column[3]) for column in self._columns.values()]
        )
        matrix = self._matrix(len(cost))
        ends = [(low, high) for _, low, high in self._rows.values()]
        row_min = np.concatenate([low for low, _ in ends]) if ends else np.zeros(0)
        row_max = np.concatenate([high for _, high in ends]) if ends else np.zeros(0)
        mixed = integer if integer.any() else None
        return LinearProgram(cost, matrix, row_min, row_max, lower, upper, mixed)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The blocks of variables in the order of the point."""
        return tuple(self._columns)

    def column_slice(self, name: str) -> slice:
        """Where the variables of block `name` lie in the point."""
        return _slice({key: len(value[0]) for key, value in self._columns.items()}, name)

    def row_slice(self, name: str) -> slice:
        """Where the rows of block `name` lie in the duals."""
        return _slice({key: len(value[1]) for key, value in self._rows.items()}, name)

    def _matrix(self, width: int) -> sparse.csr_array:
        start = dict(zip(self._columns, self._starts(), strict=True))
        parts: list[tuple[Any, Any, Any]] = []
        height = 0
        for blocks, low, _ in self._rows.values():
            for name, block in blocks.items():
                entries = sparse.coo_array(block)
                parts.append((entries.data, entries.row + height, entries.col + start[name]))
            height += len(low)
        if not parts:
            return sparse.csr_array((height, width))
        data, rows, columns = (np.concatenate(part) for part in zip(*parts, strict=True))
        return sparse.csr_array((data, (rows, columns)), shape=(height, width))

    def _starts(self) -> list[int]:
        lengths = [len(column[0]) for column in self._columns.values()]
        return [int(start) for start in np.concatenate([[0], np.cumsum(lengths)[:-1]])]


def _slice(lengths: dict[str, int], name: str) -> slice:
    start = 0
    for key, length in lengths.items():
        if key == name:
            return slice(start, start + length)
        start += length
    return slice(0, 0)
