"""Solve random and hostile problems, and compare with independent solvers and proofs.

    python -m benchmarks.random_problems [--files] [--count 1000] [--seed 0] [--out DIR]

Problems are drawn with every objective and limit there is (`draw`), or with --files in the format
of `reference_format` as strangers would write them (`draw_files`).

Every answer is held against three things: the best weights of Clarabel or HiGHS through cvxpy
(`oracle`), the certificate of `compute.optimize.proof.certificate`, and what is known of the
problem by construction or by other linear programs (`conflicts`). A gap is relative to the
larger of the objective and a thousandth of what its steepest slope could make of the whole book.
Prints counts, and a line for every answer that is wrong; the exit code is 1 if there is one. With
--out, writes random_problems.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.conflicts import objections
from benchmarks.draw import Drawn, draw
from benchmarks.draw_files import draw_file
from benchmarks.oracle import best_weights, riskless_mean, survivable
from compute.optimize import solve
from compute.optimize.execution import Execution, JointShapes, Programs
from compute.optimize.infeasibility.conflict import explain
from compute.optimize.kernels import joint_kernels
from compute.optimize.objectives import UnsupportedError
from compute.optimize.problem import Array, ObjectiveKind, Problem, Solution, Status
from compute.optimize.proof.certificate import Certificate, certify, certify_weights, size_of
from compute.optimize.proof.evaluation import largest_violation, objective_value
from compute.optimize.proof.linearization import tangent
from compute.optimize.proof.problem_numbers import ProblemData
from compute.shapes import KernelRegistry, NotCompiledError

MAX_SHARPE = ObjectiveKind.MAX_SHARPE
AGREED, NEVER = 1e-8, 1e-6
# An answer of the oracle that breaks limits by more than this (relative to its largest weight) is
# better than it may be; less is enough where a proof says that nothing is better than ours.
ALLOWED, EXACT = 1e-9, 1e-12


@dataclass
class Verdict:
    """What is known about one answer. gap: how much better the oracle is, relative; or proven."""

    drawn: Drawn
    status: str
    wrong: list[str] = field(default_factory=list)
    oracle: str = "none"
    gap: float | None = None
    proven: float | None = None
    certified: bool = False
    note: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.random_problems", description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first problem")
    parser.add_argument("--files", action="store_true", help="in the format of reference files")
    parser.add_argument("--out", type=Path, help="folder for random_problems.md")
    options = parser.parse_args(arguments)
    execution = compiled()
    start = time.perf_counter()
    seeds = range(options.seed, options.seed + options.count)
    verdicts = []
    for seed in seeds:
        verdicts.append(judge(draw_file(seed) if options.files else draw(seed), execution))
        for problem in verdicts[-1].wrong:
            print(f"{seed}: {problem}; {_about(verdicts[-1])}", file=sys.stderr, flush=True)
        if len(verdicts) % 50 == 0:
            print(f"{len(verdicts)} of {options.count}", file=sys.stderr, flush=True)
    text = report(verdicts, time.perf_counter() - start)
    print(text)
    if options.out is not None:
        (options.out / "random_problems.md").write_text(text)
    return int(any(verdict.wrong for verdict in verdicts))


def compiled() -> Execution:
    """On the solvers' programs, compiled for every book that is drawn."""
    shapes = JointShapes(assets=(64,), scenarios=(512,), rows=(32, 96))
    registry = KernelRegistry(joint_kernels(shapes))
    registry.compile(threads=1)
    return Execution(programs=Programs(registry, shapes))


def answer(problem: Problem, execution: Execution) -> Solution:
    """The answer as a service finds it: padded to programs that were compiled ahead."""
    try:
        return solve(problem, execution=execution)
    except NotCompiledError:
        return solve(problem)


