"""What sizing itself earned: the weights of each stage against what came, and against other sizes.

    G(f) = sum_t log(1 + f_t' r_t)

over decisions t, with the weights f_t that a stage of the waterfall gave them and the returns r_t
until the next decision. Differences between stages add up exactly (`growth_by_stage`); a paired
difference per decision with a bootstrap interval says how sure one can be (`against`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compute.market import Floats
from compute.simulate.bootstrap import Interval, mean_interval


@dataclass(frozen=True)
class Outcome:
    """One decision and what came of its lines.

    stages: weight after each stage, (stages, n), the last of the final lots; side: +1 or -1, (n,);
    simple_return: of each instrument in the base currency until the next decision, (n,).
    """

    stages: Floats
    side: Floats
    simple_return: Floats


@dataclass(frozen=True)
class Counterfactual:
    """Another way to size the same decisions.

    growth: G of it; None where it would have been ruined. difference: log growth a decision of what
    was chosen less this, over the decisions that both survive.
    """

    name: str
    growth: float | None
    difference: Interval


def growth_by_stage(outcomes: Sequence[Outcome]) -> Floats:
    """G of each stage, (stages,); -inf where its weights would have been ruined."""
    return np.array([_log_wealth(outcome.stages, outcome) for outcome in outcomes]).sum(axis=0)


def chosen_growth(outcomes: Sequence[Outcome]) -> Floats:
    """Log growth of each decision at the weights chosen, (n,); -inf after ruin."""
    return np.array([_log_wealth(outcome.stages[-1:], outcome)[0] for outcome in outcomes])


def other_growth(outcomes: Sequence[Outcome]) -> dict[str, Floats]:
    """Log growth of each decision at other sizes, (n,) each; -inf after ruin.

    Nothing, full and half Kelly, and equal: every line at the mean absolute weight that was chosen,
    on the side of its signal.
    """
    sizes = [np.abs(outcome.stages[-1]) for outcome in outcomes]
    mean = float(np.mean(np.concatenate(sizes))) if sizes else 0.0
    ways: dict[str, list[Floats]] = {
        "nothing": [np.zeros(len(outcome.side)) for outcome in outcomes],
        "full Kelly": [outcome.stages[0] for outcome in outcomes],
        "half Kelly": [0.5 * outcome.stages[0] for outcome in outcomes],
        "equal": [mean * outcome.side for outcome in outcomes],
    }
    return {
        name: np.array(
            [
                _log_wealth(w[None, :], outcome)[0]
                for w, outcome in zip(weights, outcomes, strict=True)
            ]
        )
        for name, weights in ways.items()
    }


def against(outcomes: Sequence[Outcome]) -> list[Counterfactual]:
    """What was chosen against nothing, full and half Kelly, and equal sizes (`other_growth`)."""
    chosen = chosen_growth(outcomes)
    found = []
    for name, other in other_growth(outcomes).items():
        alive = np.isfinite(other) & np.isfinite(chosen)
        growth = float(other.sum()) if np.isfinite(other).all() else None
        found.append(Counterfactual(name, growth, mean_interval(chosen[alive] - other[alive])))
    return found


def best_constant_multiple(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """The multiple m >= 0 of the chosen weights with the largest G, and that G: hindsight.

    Nobody could have known it; the difference to 1 is regret, not advice. G is concave in m, so a
    bisection on its slope finds it; at most 100.
    """
    moves = np.array([float(outcome.stages[-1] @ outcome.simple_return) for outcome in outcomes])
    worst = float(moves.min(initial=0.0))
    high = min(100.0, (1.0 - 1e-9) / -worst) if worst < 0.0 else 100.0
    low = 0.0
    if not moves.any() or float(moves.sum()) <= 0.0:
        return 0.0, 0.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if float((moves / (1.0 + middle * moves)).sum()) > 0.0:
            low = middle
        else:
            high = middle
    return low, float(np.log1p(low * moves).sum())


def _log_wealth(weights: Floats, outcome: Outcome) -> Floats:
    """log(1 + w'r) of each row of weights; -inf where nothing is left."""
    wealth = 1.0 + weights @ outcome.simple_return
    with np.errstate(divide="ignore"):
        logs: Floats = np.log(np.maximum(wealth, 0.0))
    return logs
