"""The limits of the whole book, read from the contract in plain Python, one by one.

Nothing here is shared with the pipeline or with its guard but the data types.
"""

from collections.abc import Iterator, Sequence
from math import fsum, log, sqrt
from statistics import NormalDist

import numpy as np

from compute.limits.policy import JointLimits
from compute.market import Market, Positions

ROUNDING = 1e-9


def risks(
    weights: Sequence[float],
    scenarios: np.ndarray | None,
    covariance: np.ndarray | None,
    joint: JointLimits,
    cash_return: float = 0.0,
) -> dict[str, float]:
    """Every measure that a limit speaks of, for scenarios that are equally likely."""
    w = [float(x) for x in weights]
    if scenarios is None:
        assert covariance is not None
        square = fsum(w[i] * w[j] * covariance[i, j] for i in range(len(w)) for j in range(len(w)))
        volatility = sqrt(max(square, 0.0))
        level = joint.var_level or 0.95
        return {"volatility": volatility, "var": NormalDist().inv_cdf(level) * volatility}
    x = [fsum(r * v for r, v in zip(row, w, strict=True)) for row in scenarios.tolist()]
    mean = fsum(x) / len(x)
    volatility = sqrt(fsum((v - mean) ** 2 for v in x) / (len(x) - 1)) if len(x) > 1 else 0.0
    out = {
        "volatility": volatility,
        "var": NormalDist().inv_cdf(joint.var_level or 0.95) * volatility - mean,
        "cvar": _tail([-v for v in x], joint.cvar_level or 0.95),
    }
    level, peak, depths = 0.0, 0.0, []
    for v in x:
        level += v
        peak = max(peak, level)
        depths.append(peak - level)
    out["cdar"] = _tail(depths, joint.cdar_level or 0.95)
    if joint.wealth_floor is not None and joint.wealth_floor_probability is not None:
        power = log(joint.wealth_floor_probability) / log(joint.wealth_floor)
        wealth = [1.0 + cash_return * (1.0 - fsum(map(abs, w))) + v for v in x]
        out["floor"] = (
            log(fsum(v**-power for v in wealth) / len(wealth)) if min(wealth) > 0.0 else np.inf
        )
    return out


def _tail(losses: list[float], level: float) -> float:
    """Mean of the worst 1 - level of losses that are equally likely."""
    left = (1.0 - level) * len(losses)
    mass, total = left, 0.0
    for loss in sorted(losses, reverse=True):
        part = min(1.0, left)
        total += part * loss
        left -= part
        if left <= 0.0:
            break
    return total / mass


def book_breaches(
    market: Market,
    positions: Positions,
    joint: JointLimits,
    trade: np.ndarray,
    scenarios: np.ndarray | None = None,
    covariance: np.ndarray | None = None,
    cash_return: float = 0.0,
    risk_budget: float | None = None,
) -> Iterator[str]:
    """A sentence for each limit that a trade (m,) in units breaks; matrices in market's order."""
    equity = positions.cash + float(market.price @ positions.held)
    before = market.price * (positions.held + positions.open_buy - positions.open_sell) / equity
    after = before + market.price * trade / equity
    if scenarios is not None or covariance is not None:
        was = risks(before, scenarios, covariance, joint, cash_return)
        now = risks(after, scenarios, covariance, joint, cash_return)
        for name, bound in (
            ("volatility", joint.volatility_max),
            ("var", joint.var_max),
            ("cvar", joint.cvar_max),
            ("cdar", joint.cdar_max),
            ("floor", None if joint.wealth_floor is None else 0.0),
        ):
            if bound is not None:
                slack = ROUNDING * (bound or 1.0)
                if now[name] > max(bound, was[name]) + slack:
                    yield f"{name}: {now[name]!r} is above {bound!r}, and was {was[name]!r}"
    buy, sell = (
        market.price * positions.open_buy / equity,
        market.price * positions.open_sell / equity,
    )
    for row in joint.linear:
        yield from _row(market, row, before, after, buy, sell)
    if risk_budget is not None:
        assert market.volatility is not None
        was, now = (
            fsum(
                s * max(abs(v + o), abs(v - b))
                for s, v, o, b in zip(market.volatility, w, sell, buy, strict=True)
            )
            for w in (before, after)
        )
        if now > max(risk_budget, was) * (1 + ROUNDING):
            yield f"risk budget: {now!r} is above {risk_budget!r}, and was {was!r}"


def _row(market, row, before, after, buy, sell) -> Iterator[str]:  # type: ignore[no-untyped-def]
    if row.soft_price is not None:
        return
    c = [row.coefficients.get(name, 0.0) for name in market.instrument_ids]
    high = fsum(v * (s if v > 0 else -b) for v, s, b in zip(c, sell, buy, strict=True))
    low = fsum(v * (-b if v > 0 else s) for v, s, b in zip(c, sell, buy, strict=True))
    was, now = (fsum(v * w for v, w in zip(c, book, strict=True)) for book in (before, after))
    slack = ROUNDING * fsum(abs(v * w) for v, w in zip(c, after, strict=True))
    if row.upper is not None and now + high > max(row.upper, was + high) + slack:
        yield f"{row.name}: {now + high!r} is above {row.upper!r}, and was {was + high!r}"
    if row.lower is not None and now + low < min(row.lower, was + low) - slack:
        yield f"{row.name}: {now + low!r} is below {row.lower!r}, and was {was + low!r}"
