"""What independent stakes lose by correlation, and how much of it each method wins back.

    .venv/bin/python -m benchmarks.correlation [--truths 200] [--prices examples/prices.csv]

Each line knows its own mean and volatility, so that only correlations matter. Independent sizing is
Kelly of each line; joint-optimal sizing knows the covariance and is Kelly of the book, long only.
Two shares, both 1 for the optimum and 0 for independent sizing:

    variance   1 - |V - V*| / |V0 - V*|    of the book's variance V; overshooting costs as much
    growth     (g - g0) / (g* - g0)        of the expected growth m's - s'S s / 2

On simulated truths S is the truth, and methods see only a history drawn from it. On real closes S
is the covariance of the 63 days after each date (Ledoit-Wolf), and methods see only days before.
Intervals are 95 %, by the bootstrap over truths, or over dates in blocks of four.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from compute.correlation.estimate import Estimator, Settings, estimate
from compute.correlation.penalty import CorrelationPenalty, penalty_factors
from compute.correlation.sample import correlation_of, scaled
from compute.correlation.shrinkage import ledoit_wolf
from compute.history import Floats

Method = Callable[[Floats, Floats, Floats], Floats]
"""Stakes from means, own volatilities and a history of returns."""

RESULTS = Path(__file__).parent / "results" / "correlation.md"
ESTIMATORS = (
    Estimator.SAMPLE,
    Estimator.EWMA,
    Estimator.LEDOIT_WOLF,
    Estimator.LEDOIT_WOLF_NONLINEAR,
    Estimator.DENOISED,
    Estimator.PRINCIPAL_FACTORS,
    Estimator.DCC,
    Estimator.STRESS,
)


def kelly(mean: Floats, covariance: Floats) -> Floats:
    """argmax m's - s'S s / 2 over s >= 0, as least squares by a root of S."""
    root = np.linalg.cholesky(covariance + 1e-12 * np.trace(covariance) * np.eye(len(mean)))
    target = np.linalg.solve(root, mean)
    return np.asarray(nnls(root.T, target, maxiter=50 * len(mean))[0])


def penalised(penalty: CorrelationPenalty, estimator: Estimator) -> Method:
    """The closed form with a penalty, by an estimate of the correlation."""

    def size(mean: Floats, deviation: Floats, history: Floats) -> Floats:
        stake = np.maximum(mean, 0.0) / deviation**2
        made = estimate(history, estimator, Settings())
        gram, _ = correlation_of(made.covariance)
        return stake * penalty_factors(stake, deviation, gram, np.zeros(len(stake)), penalty)

    return size


def scaled_down(mean: Floats, deviation: Floats, history: Floats) -> Floats:
    """All stakes over 1 + (n - 1) times the mean correlation: the least that can be done."""
    stake = np.maximum(mean, 0.0) / deviation**2
    correlation, _ = correlation_of(ledoit_wolf(history)[0])
    n = len(stake)
    average = (correlation.sum() - n) / (n * (n - 1))
    return stake / (1.0 + (n - 1) * max(average, 0.0))


def joint(estimator: Estimator) -> Method:
    """Kelly of the book by the estimate; stakes may grow beyond those alone."""

    def size(mean: Floats, deviation: Floats, history: Floats) -> Floats:
        correlation, _ = correlation_of(estimate(history, estimator, Settings()).covariance)
        return kelly(mean, scaled(correlation, deviation))

    return size


def methods(*, dynamic: bool) -> dict[str, Method]:
    """Every method by name; DCC, the slowest by far, only where correlations move."""
    out: dict[str, Method] = {
        "none": lambda mean, deviation, history: np.maximum(mean, 0.0) / deviation**2
    }
    out["one factor for all, Ledoit-Wolf"] = scaled_down
    out["proportional, Ledoit-Wolf"] = penalised(
        CorrelationPenalty.PROPORTIONAL, Estimator.LEDOIT_WOLF
    )
    for estimator in ESTIMATORS:
        if estimator is Estimator.DCC and not dynamic:
            continue
        name = estimator.name.lower().replace("_", "-")
        out[f"quadratic, {name}"] = penalised(CorrelationPenalty.QUADRATIC, estimator)
    for estimator in (Estimator.SAMPLE, Estimator.LEDOIT_WOLF):
        name = estimator.name.lower().replace("_", "-")
        out[f"joint, {name}"] = joint(estimator)
    return out


def shares(stake: Floats, alone: Floats, mean: Floats, truth: Floats) -> tuple[float, float]:
    """Shares of variance and of growth won back."""
    best = kelly(mean, truth)
    v, v0, v1 = (float(s @ truth @ s) for s in (stake, alone, best))
    g, g0, g1 = (float(mean @ s - 0.5 * s @ truth @ s) for s in (stake, alone, best))
    return 1.0 - abs(v - v1) / abs(v0 - v1), (g - g0) / (g1 - g0)


def random_truth(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    """Means and covariance: a market, four sectors and own noise, daily Sharpe ratios 0 to 0.06."""
    market = rng.uniform(0.3, 0.8, n)
    sector = rng.integers(0, 4, n)
    inside = rng.uniform(0.1, 0.5, n) * np.sqrt(1.0 - market**2)
    correlation = np.outer(market, market)
    correlation += np.outer(inside, inside) * (sector[:, None] == sector[None, :])
    np.fill_diagonal(correlation, 1.0)
    deviation = rng.uniform(0.008, 0.03, n)
    return deviation * rng.uniform(0.0, 0.06, n), scaled(correlation, deviation)


def simulated(n: int, count: int, truths: int) -> dict[str, Floats]:
    """Shares of each method, (truths, 2), with histories of `count` normal periods."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in methods(dynamic=False)}
    for seed in range(truths):
        rng = np.random.default_rng([n, count, seed])
        mean, truth = random_truth(rng, n)
        history = rng.multivariate_normal(np.zeros(n), truth, count)
        deviation = np.sqrt(np.diag(truth))
        alone = mean / deviation**2
        for name, size in methods(dynamic=False).items():
            found[name].append(shares(size(mean, deviation, history), alone, mean, truth))
    return {name: np.array(rows) for name, rows in found.items()}