def judge(drawn: Drawn, execution: Execution) -> Verdict:
    """Solve one problem and check the answer in every way there is."""
    try:
        solution = answer(drawn.problem, execution)
    except UnsupportedError as error:
        return Verdict(drawn, f"unsupported: {error}")
    except Exception as error:  # whatever it is, it is a finding
        return Verdict(drawn, "error", [f"{type(error).__name__}: {error}"])
    verdict = Verdict(drawn, solution.status.name)
    verdict.note = f"residual {solution.residual:.1e}, {solution.iterations} iterations"
    if solution.status is Status.OPTIMAL:
        if drawn.feasible is False and largest_violation(drawn.problem, solution.weights) > ALLOWED:
            verdict.wrong.append("OPTIMAL, but there is no feasible portfolio")
        proof = certify(drawn.problem, solution, thorough=False)
        if not proof.is_optimal:
            proof = certify(drawn.problem, solution)
        _compare(verdict, solution.weights, proof)
    elif solution.status is Status.NONPOSITIVE_MEAN:
        _refused(verdict)
    elif solution.status is Status.UNBOUNDED and drawn.problem.objective.kind is MAX_SHARPE:
        if riskless_mean(drawn.problem) <= 0.0:
            verdict.wrong.append("no book without risk has a positive mean")
        verdict.oracle = "agrees"
    elif solution.status is Status.VANISHING:
        nothing = np.zeros(drawn.problem.size)
        if drawn.problem.costs.impact is None or largest_violation(drawn.problem, nothing) > 0.0:
            verdict.wrong.append("no smaller book is better")
        verdict.oracle = "agrees"
    elif solution.status is Status.RUIN:
        if survivable(drawn.problem):
            verdict.wrong.append("a book survives every scenario")
        verdict.oracle = "agrees"
    elif solution.status is not Status.INFEASIBLE and drawn.feasible is None:
        verdict.note += ", too close to call"
    elif solution.status is not Status.INFEASIBLE or drawn.feasible:
        verdict.wrong.append("a portfolio exists" if drawn.feasible else "not seen as infeasible")
    elif drawn.explained:
        verdict.wrong += objections(drawn.problem, explain(drawn.problem))
    return verdict


def _compare(verdict: Verdict, weights: Array, proof: Certificate) -> None:
    """Fill in the certificate and the oracle's opinion of optimal weights."""
    problem = verdict.drawn.problem
    verdict.certified, verdict.proven = proof.is_optimal, proof.gap_relative
    if not proof.is_optimal:
        verdict.wrong.append(
            f"no certificate: gap {proof.gap_relative:.1e}, violation {proof.primal_residual:.1e},"
            f" dual {proof.dual_residual:.1e}, complementarity {proof.complementarity:.1e}"
        )
    if problem.objective.kind is ObjectiveKind.RISK_BUDGET:
        return
    sharpe = problem.objective.kind is MAX_SHARPE
    value = objective_value(problem, weights)
    touching = tangent(problem, weights, value if sharpe else None)
    scale = touching.scale * touching.reach
    size = max(abs(value), 1e-12) if sharpe else size_of(problem.objective.kind, value)
    other = best_weights(problem, scale, value if sharpe else None)
    if other is None:
        verdict.oracle = "failed"
    elif largest_violation(problem, other) > ALLOWED * max(1.0, float(np.abs(other).max())):
        verdict.oracle = "broke limits"
    else:
        sign = 1.0 if problem.objective.kind.maximised else -1.0
        gap = max(sign * (objective_value(problem, other) - value) / size, 0.0)
        if gap > AGREED and proof.is_optimal and largest_violation(problem, other) > EXACT:
            verdict.oracle = "broke limits"  # and is better by that: ours is proven
        else:
            verdict.gap, verdict.oracle = gap, "agrees" if gap <= AGREED else "better"
    if verdict.gap is not None and verdict.gap > AGREED:
        best = certify_weights(problem, other, None) if other is not None else None
        verdict.wrong.append(
            f"the oracle is better by {verdict.gap:.1e} (proven gap {proof.gap_relative:.1e},"
            f" the oracle's violation {best.primal_residual if best else 0.0:.1e})"
        )


