"""Compare the joint solver with its peers in one run, on the same data.

    python -m benchmarks.optimizers [PATH...] [--synthetic 100 500] [--problems P3 P4]
        [--peers NAME...] [--seconds 10] [--patience 120] [--add] [--out DIR]

Ours runs as a service runs it: problems are padded to the programs that a server has by default.
The same on a program of each problem's own structure, as a script runs it, is a row beside it.

PATHs as in `benchmarks.reference`, and universes of the --synthetic sizes; the files of
`tests/reference` if neither is named. For every peer: median milliseconds of a call, exact
objective, shortfall from the best feasible answer of the run, largest violation. Then batches of
64 books in one call. Each peer has a process of its own, stopped after --patience seconds: then
its row says so. Writes optimizers.json, optimizers.md and optimizers.png into DIR; with --add what
was measured there before stays, so that a long run can be made in slices.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import direct, libraries  # noqa: F401  (they register their peers)
from benchmarks.peer import PEERS, Call, Task, peer, task_of
from benchmarks.plots import draw
from benchmarks.reference_format import load_all
from benchmarks.synthetic import universe
from compute.optimize import solve, solve_batch
from compute.optimize.execution import JUST_IN_TIME, Execution, JointShapes, Programs
from compute.optimize.kernels import joint_kernels
from compute.optimize.problem import ObjectiveKind, Problem, Status
from compute.optimize.proof.evaluation import largest_violation, objective_value
from compute.shapes import KernelRegistry, compiled

OURS = "position-sizing"
UNPADDED = "position-sizing, unpadded"
EVERY = "P1 P2 P3 P3L P4 P5 P6 P7_maxret_cdar P7_min_cdar P7_min_mdd P8"
# Answers that break a limit by more than this do not count as the best of a run.
ALLOWED = 2e-11
BATCH = 64
# A first call that takes longer than this share of the patience is not repeated.
ONCE = 0.3
# Our own process gets this many times the patience, because it compiles before it is timed.
COMPILING = 5


def served() -> Execution:
    """On the programs of a server with default settings, each compiled where it is first used."""
    shapes = JointShapes()
    registry = KernelRegistry(
        joint_kernels(shapes), load=lambda key: compiled(registry.kernel(key), key[1])
    )
    return Execution(programs=Programs(registry, shapes))


def solved(task: Task, execution: Execution) -> Call:
    """Solves the task; RuntimeError where that isn't proven."""

    def call() -> Any:
        found = solve(task.problem, execution=execution)
        if found.status is not Status.OPTIMAL:
            raise RuntimeError(found.status.name)
        return found.weights

    call()  # compiles its programs: what is timed is a warm call
    return call


@peer(OURS, EVERY)
def ours(task: Task) -> Call:
    return solved(task, served())


@peer(UNPADDED, EVERY)
def unpadded(task: Task) -> Call:
    return solved(task, JUST_IN_TIME)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.optimizers", description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--problems", nargs="*", default=EVERY.split())
    parser.add_argument("--peers", nargs="*", help="only these, beside ours")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing per call")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds a peer may take")
    parser.add_argument("--synthetic", nargs="*", type=int, default=[])
    parser.add_argument("--add", action="store_true", help="keep what was measured before")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args(arguments)
    paths = options.paths or ([] if options.synthetic else [Path("tests/reference")])
    references = _references(paths, options.synthetic)
    tasks = [task for task in references if task.code in options.problems]
    options.out.mkdir(parents=True, exist_ok=True)
    result = _before(options.out) if options.add else {"rows": [], "batches": []}
    result["machine"] = _machine()
    for task in tasks:
        rows = compare(task, options.peers, options.seconds, options.patience)
        result["rows"] = _replaced(result["rows"], rows, "problem", "size", "peer")
        _write(result, options.out)  # a long run that is cut short keeps what it has
    for task in tasks:
        if task.size <= 100:
            empty = {"problem": task.code, "size": task.size}
            measured = bounded(partial(batch, task), COMPILING * options.patience)
            row = [empty | measured]
            result["batches"] = _replaced(result["batches"], row, "problem", "size")
            _write(result, options.out)
    print(table(result))
    return 0


def _before(out: Path) -> dict[str, Any]:
    """What an earlier run has written, nothing if there was none."""
    file = out / "optimizers.json"
    return json.loads(file.read_text()) if file.exists() else {"rows": [], "batches": []}


