"""The plots of docs/methods.md, from the closes in examples/prices.csv.

    make bench-methods        # writes docs/plots/*.svg and benchmarks/results/methods.md

20 large US companies, daily, 2020 to 2022. Everything is computed by the functions that the service
uses; nothing is fitted to look well, and what is looked at with hindsight says so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl

from benchmarks import methods_costs, methods_matrices, methods_tails
from benchmarks.correlation import closes

ROOT = Path(__file__).resolve().parent.parent
PLOTS, RESULTS = ROOT / "docs" / "plots", Path(__file__).parent / "results" / "methods.md"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "position-sizing",
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
}


def main() -> None:
    """Draws every plot and writes the numbers in them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prices", type=Path, default=ROOT / "examples" / "prices.csv")
    arguments = parser.parse_args()
    mpl.use("Agg")
    mpl.rcParams.update(STYLE)
    PLOTS.mkdir(exist_ok=True)
    returns = closes(arguments.prices)
    lines = ["# Methods on real closes", "", (__doc__ or "").split("\n\n", 2)[2], ""]
    for draw in (
        methods_tails.fractions,
        methods_matrices.penalties,
        methods_matrices.estimators,
        methods_tails.tails,
        methods_costs.costs,
    ):
        figure, rows = draw(returns)
        figure.savefig(PLOTS / f"{draw.__name__}.svg", metadata={"Date": None})
        lines += [*rows, ""]
    RESULTS.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
