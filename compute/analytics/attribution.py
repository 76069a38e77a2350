"""Attribution of a return against a benchmark by group, over several periods (Brinson and Fachler).

For weights w, w' of portfolio and benchmark in a group, c its contribution to the portfolio's
return, r' the benchmark's return in the group and R' in all,

    allocation = (w - w') (r' - R'),    selection = c - w r'

(selection with interaction), whose sum over groups is R - R' where both weights add up to the
same. A group that the benchmark does not hold has r' = R'. Periods are linked by Carino (1999):
effects of period t count k_t / k times,

    k_t = (ln(1 + R_t) - ln(1 + R'_t)) / (R_t - R'_t),    k the same of the compounded returns

so that linked effects add up to the difference of compounded returns.
"""

from dataclasses import dataclass

import numpy as np

from compute.market import Floats


@dataclass(frozen=True)
class Attribution:
    """allocation, selection: linked, (groups,). portfolio, benchmark: compounded returns."""

    allocation: Floats
    selection: Floats
    portfolio: float
    benchmark: float


def attribution(
    weight: Floats, contribution: Floats, benchmark_weight: Floats, benchmark_contribution: Floats
) -> Attribution | None:
    """Attribution over periods and groups, (periods, groups) each; weights add up to 1 in each.

    contribution: weight times return, summed over the instruments of a group. None where either
    lost everything in a period: its logarithm says no more.
    """
    total, reference = contribution.sum(axis=1), benchmark_contribution.sum(axis=1)
    if not len(total) or (total <= -1.0).any() or (reference <= -1.0).any():
        return None
    held = benchmark_weight != 0.0
    moved = np.where(
        held, benchmark_contribution / np.where(held, benchmark_weight, 1.0), reference[:, None]
    )
    allocation = (weight - benchmark_weight) * (moved - reference[:, None])
    selection = contribution - weight * moved
    portfolio = float(np.expm1(np.log1p(total).sum()))
    benchmark = float(np.expm1(np.log1p(reference).sum()))
    whole = slope(np.array([portfolio]), np.array([benchmark]))[0]
    share = (slope(total, reference) / whole)[:, None]
    return Attribution(
        (share * allocation).sum(axis=0), (share * selection).sum(axis=0), portfolio, benchmark
    )


def slope(returns: Floats, reference: Floats) -> Floats:
    """(ln(1 + R) - ln(1 + R')) / (R - R'), 1 / (1 + R) where they are equal: what links periods."""
    apart = returns - reference
    # log1p of the ratio keeps its digits where the two are close.
    logs = np.log1p(apart / (1.0 + reference))
    same = apart == 0.0
    return np.where(same, 1.0 / (1.0 + returns), logs / np.where(same, 1.0, apart))
