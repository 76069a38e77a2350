"""The tangent program as a linear program for HiGHS, and the duals read back from it.

The columns that carry |v|, trades, running peaks and tail excesses are added here; what comes back
is free of them again (`duality_gap.Dual`), so whatever HiGHS gets wrong cannot reach a bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from compute.optimize import measures
from compute.optimize.linear_program import Builder, LpStatus, maximise
from compute.optimize.problem import ObjectiveKind
from compute.optimize.proof.duality_gap import Dual, admissible_tail, bounded
from compute.optimize.proof.linearization import Tail, Tangent
from compute.optimize.time_limit import ENDLESS, TimeLimit

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Kind = ObjectiveKind


def relaxation(program: Tangent) -> Builder:
    """The tangent program as rows and columns, its objective divided by `program.scale`.

    Blocks of columns: `weights`, `traded` >= |v - centre|, `size` >= |v|, `soft` violations, and
    per tail k `k.*`. Rows carry the names used when duals are read back.
    """
    count, scale = len(program.weights), program.scale
    builder, eye = Builder(), sparse.identity(len(program.weights), format="coo")
    builder.columns("weights", count, program.lower, program.upper, program.gradient / scale)
    limited = np.isfinite(program.turnover_max)
    if limited or program.linear_cost.any():
        builder.columns("traded", count, 0.0, np.inf, -program.linear_cost / scale)
        centre = program.centre
        builder.rows("buys", {"weights": eye, "traded": -eye}, -np.inf, centre)
        builder.rows("sells", {"weights": -eye, "traded": -eye}, -np.inf, -centre)
    if limited:
        total = np.ones((1, count))
        builder.rows("turnover", {"traded": total}, -np.inf, program.turnover_max)
    if np.isfinite(program.gross_max):
        builder.columns("size", count, 0.0, np.inf)
        builder.rows("long", {"weights": eye, "size": -eye}, -np.inf, 0.0)
        builder.rows("short", {"weights": -eye, "size": -eye}, -np.inf, 0.0)
        builder.rows("gross", {"size": np.ones((1, count))}, -np.inf, program.gross_max)
    if len(program.rows):
        _named_rows(builder, program)
    for index, tail in enumerate(program.tails):
        _tail_rows(builder, program, f"{index}", tail)
    return builder


def _named_rows(builder: Builder, program: Tangent) -> None:
    soft = np.isfinite(program.price)
    blocks: dict[str, object] = {"weights": program.rows}
    if soft.any():
        select = sparse.coo_array(np.eye(len(soft))[:, soft])
        price = -program.price[soft] / program.scale
        builder.columns("over", int(soft.sum()), 0.0, np.inf, price)
        builder.columns("under", int(soft.sum()), 0.0, np.inf, price)
        blocks |= {"over": -select, "under": select}
    builder.rows("rows", blocks, program.row_min, program.row_max)


def tail_unit(scenarios: Matrix) -> float:
    """What one is in the tail blocks: the mean absolute return, so coefficients are near one."""
    return float(np.abs(scenarios).mean()) or 1.0


def _tail_rows(builder: Builder, program: Tangent, key: str, tail: Tail) -> None:
    unit = tail_unit(program.scenarios)
    price = (tail.weight or 0.0) * unit / program.scale
    measure = add_tail(builder, program.scenarios, program.probability, key, tail, price)
    if tail.bound is not None:
        builder.rows(f"{key}.bound", measure, -np.inf, tail.bound / unit)


def add_tail(
    builder: Builder, scenarios: Matrix, probability: Vector, key: str, tail: Tail, price: float
) -> dict[str, Any]:
    """Add columns and rows `key.*` of a tail measure, at `price` a unit in the objective.

    Returns the row, as blocks, whose value is the measure over `tail_unit`; it is never below
    the true one, and equal to it once minimised or bounded.
    """
    periods, unit = len(scenarios), tail_unit(scenarios)
    returns, eye = scenarios / unit, sparse.identity(periods, format="coo")
    if not tail.measure.on_path:
        outcome: dict[str, Any] = {"weights": returns}
    else:
        step = sparse.diags_array([np.ones(periods), -np.ones(periods - 1)], offsets=[0, -1])
        builder.columns(f"{key}.level", periods, -np.inf, np.inf)
        builder.columns(f"{key}.peak", periods, 0.0, np.inf)
        builder.rows(f"{key}.walk", {f"{key}.level": step, "weights": -returns}, 0.0, 0.0)
        builder.rows(f"{key}.above", {f"{key}.peak": eye, f"{key}.level": -eye}, 0.0, np.inf)
        builder.rows(f"{key}.rising", {f"{key}.peak": step}, 0.0, np.inf)
        outcome = {f"{key}.level": eye, f"{key}.peak": -eye}
    whole: dict[str, Any] = {f"{key}.worst": np.ones((periods, 1))}
    builder.columns(f"{key}.worst", 1, -np.inf, np.inf, -price)
    measure: dict[str, Any] = {f"{key}.worst": np.ones((1, 1))}
    if not tail.measure.is_maximum:
        share = probability / (1.0 - tail.level)
        builder.columns(f"{key}.beyond", periods, 0.0, np.inf, -price * share)
        whole[f"{key}.beyond"] = eye
        measure[f"{key}.beyond"] = share[None, :]
    builder.rows(f"{key}.tail", outcome | whole, 0.0, np.inf)
    return measure


def best_dual(
    program: Tangent, *, time_limit_s: float = 60.0, time_limit: TimeLimit = ENDLESS
) -> Dual | None:
    """The duals that HiGHS finds for the tangent program; None where it finds no optimum."""
    builder = relaxation(bounded(program))
    found = maximise(builder.build(), time_limit_s=time_limit_s, time_limit=time_limit)
    if found.status is not LpStatus.OPTIMAL:
        return None
    scale = program.scale

    def dual(name: str) -> Vector:
        return found.row_dual[builder.row_slice(name)] * scale

    tails = tuple(
        _tail_dual(program, tail, key, dual)
        for key, tail in ((str(k), tail) for k, tail in enumerate(program.tails))
    )
    rows = dual("rows") if len(program.rows) else np.zeros(0)
    turnover, gross = dual("turnover").sum(), dual("gross").sum()
    return Dual(rows, max(float(turnover), 0.0), max(float(gross), 0.0), tails)


def _tail_dual(
    program: Tangent, tail: Tail, key: str, dual: Callable[[str], Vector]
) -> tuple[float, Vector]:
    """Price and supporting functional of a tail from its row duals, made exactly admissible."""
    unit = tail_unit(program.scenarios)
    weights = -dual(f"{key}.tail") / unit
    price = tail.weight if tail.weight is not None else float(weights.sum())
    if price <= 0.0:
        return 0.0, np.zeros(len(program.weights))
    chosen = admissible_tail(weights / price, program.probability, tail)
    if not tail.measure.on_path:
        return price, -program.scenarios.T @ chosen
    peaks = np.concatenate([[0.0], -dual(f"{key}.above") / unit / price])
    return price, -program.scenarios.T @ measures.drawdown_functional(chosen, peaks)