def _replaced(old: list[Any], new: list[Any], *keys: str) -> list[Any]:
    """The old rows without those measured again, then the new ones."""
    again = {tuple(row[key] for key in keys) for row in new}
    return [row for row in old if tuple(row[key] for key in keys) not in again] + new


def _write(result: dict[str, Any], out: Path) -> None:
    (out / "optimizers.json").write_text(json.dumps(result, indent=1))
    (out / "optimizers.md").write_text(table(result))
    draw(result["rows"], out / "optimizers.png")


def _references(paths: list[Path], synthetic: list[int]) -> list[Task]:
    files = [
        file for path in paths for file in (sorted(path.glob("*.npz")) if path.is_dir() else [path])
    ]
    found = [reference for file in files for reference in load_all(file)]
    found += [reference for size in synthetic for reference in universe(size)]
    return [task_of(reference) for reference in found]


def compare(
    task: Task, only: list[str] | None, seconds: float, patience: float
) -> list[dict[str, Any]]:
    """One row per peer for one problem; a peer that fails or is missing says why."""
    rows = []
    for name, (codes, make) in PEERS.items():
        if task.code in codes and (not only or name == OURS or name in only):
            row: dict[str, Any] = {"problem": task.code, "size": task.size, "peer": name}
            row |= {"median_ms": None, "objective": None, "violation": None, "runs": 0}
            # Ours compiles its programs first, which is no part of a warm call.
            most = patience * (COMPILING if name in (OURS, UNPADDED) else 1)
            rows.append(row | bounded(partial(_measure, task, make, seconds, patience), most))
            print(f"{task.reference.name} {name}: {rows[-1]['median_ms']} ms", file=sys.stderr)
    known = [] if task.reference.objective is None else [task.reference.objective]
    valid = [row["objective"] for row in rows if (row["violation"] or 0.0) <= ALLOWED]
    values = [value for value in (*valid, *known) if value is not None]
    larger = task.problem.objective.kind.maximised
    best = (max(values) if larger else min(values)) if values else None
    for row in rows:
        row["shortfall"] = _shortfall(best, row["objective"], larger)
    return rows


def _shortfall(best: float | None, value: float | None, larger: bool) -> float | None:
    if best is None or value is None:
        return None
    worse = best - value if larger else value - best
    return worse / abs(best) if abs(best) > 1e-12 else worse


def bounded(measure: Callable[[], dict[str, Any]], patience: float) -> dict[str, Any]:
    """What `measure` returns, from a process of its own; why not, if it fails or takes too long."""
    # Forked before JAX runs anything here, so that imports are paid for once.
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def work() -> None:
        try:
            with _quiet():
                theirs.send(measure())
        except Exception as error:
            theirs.send({"failure": f"{type(error).__name__}: {str(error)[:120]}"})

    process = context.Process(target=work)
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(patience) else {"failure": f"over {patience:.0f} s"}
    except EOFError:
        return {"failure": "its process died"}
    finally:
        process.kill()
        process.join()


def _measure(
    task: Task, make: Callable[[Task], Call], seconds: float, patience: float
) -> dict[str, Any]:
    weights, times = timed(make(task), seconds, ONCE * patience)
    weights = np.asarray(weights, dtype=np.float64).ravel()
    return {
        "median_ms": 1e3 * statistics.median(times),
        "objective": float(objective_value(task.problem, weights)),
        "violation": float(largest_violation(task.problem, weights)),
        "runs": len(times),
        "failure": "",
    }


def timed(call: Call, seconds: float, once: float = 60.0) -> tuple[Any, list[float]]:
    """The answer and seconds of each call: one to warm up, then 1 to 1,001 within the budget.

    A first call of more than `once` seconds is taken as it is, compilation or not.
    """
    start = time.perf_counter()
    answer = call()
    first = time.perf_counter() - start
    times: list[float] = []
    while first < once and len(times) < 1001 and (not times or sum(times) < seconds):
        start = time.perf_counter()
        answer = call()
        times.append(time.perf_counter() - start)
    return answer, times or [first]


def batch(task: Task) -> dict[str, Any]:
    """64 books that differ (`_varied`): one call against 64, and qpax under vmap."""
    rng = np.random.default_rng(0)
    problems = [_varied(task.problem, rng) for _ in range(BATCH)]
    execution = served()
    found, times = timed(lambda: solve_batch(problems, execution=execution), 10.0)
    alone = partial(solve, execution=execution)
    single = timed(lambda: [alone(problem) for problem in problems], 10.0)[1]
    return {
        "batched_ms": 1e3 * statistics.median(times) / BATCH,
        "single_ms": 1e3 * statistics.median(single) / BATCH,
        "optimal": sum(each.status is Status.OPTIMAL for each in found),
        "qpax_ms": _qpax_batch(task, problems) if task.code == "P8" else None,
    }


