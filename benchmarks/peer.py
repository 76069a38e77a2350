"""What a peer is given and what it must return, and the list of peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.reference_format import Reference
from compute.optimize.problem import Problem

Array = Any
# Solves the task it was made for: the part of the work that is timed.
Call = Callable[[], Array]


@dataclass(frozen=True)
class Task:
    """One reference problem as plain arrays, so every peer reads the same numbers.

    Infinite or zero where the problem says nothing; `sectors` is [K, n] or None.
    """

    code: str
    reference: Reference
    problem: Problem
    size: int
    returns: Array
    mean: Array
    covariance: Array
    lower: Array
    upper: Array
    budget_min: float
    budget_max: float
    sectors: Array | None
    sector_max: Array
    holdings: Array
    cost: Array
    aversion: float
    tail: float
    cdar_max: float
    exponent: float


def task_of(reference: Reference, problem: Problem | None = None) -> Task:
    """The task of a reference, or of a variation of its problem."""
    problem = problem or reference.problem
    limits, size = problem.limits, problem.size
    rows, risk = limits.rows, limits.drawdown_risk

    def or_else(value: Array, default: float) -> Array:
        return np.full(size, default) if value is None else value

    return Task(
        code=code_of(reference),
        reference=reference,
        problem=problem,
        size=size,
        returns=problem.scenarios,
        mean=problem.mean,
        covariance=problem.covariance,
        lower=or_else(limits.lower, -np.inf),
        upper=or_else(limits.upper, np.inf),
        budget_min=-np.inf if limits.budget_min is None else limits.budget_min,
        budget_max=np.inf if limits.budget_max is None else limits.budget_max,
        sectors=None if rows is None else rows.matrix,
        sector_max=np.zeros(0) if rows is None else rows.row_max,
        holdings=or_else(problem.holdings, 0.0),
        cost=or_else(problem.costs.linear, 0.0),
        aversion=problem.objective.risk_aversion,
        tail=problem.objective.tail if limits.cdar_max is None else limits.cdar_tail,
        cdar_max=np.inf if limits.cdar_max is None else limits.cdar_max,
        exponent=0.0 if risk is None else risk.exponent,
    )


# name -> (codes it can solve, maker of the call)
PEERS: dict[str, tuple[frozenset[str], Callable[[Task], Call]]] = {}


def peer(name: str, codes: str) -> Callable[[Callable[[Task], Call]], Callable[[Task], Call]]:
    """Register a peer under the problem codes (P1, P2, ...) it can solve."""

    def register(make: Callable[[Task], Call]) -> Callable[[Task], Call]:
        PEERS[name] = (frozenset(codes.split()), make)
        return make

    return register


def code_of(reference: Reference) -> str:
    """P1 ... P8 of a reference, with what follows for P7."""
    short = reference.kind.upper()
    if short.startswith("P7"):
        return "P7_" + short[3:].lower() if len(short) > 3 else "P7_maxret_cdar"
    return short.split("_")[0]
