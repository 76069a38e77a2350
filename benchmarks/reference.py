"""Solve problems with certified optima and say how close we come, one JSON line per problem.

    python -m benchmarks.reference PATH... [--out DIR] [--repeats N]

PATHs are files in the format of `reference_format` or directories of them. Each line holds: file,
status, objective, reference_objective, relative_gap (positive: worse than the reference),
largest_violation, certified_gap (how much better any portfolio could be at most, objective
units), iterations, median_ms (of a warm call, as a user makes it). Infeasible problems also get
`conflict` and `relaxation`. A file that cannot be read or solved gets the status `error` and its
reason; the exit code is 1 if there was one, or if a status is not the one the file expects.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reference_format import Reference, load_all
from compute.optimize import solve
from compute.optimize.infeasibility.conflict import explain
from compute.optimize.problem import Problem, Solution, Status
from compute.optimize.proof.certificate import certify
from compute.optimize.proof.evaluation import largest_violation

# Repeats stop early once this much time went into one problem.
TIMING_BUDGET_S = 3.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.reference", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--out", type=Path, help="folder for the weights, NAME.npy each")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls per problem")
    options = parser.parse_args(arguments)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    fine = True
    for path in _files(options.paths):
        for line, expected in _lines(path, options.out, options.repeats):
            print(json.dumps(line), flush=True)
            fine = fine and line["status"] == expected
    return 0 if fine else 1


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(path.glob("*.npz")) if path.is_dir() else [path]


def _lines(path: Path, out: Path | None, repeats: int) -> Iterator[tuple[dict[str, Any], str]]:
    """One line per problem of a file; whatever goes wrong becomes a line too."""
    try:
        references = load_all(path)
    except Exception as error:
        yield _failed(path.name, error), "optimal"
        return
    for reference in references:
        try:
            yield _report(reference, out, repeats), reference.expect
        except Exception as error:
            yield _failed(reference.file, error), reference.expect


def _failed(file: str, error: Exception) -> dict[str, Any]:
    line: dict[str, Any] = {"file": file, "status": "error"}
    empty = ("objective", "reference_objective", "relative_gap", "largest_violation")
    line |= dict.fromkeys((*empty, "certified_gap", "iterations", "median_ms"))
    return line | {"error": f"{type(error).__name__}: {error}"}


def _report(reference: Reference, out: Path | None, repeats: int) -> dict[str, Any]:
    solution, median_ms = timed_solve(reference.problem, repeats)
    line: dict[str, Any] = {
        "file": reference.file,
        "status": solution.status.name.lower(),
        "objective": None,
        "reference_objective": _number(reference.objective),
        "relative_gap": None,
        "largest_violation": None,
        "certified_gap": None,
        "iterations": int(solution.iterations),
        "median_ms": round(median_ms, 4),
        "method": solution.method,
    }
    if solution.status is Status.OPTIMAL:
        line |= _proof(reference, solution)
        if out is not None:
            np.save(out / f"{reference.name}.npy", solution.weights)
    if solution.status is Status.INFEASIBLE:
        found = explain(reference.problem)
        line |= {"conflict": found.conflict, "relaxation": found.relaxation}
    return line


def _proof(reference: Reference, solution: Solution) -> dict[str, Any]:
    proof = certify(reference.problem, solution)
    gap = relative_gap(reference, proof.objective)
    return {
        "status": "optimal" if proof.is_optimal else "uncertified",
        "objective": _number(proof.objective),
        "relative_gap": _number(gap),
        "largest_violation": largest_violation(reference.problem, solution.weights),
        "certified_gap": _number(proof.gap),
        "certified_gap_relative": _number(proof.gap_relative),
        "kkt_residual": _number(max(proof.dual_residual, proof.complementarity)),
    }


def relative_gap(reference: Reference, objective: float) -> float | None:
    """How much worse than the reference, over its size; absolute where the reference is zero."""
    if reference.objective is None:
        return None
    worse = reference.objective - objective
    if not reference.problem.objective.kind.maximised:
        worse = -worse
    size = abs(reference.objective)
    return worse / size if size > 1e-12 else worse


def timed_solve(problem: Problem, repeats: int) -> tuple[Solution, float]:
    """The answer and the median time of a warm call, milliseconds."""
    solution = solve(problem)
    times: list[float] = []
    while len(times) < repeats and sum(times) < TIMING_BUDGET_S:
        start = time.perf_counter()
        solution = solve(problem)
        times.append(time.perf_counter() - start)
    return solution, 1e3 * statistics.median(times)


def _number(value: float | None) -> float | None:
    """JSON has neither NaN nor infinity."""
    return None if value is None or not math.isfinite(value) else float(value)


if __name__ == "__main__":
    sys.exit(main())