def _varied(problem: Problem, rng: np.random.Generator) -> Problem:
    """The same book seen with other scenarios: means shifted by up to a tenth of their spread.

    Where only the covariance counts, with volatilities of about a tenth more or less.
    """
    assert problem.scenarios is not None
    if problem.objective.kind is ObjectiveKind.RISK_BUDGET:
        scenarios = problem.scenarios * np.exp(0.1 * rng.normal(size=problem.size))
        return dataclasses.replace(
            problem, scenarios=scenarios, covariance=np.cov(scenarios, rowvar=False)
        )
    shift = 0.1 * rng.normal(size=problem.size) * problem.scenarios.std(0) / 10.0
    scenarios = problem.scenarios + shift
    return dataclasses.replace(problem, scenarios=scenarios, mean=scenarios.mean(0))


def _qpax_batch(task: Task, problems: list[Problem]) -> float | None:
    try:
        import jax
        import qpax
    except ImportError:
        return None
    tasks = [task_of(task.reference, problem) for problem in problems]
    data = [jax.numpy.stack(part) for part in zip(*map(direct.qpax_data, tasks), strict=True)]
    solve_all = jax.jit(jax.vmap(lambda *one: qpax.solve_qp_primal(*one, solver_tol=1e-10)))
    _, times = timed(lambda: solve_all(*data).block_until_ready(), 20.0)
    return 1e3 * statistics.median(times) / BATCH


@contextlib.contextmanager
def _quiet() -> Any:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _machine() -> str:
    load = os.getloadavg()[0]
    version = sys.version.split()[0]
    return f"{os.cpu_count()} cores (load {load:.1f}), {sys.platform}, Python {version}"


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown, fastest first within a problem."""
    lines = [
        "# The joint solver and its peers",
        "",
        f"Measured by `python -m benchmarks.optimizers` on {result['machine']}. Times are medians",
        "of a warm call; shortfall is relative to the best answer of the run that keeps every",
        "limit; a negative one was bought by breaking a limit (see the violation).",
        "",
        "| problem | n | peer | ms | x ours | objective | shortfall | violation |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = {(row["problem"], row["size"]): None for row in result["rows"]}
    for key in order:
        rows = [row for row in result["rows"] if (row["problem"], row["size"]) == key]
        mine = next((row["median_ms"] for row in rows if row["peer"] == OURS), None)
        rows.sort(key=lambda row: (row["median_ms"] is None, row["median_ms"]))
        lines += [_line(row, mine) for row in rows]
    lines += ["", "## 64 books in one call, milliseconds a book", ""]
    lines += [
        "| problem | n | one call | 64 calls | gain | vmapped qpax | cvxpy, by itself | solved |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    cvxpy = {
        (row["problem"], row["size"]): row["median_ms"]
        for row in result["rows"]
        if row["peer"] == "cvxpy + Clarabel"
    }
    lines += [
        _batch_line(row, cvxpy.get((row["problem"], row["size"]))) for row in result["batches"]
    ]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any], mine: float | None) -> str:
    head = f"| {row['problem']} | {row['size']} | {row['peer']} |"
    if row["median_ms"] is None:
        return f"{head} - | - | {row['failure']} | - | - |"
    ratio = f"{row['median_ms'] / mine:.1f}" if mine else "-"
    short = "-" if row["shortfall"] is None else f"{row['shortfall']:.1e}"
    return (
        f"{head} {row['median_ms']:.3g} | {ratio} | {row['objective']:.9g} | {short} |"
        f" {row['violation']:.0e} |"
    )


def _batch_line(row: dict[str, Any], cvxpy: float | None) -> str:
    head = f"| {row['problem']} | {row['size']} |"
    if "failure" in row:
        return f"{head} - | - | {row['failure']} | - | - | - |"
    alone = "-" if cvxpy is None else f"{cvxpy:.3g}"
    qpax = "-" if row["qpax_ms"] is None else f"{row['qpax_ms']:.3g}"
    gain = row["single_ms"] / row["batched_ms"]
    return (
        f"{head} {row['batched_ms']:.3g} | {row['single_ms']:.3g} | {gain:.1f} | {qpax} |"
        f" {alone} |"
        f" {row['optimal']} of {BATCH} |"
    )


if __name__ == "__main__":
    sys.exit(main())
