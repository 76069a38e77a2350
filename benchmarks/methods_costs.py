"""Plots of docs/methods.md on trading costs: spread over the holding time or not, and bands."""

from __future__ import annotations

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure

from compute.correlation.dynamic import ewma_deviations
from compute.history import Floats
from compute.kelly.no_trade import long_run_band

EDGE = 0.04
"""Sharpe ratio of a day of every name."""
COST = 0.001
HOLDING = np.array([1, 2, 3, 5, 8, 10, 15, 20, 30, 40, 60])
HORIZON = 20.0
RATES = np.array([1, 2, 5, 10, 20, 50]) / 1e4


def growth(stake: Floats, mean: Floats, deviation: Floats) -> Floats:
    """f m - s^2 f^2 / 2, of a day."""
    return np.asarray(stake * mean - 0.5 * (deviation * stake) ** 2)


def by_holding_time(returns: Floats) -> dict[str, Floats]:
    """Stake and growth net of what trading costs, of the name with the median deviation."""
    s = float(np.median(returns.std(axis=0)))
    m, per_day = EDGE * s, 2.0 * COST / HOLDING
    stakes = {
        "spread over the holding time": np.maximum(m - per_day, 0.0) / s**2,
        "charged every day": np.full(len(HOLDING), max(m - COST, 0.0) / s**2),
        "left out": np.full(len(HOLDING), m / s**2),
    }
    net = {name: growth(f, m - per_day, np.asarray(s)) for name, f in stakes.items()}
    return {f"{name}: stake": f for name, f in stakes.items()} | net


def walked(returns: Floats, rate: float) -> dict[str, float]:
    """Growth a year net of costs, by rule, of names sized by their volatility each day.

    Each name has an account of its own; weights drift with its real returns, the target moves with
    its volatility (EWMA 0.97), the edge stays. What is measured is expected growth, as three years
    say nothing of the edge itself.
    """
    deviation = ewma_deviations(returns)[0]
    mean = EDGE * deviation
    kelly = mean / deviation**2
    per_day = 2.0 * rate / HORIZON
    forever = long_run_band(kelly, rate, 1.0)
    bands = {
        "each day to Kelly": (kelly, kelly),
        f"HOLDING_TIME, {HORIZON:g} days": (
            np.maximum(mean - per_day, 0.0) / deviation**2,
            (mean + per_day) / deviation**2,
        ),
        "LONG_RUN": (np.asarray(forever.lower), np.asarray(forever.upper)),
    }
    found = {}
    for name, (low, high) in bands.items():
        weight, net = kelly[0].copy(), np.zeros(returns.shape[1])
        for t, row in enumerate(returns):
            wanted = np.clip(weight, low[t], high[t])
            net += growth(wanted, mean[t], deviation[t]) - rate * np.abs(wanted - weight)
            weight = wanted * (1.0 + row) / (1.0 + wanted * row)
        found[name] = float(net.mean()) * 252 / len(returns)
    found["without costs"] = float(growth(kelly, mean, deviation).mean()) * 252
    return found


def costs(returns: Floats) -> tuple[Figure, list[str]]:
    """What forgetting the holding time costs, and what rules of trading leave."""
    held = by_holding_time(returns)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8.4, 3.3))
    names = [name for name in held if not name.endswith("stake")]
    best = held[names[0]]
    rows = [
        "## Costs",
        "",
        f"Median deviation of the names, a daily Sharpe ratio of {EDGE:g}, {1e4 * COST:g} bp a "
        "trade. Growth of a day net of what trading costs, as a share of the best; below 0 it "
        "shrinks.",
        "",
        f"| cost | {' | '.join(f'{days} days' for days in HOLDING)} |",
        f"|---|{'---|' * len(HOLDING)}",
    ]
    for name in names:
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(best > 0.0, held[name] / best, np.nan)
        left.plot(HOLDING, 100 * share, "o-", ms=3, label=name)
        cells = ["none" if np.isnan(v) else f"{v:.0%}" for v in share]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    left.set(xlabel="holding time, days", ylabel="of the best growth, %", ylim=(-110, 110))
    left.legend(fontsize=7.5)
    walks = [walked(returns, float(rate)) for rate in RATES]
    rows += [
        "",
        "Growth a year net of costs, of 20 accounts of one name each, on the real closes:",
        "",
        f"| rule | {' | '.join(f'{1e4 * rate:g} bp' for rate in RATES)} |",
        f"|---|{'---|' * len(RATES)}",
    ]
    for name in walks[0]:
        values = np.array([walk[name] for walk in walks])
        style = "--" if name == "without costs" else "o-"
        right.semilogx(1e4 * RATES, 100 * values, style, ms=3, label=name)
        rows.append(f"| {name} | {' | '.join(f'{v:.1%}' for v in values)} |")
    right.set(xlabel="cost of a trade, bp", ylabel="net growth, % a year")
    right.set_xticks(1e4 * RATES, [f"{1e4 * rate:g}" for rate in RATES])
    right.minorticks_off()
    right.legend(fontsize=7.5)
    return figure, rows
