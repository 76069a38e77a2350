"""A bound on what other portfolios could gain that needs no box: by the objective's own curvature.

Where f(v) <= f(w) + g'd - d'Qd for d = v - w, and limits and costs carry all of the gradient g but
r, no feasible v is better by more than max_d r'd - d'Qd = 1/4 r'Q^-1 r. Of weights that nothing
bounds, or bounds a million times too far away, a linear bound says nothing; this one does.

Of growth, U(W (1 + x)) - U(W) - U'(W) W x <= -kappa W^(1 - rho) x^2 for x <= 1, with kappa = 1/4
from rho = 1 on, rho / 8 below. Concavity carries the bound beyond, if it is reached within.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compute.optimize.problem import Objective, ObjectiveKind
from compute.optimize.proof.objectives import TWINS
from compute.optimize.proof.problem_numbers import ProblemData

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Kind = ObjectiveKind

# Share of the largest eigenvalue below which a direction has no curvature.
FLAT = 1e-13
# Scenarios whose curvature is less than these shares of the largest are left out. Each choice is a
# bound: nothing is above its tangent, however far, and those left set how far the others' hold.
LEAST = (0.0, 1e-12, 1e-6)


def curved_gap(data: ProblemData, objective: Objective, weights: Vector, rest: Vector) -> float:
    """The bound for a slope `rest` [n] that nothing carries; inf where curvature says nothing."""
    if not rest.any():
        return 0.0
    return min(_bound(data, objective, weights, rest, least) for least in LEAST)


def _bound(
    data: ProblemData, objective: Objective, weights: Vector, rest: Vector, least: float
) -> float:
    matrix, reach = _curvature(data, objective, weights, least)
    # No other v differs in a weight that its bounds hold: its curvature is none of d's.
    free = data.lower < data.upper
    if rest[~free].any():
        return float("inf")
    values, vectors = np.linalg.eigh(matrix[np.ix_(free, free)])
    along = vectors.T @ rest[free]
    flat = values <= FLAT * max(float(values[-1]), 0.0)
    if np.any(np.abs(along[flat]) > 0.0) and not _nothing(along[flat], along):
        return float("inf")
    with np.errstate(over="ignore"):  # slopes of 1e160 and more bound nothing: beyond any reach
        size = float(np.sum(along[~flat] ** 2 / values[~flat]))
    return 0.25 * size if size <= reach else float("inf")


def _nothing(part: Vector, whole: Vector) -> bool:
    return bool(np.abs(part).max(initial=0.0) <= 1e-12 * np.abs(whole).max())


def _curvature(
    data: ProblemData, objective: Objective, weights: Vector, least: float
) -> tuple[Matrix, float]:
    """Q [n, n], and the largest r'Q^-1 r for which the bound holds."""
    if objective.kind is Kind.COMBINATION:
        parts = [(share, _curvature(data, term, weights, least)) for share, term in objective.terms]
        total = sum((share * part[0] for share, part in parts), np.zeros((data.size, data.size)))
        return total, min((share * part[1] for share, part in parts), default=np.inf)
    if objective.kind in TWINS:
        return TWINS[objective.kind].curvature(data, objective, weights, least)
    return np.zeros((data.size, data.size)), np.inf
