"""Entropy pooling: the probabilities nearest to the prior under which views hold.

    min sum q ln(q / p)   s.t.   G q = g (or <=, >=),  sum q = 1

Meucci 2008, "Fully flexible views". The dual has one unknown a view: q_s ~ p_s exp(l' G_s).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog, minimize
from scipy.special import logsumexp

from compute.history import Floats
from compute.optimize.time_limit import checkpoint


class InfeasibleViewError(ValueError):
    """No probabilities on these scenarios satisfy the views; `view` is the place of one."""

    def __init__(self, view: int, text: str) -> None:
        super().__init__(text)
        self.view = view


@dataclass(frozen=True)
class View:
    """E[values] under q is within [low, high]; both the same for an equality."""

    values: Floats
    low: float
    high: float


@dataclass(frozen=True)
class Pooled:
    """Probabilities q (K,), relative entropy in nats, and effective scenarios exp(H(q)) / K."""

    probability: Floats
    entropy: float
    effective_share: float
    multipliers: Floats


def pooled(prior: Floats, views: list[View]) -> Pooled:
    """Pools views on K scenarios. Raises `InfeasibleViewError`: the first view that can't hold."""
    if not views:
        return _pooled(prior, prior, np.zeros(0))
    rows, targets, owners, bounds = _rows(views)
    if not len(rows):
        return _pooled(prior, prior, np.zeros(0))
    _check_feasible(prior, views)
    # Scaled rows make one step size fit all views.
    middle = rows @ prior
    scale = np.maximum(np.sqrt((rows - middle[:, None]) ** 2 @ prior), 1e-300)
    shaped = (rows - targets[:, None]) / scale[:, None]
    log_prior = np.log(prior)

    def dual(x: Floats) -> tuple[float, Floats]:
        checkpoint()
        exponent = log_prior + x @ shaped
        total = float(logsumexp(exponent))
        return total, shaped @ np.exp(exponent - total)

    options = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-12}
    start = np.zeros(len(rows))
    found = minimize(dual, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    x = _polished(found.x, shaped, log_prior, bounds)
    exponent = log_prior + x @ shaped
    q = np.exp(exponent - logsumexp(exponent))
    reached = shaped @ q
    free = np.array([low is None and high is None for low, high in bounds])
    wrong = np.where(free, np.abs(reached), np.maximum(reached * _sign(bounds), 0.0))
    if wrong.max() > 1e-6:
        view = owners[int(wrong.argmax())]
        raise InfeasibleViewError(view, "is at the edge of what the scenarios allow")
    return _pooled(q, prior, x / scale)


def _rows(views: list[View]) -> tuple[Floats, Floats, list[int], list[tuple[float | None, ...]]]:
    """Rows of the dual; a multiplier of an upper bound is <= 0, of a lower bound >= 0."""
    rows, targets, owners = [], [], []
    bounds: list[tuple[float | None, ...]] = []
    sides: list[tuple[float, tuple[float | None, ...]]]
    for place, view in enumerate(views):
        if view.low == view.high:
            sides = [(view.low, (None, None))]
        else:
            sides = [(view.low, (0.0, None)), (view.high, (None, 0.0))]
        for target, bound in sides:
            if np.isfinite(target):
                rows.append(view.values)
                targets.append(target)
                owners.append(place)
                bounds.append(bound)
    return np.array(rows).reshape(-1, len(views[0].values)), np.array(targets), owners, bounds


def _sign(bounds: list[tuple[float | None, ...]]) -> Floats:
    """+1 where a row may not exceed its target, -1 where it may not fall short of it."""
    return np.array([1.0 if high == 0.0 else -1.0 for _, high in bounds])


def _polished(
    x: Floats, rows: Floats, log_prior: Floats, bounds: list[tuple[float | None, ...]]
) -> Floats:
    """Newton steps on the multipliers that are not at their bound."""
    active = np.array(
        [(b[0] is None and b[1] is None) or v != 0.0 for b, v in zip(bounds, x, strict=True)]
    )
    if not active.any():
        return x
    for _ in range(20):
        checkpoint()
        exponent = log_prior + x @ rows
        q = np.exp(exponent - logsumexp(exponent))
        gradient = rows @ q
        hessian = (rows * q) @ rows.T - np.outer(gradient, gradient)
        part = np.ix_(active, active)
        step = np.linalg.lstsq(hessian[part], gradient[active], rcond=1e-12)[0]
        if np.abs(gradient[active]).max() < 1e-14:
            break
        moved = x.copy()
        moved[active] -= step
        exponent = log_prior + moved @ rows
        reached = rows @ np.exp(exponent - logsumexp(exponent))
        if not np.abs(reached[active]).max() < np.abs(gradient[active]).max():
            break
        x = moved
    return x


def _check_feasible(prior: Floats, views: list[View]) -> None:
    """Adds views one by one and names the first that contradicts those before it."""
    for count in range(1, len(views) + 1):
        checkpoint()
        upper = [(v.values, v.high) for v in views[:count] if v.low != v.high and v.high < np.inf]
        upper += [(-v.values, -v.low) for v in views[:count] if v.low != v.high and v.low > -np.inf]
        equal = [(v.values, v.low) for v in views[:count] if v.low == v.high]
        found = linprog(
            np.zeros(len(prior)),
            A_ub=np.array([row for row, _ in upper]) if upper else None,
            b_ub=[bound for _, bound in upper] or None,
            A_eq=np.vstack([np.ones(len(prior)), *(row for row, _ in equal)]),
            b_eq=[1.0, *(bound for _, bound in equal)],
            bounds=(0.0, None),
            method="highs",
        )
        if found.status != 0:
            view = views[count - 1]
            low, high = float(view.values.min()), float(view.values.max())
            text = (
                f"can't hold with those before it: the scenarios reach from {low:.6g} to {high:.6g}"
            )
            raise InfeasibleViewError(count - 1, text)


def _pooled(q: Floats, prior: Floats, multipliers: Floats) -> Pooled:
    some = q > 0.0
    entropy = float(q[some] @ np.log(q[some] / prior[some]))
    share = float(np.exp(-(q[some] @ np.log(q[some]))) / len(q))
    return Pooled(q, max(entropy, 0.0), share, multipliers)
