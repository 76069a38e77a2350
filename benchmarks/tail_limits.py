"""What the joint method takes inside a tail limit by a named method, in processor time.

    .venv/bin/python -m benchmarks.tail_limits [--sizes 10x256 50x500]

Full Kelly on scenarios of Student t, long only, one tail limit of 1 % at 97 %. Each problem is
solved once before it counts, so that nothing is compiled. Beside the time: how many problems were
solved on the way, and what those alone took.
"""

import argparse
import time

import numpy as np

from compute.joint.tail_cuts import bounded_tails, solve_within
from compute.limits.policy import TailLimit
from compute.market import Floats
from compute.optimize import solve
from compute.optimize.problem import Limits, Objective, ObjectiveKind, Problem, Solution
from compute.risk.tail_method import TailKind, TailMethod

METHODS = (TailMethod.STUDENT, TailMethod.FILTERED_HISTORICAL)
# Bets of so heavy tails are mostly outside the domain of the Cornish-Fisher expansion.


def scenarios(rng: np.random.Generator, n_names: int, n_scenarios: int) -> Floats:
    """Student t of five degrees with one factor, and a mean."""
    root = np.linalg.cholesky(0.7 * np.eye(n_names) + 0.3)
    mixed = np.sqrt(5.0 / rng.chisquare(5.0, n_scenarios))[:, None]
    drawn: Floats = 0.01 * mixed * (rng.standard_normal((n_scenarios, n_names)) @ root.T)
    return drawn + rng.uniform(0.0, 2e-3, n_names)


class Timed:
    """The joint solver, and the processor seconds of each call."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, problem: Problem) -> Solution:
        """Solves."""
        began = time.process_time()
        found = solve(problem)
        self.seconds.append(time.process_time() - began)
        return found


def main() -> None:
    """Prints a line a problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["10x256", "50x500"])
    for size in parser.parse_args().sizes:
        n, k = map(int, size.split("x"))
        limits = Limits(lower=np.zeros(n), upper=np.full(n, 0.5), budget_max=1.0)
        returns = scenarios(np.random.default_rng(1), n, k)
        problem = Problem(Objective(ObjectiveKind.LOG_GROWTH), limits=limits, scenarios=returns)
        for method in METHODS:
            for kind in TailKind:
                tails = bounded_tails(problem, [TailLimit(kind, method, 0.01, 0.97)])
                solve_within(problem, tails, Timed())
                timed, began = Timed(), time.process_time()
                solve_within(problem, tails, timed)
                took = time.process_time() - began
                print(
                    f"{size} {method.name} {kind.name}: {took:.2f} s, "
                    f"{len(timed.seconds)} problems in {sum(timed.seconds):.2f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
