"""Money divided over time among strategies, by what they made: no model, and a bound on the regret.

    wealth       as much as each has made: never more than ln N behind the best in log wealth
    fixed share  the same, a share of the money divided anew each period: it follows a best that
                 changes (Herbster and Warmuth 1998)
    universal    the mean over all constant mixtures of what each would have made (Cover 1991)

What a period is divided by is known before it: changing later returns changes no earlier weight.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import roots_jacobi

from compute.market import Floats
from compute.optimize.time_limit import checkpoint

_POLISH = 20


@dataclass(frozen=True)
class Divided:
    """weights: at the beginning of each of T periods and of the next, (T + 1, N), each of sum 1;
    log_wealth: of the mixture after each, (T,)."""

    weights: Floats
    log_wealth: Floats


def by_wealth(relatives: Floats, share: float = 0.0) -> Divided:
    """Mixture of N strategies whose money is multiplied by `relatives` (T, N) > 0.

    share: of the money, in each period, that is divided evenly anew; 0: none. Without it the wealth
    is the mean of the strategies' wealths, so at most ln N behind the best.
    """
    t, n = relatives.shape
    weights, made = np.empty((t + 1, n)), np.empty(t)
    weights[0] = 1.0 / n
    for period, factor in enumerate(relatives):
        held = weights[period] * factor
        made[period] = held.sum()
        weights[period + 1] = (1.0 - share) * held / made[period] + share / n
    return Divided(weights, np.cumsum(np.log(made)))


def node_count(periods: int, strategies: int) -> int:
    """Mixtures that `universal` goes through for an exact integral."""
    return int((periods // 2 + 2) ** (strategies - 1))


def universal(relatives: Floats, concentration: float = 1.0) -> Divided:
    """Cover's universal portfolio of N: the mean wealth of all constant mixtures b.

    b is from a symmetric Dirichlet distribution of `concentration` (1: even; 1/2:
    Krichevsky-Trofimov). relatives: (T, N) > 0. With b_1 = u_1, b_2 = (1 - u_1) u_2 and so on the
    u are independent and Beta distributed, wealth is a polynomial of degree T in each u, and b
    times it one of T + 1, which Gauss-Jacobi quadrature of T // 2 + 2 nodes for each integrates
    exactly; nodes are kept in logs, since they part by many powers of ten. It falls behind the best
    constant mixture by at most (N - 1) ln(T + 1) / 2 + ln 2 with 1/2 (Cover and Ordentlich 1996),
    and (N - 1) ln(T + 1) with 1.
    """
    t, n = relatives.shape
    b, log_mass = _mixtures(t // 2 + 2, n, concentration)
    logs = np.zeros(len(b))
    weights, total = np.empty((t + 1, n)), np.empty(t + 1)
    for period in range(t + 1):
        checkpoint()
        joint = log_mass + logs
        top = joint.max()
        each = np.exp(joint - top)
        total[period] = top + np.log(each.sum())
        weights[period, :-1] = each @ b[:, :-1] / each.sum()
        weights[period, -1] = 1.0 - weights[period, :-1].sum()
        if period < t:
            logs += np.log(b @ relatives[period])
    return Divided(weights, total[1:])


def _mixtures(nodes: int, n: int, concentration: float) -> tuple[Floats, Floats]:
    """Mixtures of N by product quadrature, (nodes^(N-1), N), and ln of their masses."""
    left, log_mass = np.ones(1), np.zeros(1)
    parts: list[Floats] = []
    for others in range(n - 1, 0, -1):
        x, mass = roots_jacobi(nodes, others * concentration - 1.0, concentration - 1.0)
        u, log_u = 0.5 * (x + 1.0), np.log(mass / mass.sum())
        parts = [np.repeat(part, nodes) for part in parts]
        parts.append((left[:, None] * u).ravel())
        left = (left[:, None] * (1.0 - u)).ravel()
        log_mass = (log_mass[:, None] + log_u).ravel()
    return np.stack([*parts, left], axis=1), log_mass


def best_mixture(relatives: Floats) -> tuple[Floats, float]:
    """The constant mixture of N that made most, (N,), and its log wealth: known only afterwards."""
    n = relatives.shape[1]
    if n == 2:
        b, made = best_constant(relatives)
        return np.array([b, 1.0 - b]), made

    def loss(b: Floats) -> tuple[float, Floats]:
        wealth = relatives @ b
        return -float(np.log(wealth).mean()), -(relatives / wealth[:, None]).mean(axis=0)

    found = minimize(
        loss,
        np.full(n, 1.0 / n),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * n,
        constraints={"type": "eq", "fun": lambda b: b.sum() - 1.0, "jac": np.ones_like},
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    weights = np.clip(found.x, 0.0, None)
    for _ in range(_POLISH):  # each step of Cover (1984) only gains
        weights = weights * (relatives / (relatives @ weights)[:, None]).mean(axis=0)
    weights /= weights.sum()
    return weights, float(np.log(relatives @ weights).sum())


def best_constant(relatives: Floats) -> tuple[float, float]:
    """The share b of the first of two whose constant mixture made most, and its log wealth.

    Known only afterwards. Log wealth is concave in b: its slope falls, and is halved in on.
    """
    difference = relatives[:, 0] - relatives[:, 1]

    def slope(b: float) -> float:
        return float((difference / (relatives[:, 1] + b * difference)).sum())

    low, high = 0.0, 1.0
    if slope(low) <= 0.0:
        high = low
    elif slope(high) >= 0.0:
        low = high
    while high - low > 1e-15:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if slope(middle) > 0.0 else (low, middle)
    b = 0.5 * (low + high)
    return b, float(np.log(relatives[:, 1] + b * difference).sum())


def trading_costs(divided: Divided, relatives: Floats, cost_rate: float) -> Floats:
    """Log of what is left of the money after `cost_rate` of what is traded to come to each period's
    weights, (T,); the first division costs nothing, and neither does what lies still."""
    held = divided.weights[:-1] * relatives
    drifted = held / held.sum(axis=1, keepdims=True)
    traded = np.abs(divided.weights[1:] - drifted).sum(axis=1)
    left: Floats = np.log1p(-cost_rate * traded)
    return left
