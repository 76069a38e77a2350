"""Plots of docs/methods.md on correlation: penalties, and estimators out of sample."""

from __future__ import annotations

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure

from benchmarks.correlation import Method, interval, methods, walked
from compute.correlation.estimate import Estimator, Settings, estimate, log_likelihood
from compute.history import Floats

NAMES = {
    "one factor for all, Ledoit-Wolf": "one factor for all",
    "proportional, Ledoit-Wolf": "penalty PROPORTIONAL",
    "quadratic, ledoit-wolf": "penalty QUADRATIC",
    "joint, ledoit-wolf": "method JOINT",
}
WINDOWS = (40, 60, 125, 250, 500)
AHEAD = 21
COMPARED = (
    Estimator.SAMPLE,
    Estimator.EWMA,
    Estimator.LEDOIT_WOLF,
    Estimator.LEDOIT_WOLF_NONLINEAR,
    Estimator.DENOISED,
    Estimator.PRINCIPAL_FACTORS,
    Estimator.DCC,
)


def _chosen() -> dict[str, Method]:
    return {name: size for name, size in methods(dynamic=False).items() if name in NAMES}


def unlike(returns: Floats, draws: int = 20) -> dict[str, Floats]:
    """The same walk with unlike edges: daily Sharpe ratios from 0 to 0.08, drawn anew each time."""
    found: dict[str, list[Floats]] = {}
    chosen = _chosen()
    for seed in range(draws):
        edges = np.random.default_rng(seed).uniform(0.0, 0.08, returns.shape[1])
        for name, rows in walked(returns, edge=edges, chosen=chosen).items():
            found.setdefault(name, []).append(rows.mean(axis=0))
    return {name: np.array(rows) for name, rows in found.items()}


def penalties(returns: Floats) -> tuple[Figure, list[str]]:
    """How much of what correlation costs independent stakes each way wins back, walk-forward."""
    alike, differing = walked(returns, chosen=_chosen()), unlike(returns)
    figure, axes = pyplot.subplots(1, 2, figsize=(8.4, 2.6), sharey=True)
    rows = [
        "## Correlation",
        "",
        "Share of the growth that independent stakes lose by correlation and each way wins back, "
        "on the 63 days after each of 21 dates; 95 % intervals. With unlike edges: 20 draws.",
        "",
        "| way | edges alike | edges unlike |",
        "|---|---|---|",
    ]
    for axis, found, title, block in (
        (axes[0], alike, "every line with the same edge", 4),
        (axes[1], differing, "unlike edges", 1),
    ):
        for place, key in enumerate(NAMES):
            mean, low, high = (100 * v for v in interval(found[key][:, 1], block))
            axis.plot([low, high], [place, place], color="tab:blue", lw=2)
            axis.plot(mean, place, "o", color="black", ms=5)
        axis.axvline(100.0, color="grey", lw=0.8)
        axis.set_yticks(range(len(NAMES)), list(NAMES.values()))
        axis.set(xlabel="growth won back, %")
        axis.set_title(title, fontsize=9)
    axes[0].invert_yaxis()
    for key, name in NAMES.items():
        cells = []
        for found, block in ((alike, 4), (differing, 1)):
            mean, low, high = interval(found[key][:, 1], block)
            cells.append(f"{mean:.1%} [{low:.1%}, {high:.1%}]")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return figure, rows


def out_of_sample(returns: Floats, estimator: Estimator, window: int) -> float:
    """Mean log likelihood a day of the 21 days after each date, by the `window` days before."""
    found = []
    for end in range(max(WINDOWS), len(returns) - AHEAD + 1, AHEAD):
        before, after = returns[end - window : end], returns[end : end + AHEAD]
        made = estimate(before, estimator, Settings())
        value = log_likelihood(made.covariance, before.mean(axis=0), after)
        if value is None:
            return float("nan")
        found.append(value)
    return float(np.mean(found))


def estimators(returns: Floats) -> tuple[Figure, list[str]]:
    """Likelihood out of sample by estimator and length of history, over the best sample one."""
    base = max(out_of_sample(returns, Estimator.SAMPLE, window) for window in WINDOWS)
    figure, axis = pyplot.subplots(figsize=(6.4, 3.4))
    rows = [
        "## Estimators",
        "",
        f"Log likelihood a day of the next {AHEAD} days, in nats, over that of the sample "
        f"covariance of {max(WINDOWS)} days; 20 names, the same dates for all.",
        "",
        f"| estimator | {' | '.join(f'{window} days' for window in WINDOWS)} |",
        f"|---|{'---|' * len(WINDOWS)}",
    ]
    for estimator in COMPARED:
        values = [out_of_sample(returns, estimator, window) - base for window in WINDOWS]
        name = estimator.name.replace("_", " ")
        axis.plot(WINDOWS, values, "o-", ms=3.5, label=name)
        rows.append(f"| {name} | {' | '.join(f'{value:+.2f}' for value in values)} |")
    axis.set_xscale("log")
    axis.set_xticks(WINDOWS, [str(window) for window in WINDOWS])
    axis.minorticks_off()
    axis.set_ylim(-6.0, None)
    axis.set(xlabel="days of history", ylabel="log likelihood a day, nats")
    axis.legend(fontsize=7.5)
    return figure, rows
