"""Limits on the risk of a book that nobody sizes: volatility, value at risk, tails, drawdown.

Measured as final lots are (`book_guard.py`), one limit at a time, by a stored covariance: what that
tells is looked at. What needs scenarios is not, as only requests name them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compute.limits.book_guard import (
    MEASURED,
    OF_COVARIANCE,
    BookGuard,
    ReturnData,
    Rule,
    kind_of_tail,
    rules_of,
)
from compute.limits.breaches import Breach
from compute.limits.guard import Guard
from compute.limits.policy import JointLimits, LimitKind, Limits
from compute.limits.tail_measures import limit_path
from compute.market import Market, Positions
from compute.risk.tail_method import TailMethod


@dataclass(frozen=True)
class RiskLimit:
    """One limit on the risk of a whole book.

    path: as errors name it. needs_scenarios: whether a covariance doesn't tell. alone: the joint
    limits without all others of its kind.
    """

    kind: LimitKind
    name: str
    path: str
    needs_scenarios: bool
    alone: JointLimits


def risk_limits(joint: JointLimits) -> Iterator[RiskLimit]:
    """Each of the limits on risk by itself."""
    nothing = JointLimits(
        var_level=joint.var_level, cvar_level=joint.cvar_level, cdar_level=joint.cdar_level
    )
    for name, kind in MEASURED.items():
        if (bound := getattr(joint, name)) is not None:
            alone = replace(nothing, **{name: bound})
            if kind is LimitKind.DRAWDOWN_RISK:
                alone = replace(alone, wealth_floor_probability=joint.wealth_floor_probability)
            yield RiskLimit(kind, "portfolio", f"joint.{name}", name not in OF_COVARIANCE, alone)
    for tail in joint.tails:
        needs_scenarios = tail.method is not TailMethod.NORMAL
        alone = replace(nothing, tails=(tail,))
        yield RiskLimit(kind_of_tail(tail), tail.name, limit_path(tail), needs_scenarios, alone)


def risk_rules(
    limit: RiskLimit, market: Market, positions: Positions, data: ReturnData
) -> list[Rule]:
    """A limit as rules of a book. Raises `MissingInputError` where the data can't tell."""
    nothing = np.zeros(0, dtype=np.int64)
    return rules_of(market, positions, Limits(joint=limit.alone), nothing, data)


def risk_breaches(guard: Guard, rules: Sequence[Rule]) -> list[Breach]:
    """The rules that the guard's book is beyond with all that is reserved filled."""
    if not rules or not guard.equity > 0.0:
        return []
    book = BookGuard(guard.market, guard.positions, list(rules))
    return [
        Breach(found.kind, found.name, found.bound, found.value)
        for found in book.beyond(book.before)
    ]
