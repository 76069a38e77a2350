"""Plots of docs/methods.md on fractions of Kelly and on tails."""

from __future__ import annotations

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure

from compute.history import Floats
from compute.risk.backtest import kupiec
from compute.risk.extremes import pareto_tail
from compute.risk.measures import moments, normal_tail, student_degrees, student_tail
from compute.risk.rolling import rolling_forecasts
from compute.risk.tail_method import TailMethod
from compute.simulate.monte_carlo import bootstrap_paths

FLOOR, YEARS, PATHS, BLOCK = 0.7, 5, 4000, 10.0
LEVEL, WINDOW = 0.99, 250


def equal_book(returns: Floats) -> Floats:
    """Returns of all names alike, rebalanced every day, (T,)."""
    return np.asarray(returns.mean(axis=1))


def growth_share(c: Floats) -> Floats:
    """Growth over that of full Kelly, c (2 - c)."""
    return np.asarray(c * (2.0 - c))


def ever_below(c: Floats, level: float) -> Floats:
    """P(wealth ever falls to `level` of its start), level^(2/c - 1) up to twice Kelly."""
    return np.asarray(level ** (2.0 / c - 1.0))


def fractions(returns: Floats) -> tuple[Figure, list[str]]:
    """Growth and the chance of a fall, by fraction of Kelly: formula and days drawn again.

    Full Kelly is mean over variance of the same days: with hindsight, as nobody knows it.
    """
    book = equal_book(returns)
    kelly = float(book.mean() / book.var())
    best = 252 * float(book.mean() ** 2 / (2 * book.var()))
    steps = 252 * YEARS
    drawn = bootstrap_paths(book, steps, PATHS, BLOCK, seed=1)
    c = np.linspace(0.1, 2.0, 20)
    growth, below, halved = [], [], []
    for share in c:
        wealth = np.cumsum(np.log1p(np.maximum(share * kelly * drawn, -0.999999)), axis=1)
        growth.append(wealth[:, -1].mean() / YEARS)
        low = wealth.min(axis=1)
        below.append(float((low < np.log(FLOOR)).mean()))
        halved.append(float((low < np.log(0.5)).mean()))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8.4, 3.3))
    left.plot(c, 100 * best * growth_share(c), color="tab:blue", label="formula, c (2 - c)")
    left.plot(c, 100 * np.array(growth), "o", color="black", ms=3.5, label="days drawn again")
    left.axhline(0.0, color="grey", lw=0.8)
    left.set(xlabel="fraction c of Kelly", ylabel="growth, % a year")
    left.legend()
    for level, seen, colour in ((FLOOR, below, "tab:orange"), (0.5, halved, "tab:red")):
        ever = ever_below(c, level)
        name = f"{1 - level:.0%} down"
        right.plot(c, 100 * np.asarray(ever), color=colour, label=f"{name}: formula, ever")
        label = f"{name}: drawn, {YEARS} years"
        right.plot(c, 100 * np.array(seen), "o", color=colour, ms=3.5, label=label)
    right.set(xlabel="fraction c of Kelly", ylabel="chance, %")
    right.legend(fontsize=7.5)
    rows = [
        "## A fraction of Kelly",
        "",
        f"All names alike: full Kelly {kelly:.2f} of equity, {best:.1%} a year (with hindsight). "
        f"{PATHS} paths of {YEARS} years of the days drawn again in blocks of {BLOCK:g}.",
        "",
        "| c | growth a year | formula | 30 % down in 5 years | formula, ever | 50 % in 5 years |",
        "|---|---|---|---|---|---|",
    ]
    for i in (1, 4, 6, 9, 14, 19):
        formula = best * float(growth_share(c[i]))
        ever = float(ever_below(c[i], FLOOR))
        rows.append(
            f"| {c[i]:.1f} | {growth[i]:.1%} | {formula:.1%} | {below[i]:.1%} | {ever:.1%} "
            f"| {halved[i]:.1%} |"
        )
    return figure, rows


def tails(returns: Floats) -> tuple[Figure, list[str]]:
    """The tail of the book's losses, and how often forecasts of it were exceeded."""
    losses = -equal_book(returns)
    n = len(losses)
    ordered = np.sort(losses)[::-1]
    levels = 1.0 - np.geomspace(0.1, 5e-4, 60)
    deviation = float(losses.std())
    _, _, _, kurtosis = moments(losses, np.full(n, 1.0 / n))
    degrees = student_degrees(kurtosis)
    pareto = pareto_tail(losses)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8.4, 3.3))
    count = n // 10
    chance = (np.arange(count) + 0.5) / n
    left.loglog(100 * ordered[:count], 100 * chance, "o", color="black", ms=3, label="days")
    curves = {
        "normal": [normal_tail(a, 0.0, deviation).value_at_risk for a in levels],
        f"Student, {degrees:.1f} degrees": [
            student_tail(a, degrees, 0.0, deviation).value_at_risk for a in levels
        ],
        f"extreme value, shape {pareto.shape:.2f}": [
            pareto.tail(a).value_at_risk for a in levels[1:]
        ],
    }
    for name, values in curves.items():
        chances = 100 * (1 - levels[-len(values) :])
        left.loglog(100 * np.array(values), chances, label=name)
    left.set(xlabel="loss of a day, %", ylabel="chance of more, %")
    left.set_xticks([2, 3, 5, 10], ["2", "3", "5", "10"])
    left.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    left.minorticks_off()
    left.legend(fontsize=7.5)
    rows, names, rates, marks = [], [], [], []
    for method in TailMethod:
        var, es, known = rolling_forecasts(losses, method, LEVEL, WINDOW)
        later = losses[WINDOW:][known]
        hits = int((later > var[known]).sum())
        test = kupiec(len(later), hits, 1 - LEVEL)
        beyond = later[later > var[known]]
        expected = float(np.mean(es[known][later > var[known]])) if hits else np.nan
        mean = float(beyond.mean()) if hits else np.nan
        names.append(method.name.lower().replace("_", " "))
        rates.append(100 * hits / len(later))
        marks.append(test.p_value)
        rows.append(
            f"| {names[-1]} | {hits} of {len(later)} | {test.p_value:.3f} | {mean:.2%} "
            f"| {expected:.2%} |"
        )
    place = np.arange(len(names))
    colours = ["tab:red" if p < 0.05 else "tab:blue" for p in marks]
    right.barh(place, rates, color=colours)
    right.axvline(100 * (1 - LEVEL), color="black", lw=1)
    right.set_yticks(place, names)
    right.invert_yaxis()
    right.set(xlabel=f"days beyond the {LEVEL:.0%} value at risk, %")
    right.set_title("red: rejected at 5 % (Kupiec)", fontsize=8)
    header = [
        "## Tails",
        "",
        f"All names alike: deviation {deviation:.2%} a day, excess kurtosis {kurtosis:.1f}, shape "
        f"{pareto.shape:.2f} +- {pareto.shape_error:.2f}. Value at risk of {LEVEL:.0%} of each "
        f"day by the {WINDOW} before.",
        "",
        "| method | days beyond | Kupiec p | mean of these | shortfall forecast for them |",
        "|---|---|---|---|---|",
    ]
    return figure, header + rows