def walked(
    returns: Floats,
    window: int = 250,
    ahead: int = 63,
    step: int = 21,
    edge: Floats | float = 0.04,
    *,
    chosen: dict[str, Method] | None = None,
) -> dict[str, Floats]:
    """Shares at each date of real returns (T, n), of all methods or those chosen.

    edge: Sharpe ratio a day of every line, or of each, (n,).
    """
    wanted = methods(dynamic=True) if chosen is None else chosen
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in wanted}
    for end in range(window, len(returns) - ahead + 1, step):
        history, future = returns[end - window : end], returns[end : end + ahead]
        truth, _ = ledoit_wolf(future)
        deviation = np.sqrt(np.diag(truth))  # own volatility known: only correlation is at stake
        mean = edge * deviation
        alone = mean / deviation**2
        for name, size in wanted.items():
            found[name].append(shares(size(mean, deviation, history), alone, mean, truth))
    return {name: np.array(rows) for name, rows in found.items()}


def interval(values: Floats, block: int = 1, draws: int = 2000) -> tuple[float, float, float]:
    """Mean and its 95 % interval by the bootstrap, in blocks where rows depend on each other."""
    rng = np.random.default_rng(0)
    starts = np.arange(0, max(len(values) - block + 1, 1))
    picks = rng.choice(starts, (draws, -(-len(values) // block)))
    rows = (picks[..., None] + np.arange(block)).reshape(draws, -1)[:, : len(values)]
    means = values[rows].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def table(title: str, found: dict[str, Floats], block: int = 1) -> list[str]:
    """Markdown of one experiment."""
    count = len(next(iter(found.values())))
    lines = [f"### {title} ({count})", "", "| method | variance | growth |", "|---|---|---|"]
    for name, rows in found.items():
        cells = []
        for column in rows.T:
            mean, low, high = interval(column, block)
            cells.append(f"{mean:.1%} [{low:.1%}, {high:.1%}]")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def closes(path: Path) -> Floats:
    """Returns of a CSV of prices with a first column of dates."""
    with path.open() as file:
        rows = list(csv.reader(file))[1:]
    prices = np.array([row[1:] for row in rows], dtype=float)
    return np.asarray(prices[1:] / prices[:-1] - 1.0)


def main() -> None:
    """Runs every experiment and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truths", type=int, default=200)
    parser.add_argument("--prices", type=Path, default=Path("examples/prices.csv"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    lines = ["# Correlation: what methods win back", "", (__doc__ or "").split("\n\n", 2)[2], ""]
    for n, count in ((5, 250), (20, 250), (20, 750), (50, 250)):
        title = f"Simulated, {n} instruments, {count} periods of history"
        lines += table(title, simulated(n, count, arguments.truths))
    title = f"Walk-forward, {arguments.prices}, dates"
    lines += table(title, walked(closes(arguments.prices)), block=4)
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