def _refused(verdict: Verdict) -> None:
    """No positive mean: the best mean that the oracle finds must not be positive."""
    problem = verdict.drawn.problem
    if problem.objective.kind is not MAX_SHARPE:
        verdict.wrong.append("no ratio was asked for")
        return
    size = float(np.abs(ProblemData(problem).mean).max())
    other = best_weights(problem, size, 0.0)
    if other is not None and largest_violation(problem, other) <= ALLOWED:
        if objective_value(problem, other) > 1e-6:
            verdict.wrong.append(f"a Sharpe ratio of {objective_value(problem, other):.1e} exists")
        verdict.oracle = "agrees"


def _about(verdict: Verdict) -> str:
    kind, problem = verdict.drawn.problem.objective.kind, verdict.drawn.problem
    features = ", ".join(verdict.drawn.features)
    return f"{verdict.status} {kind.name} n={_size(problem)} ({features}) {verdict.note}"


def _size(problem: Problem) -> str:
    return f"{problem.size}, T={0 if problem.scenarios is None else len(problem.scenarios)}"


def report(verdicts: list[Verdict], seconds: float) -> str:
    """The counts as Markdown."""
    solved = [v for v in verdicts if v.status == Status.OPTIMAL.name]
    compared = [v.gap for v in solved if v.gap is not None]
    oracle = Counter(v.oracle for v in solved)
    gaps = np.array([*compared, 0.0])
    proven = np.array([v.proven for v in solved if v.proven is not None] + [0.0])
    infeasible = [v for v in verdicts if v.drawn.feasible is False]
    found = sum(v.status == Status.INFEASIBLE.name for v in infeasible)
    settled = sum(v.certified or v.oracle == "agrees" for v in solved)
    first, last = verdicts[0].drawn.seed, verdicts[-1].drawn.seed
    rows = [
        ("problems", f"{len(verdicts)}, seeds {first} to {last}, {seconds:.0f} s"),
        ("solved", f"{len(solved)}"),
        ("certified (gap, residuals <= 1e-8)", f"{sum(v.certified for v in solved)}"),
        ("optimal claimed without certificate", f"{sum(not v.certified for v in solved)}"),
        ("compared with Clarabel or HiGHS", f"{len(compared)}"),
        ("of these no better than ours by 1e-8", f"{int((gaps[:-1] <= AGREED).sum())}"),
        ("of these better by 1e-6", f"{int((gaps[:-1] > NEVER).sum())}"),
        ("worst gap to the oracle", f"{gaps.max():.1e}"),
        ("worst proven gap", f"{proven.max():.1e}"),
        ("settled by either", f"{settled} of {len(solved)}"),
        ("oracle failed / broke limits by 1e-9", f"{oracle['failed']} / {oracle['broke limits']}"),
        ("infeasible, recognised", f"{found} of {len(infeasible)}"),
        ("no positive mean, refused", f"{_count(verdicts, Status.NONPOSITIVE_MEAN)}"),
        ("wrong in any way", f"{sum(bool(v.wrong) for v in verdicts)}"),
    ]
    others = Counter(v.status for v in verdicts)
    lines = ["# Random and hostile problems", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows]
    lines += ["", "Statuses: " + ", ".join(f"{k} {n}" for k, n in sorted(others.items())) + "."]
    lines += ["", "| feature | problems | wrong |", "|---|---|---|"]
    counts: dict[str, list[bool]] = {}
    for verdict in verdicts:
        for feature in (verdict.drawn.problem.objective.kind.name, *verdict.drawn.features):
            counts.setdefault(feature, []).append(bool(verdict.wrong))
    lines += [f"| {name} | {len(bad)} | {sum(bad)} |" for name, bad in sorted(counts.items())]
    return "\n".join(lines) + "\n"


def _count(verdicts: list[Verdict], status: Status) -> int:
    return sum(verdict.status == status.name for verdict in verdicts)


if __name__ == "__main__":
    sys.exit(main())
