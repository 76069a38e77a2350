"""Whether new sizing parameters may make a stake larger, or accept what the old ones refused.

Sound and not complete: where nothing is named, no line's stake before the limits is larger than
under the old parameters, and no data is accepted that they refused. What can't be compared counts
as loosened: another method, objective, model, algorithm, universe or prior, and any parameter that
is not listed here.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from compute.correlation.penalty import CorrelationPenalty
from compute.parameters import (
    PARAMETERS,
    DrawdownTolerance,
    EdgeGoneAction,
    EffectiveParameters,
    RobustSet,
    Shrinkage,
)

SMALLER_IS_TIGHTER = frozenset(
    {
        "kelly_fraction",
        "drawdown_multiplier",
        "volatility_target",
        "stop_risk_max",
        "risk_budget",
        "edge_half_life_s",
        "market_age_max_s",
        "portfolio_age_max_s",
        "matrix_age_max_s",
        "fill_deviation_max",
        "price_jump_max",
        "equity_jump_max",
    }
)
"""None is no bound: the loosest."""
LARGER_IS_TIGHTER = frozenset(
    {
        "risk_free_rate",
        "cost_rate",
        "impact_coefficient",
        "drawdown_floor",
        "equity_floor",
        "reservation_ttl_s",  # shorter ones free cash and room while orders are still open
    }
)
"""None is no bound: the loosest."""
REPORTED_ONLY = frozenset({"interval_probability"})
ONLY_SMALLER = frozenset({"size_model_id", "volatility_model"})
"""What these name can only make stakes smaller: one where there was none is tighter."""


def loosened(old: EffectiveParameters, new: EffectiveParameters) -> tuple[str, ...]:
    """Names, in the contract, of the parameters by which `new` may allow more than `old`.

    Both are what is in force, every scope merged and every default filled in.
    """
    return tuple(_loosened(old, new))


def _loosened(old: EffectiveParameters, new: EffectiveParameters) -> Iterator[str]:
    for item in PARAMETERS:
        name = item.name
        if name == "correlation_penalty":
            before, after = old.penalty, new.penalty
        else:
            before, after = getattr(old, name), getattr(new, name)
        if before != after and not _is_tighter(name, before, after):
            yield item.contract_name


def _is_tighter(name: str, before: Any, after: Any) -> bool:
    """Of values that differ."""
    if name in REPORTED_ONLY:
        return True
    if name in SMALLER_IS_TIGHTER:
        return before is None or (after is not None and bool(after < before))
    if name in LARGER_IS_TIGHTER:
        return before is None or (after is not None and bool(after > before))
    if name in ONLY_SMALLER:
        return before is None
    rule = _RULES.get(name)
    return rule is not None and rule(before, after)


def _smaller_fraction(before: DrawdownTolerance | None, after: DrawdownTolerance | None) -> bool:
    """By the fraction of Kelly that a tolerance comes to."""
    if before is None or after is None:
        return before is None
    fractions = (
        EffectiveParameters(kelly_fraction=1.0, drawdown_tolerance=tolerance).fraction_chosen
        for tolerance in (before, after)
    )
    was, now = fractions
    return now <= was


def _larger_set(before: Any, after: Any) -> bool:
    """Worst cases over a larger set of edges of the same kind are no better."""
    if before is None or before.is_certain or before == after:
        return True
    if after is None or RobustSet.UNCORRELATED in (before.kind, after.kind):
        return False
    return bool(after.kind == before.kind and after.radius >= before.radius)


_RULES: Mapping[str, Callable[[Any, Any], bool]] = {
    "drawdown_tolerance": _smaller_fraction,
    "robust": _larger_set,
    "confidence_shrinkage": lambda before, after: before is Shrinkage.NONE,
    "correlation_penalty": lambda before, after: before is CorrelationPenalty.NONE,
    "edge_gone_action": lambda before, after: before is EdgeGoneAction.ALERT,
    # Of several rows or rules that hold, the smallest multiplier counts: more of them are tighter.
    "schedule": lambda before, after: set(before.rows) <= set(after.rows),
    "condition_rules": lambda before, after: set(before) <= set(after),
}
