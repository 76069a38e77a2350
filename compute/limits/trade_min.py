"""The smallest trade worth making: in money, or as a change of weight (no-trade band)."""

from dataclasses import dataclass

from compute.limits.policy import LimitKind, Limits


@dataclass(frozen=True)
class TradeMin:
    """The tighter of both bounds: as a weight and in base currency, 0 where there is none.

    kind, bound: the limit that says so and its bound as stated.
    """

    weight: float
    notional: float
    kind: LimitKind
    bound: float


def trade_min_of(limits: Limits, scale: float) -> TradeMin:
    """`scale`: money that a weight of 1 stands for."""
    notional, weight = limits.trade_notional_min or 0.0, limits.trade_weight_min or 0.0
    if weight * scale > notional:
        return TradeMin(weight, weight * scale, LimitKind.TRADE_WEIGHT_MIN, weight)
    return TradeMin(notional / scale, notional, LimitKind.TRADE_NOTIONAL_MIN, notional)
