"""Plots of measurements, drawn only where matplotlib is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Milliseconds of every peer by problem and size, log scale; ours filled, failures left out."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return
    timed = [row for row in rows if row["median_ms"] is not None]
    places = list(dict.fromkeys((row["problem"], row["size"]) for row in timed))
    peers = list(dict.fromkeys(row["peer"] for row in timed))
    ours = peers[-1] if "position-sizing" not in peers else "position-sizing"
    figure, axes = pyplot.subplots(figsize=(9, 0.38 * len(places) + 2.2), layout="constrained")
    colours = pyplot.get_cmap("tab20").colors
    for index, peer in enumerate(peers):
        mine = [row for row in timed if row["peer"] == peer]
        axes.scatter(
            [row["median_ms"] for row in mine],
            [places.index((row["problem"], row["size"])) for row in mine],
            label=peer,
            marker="D" if peer == ours else "o",
            s=70 if peer == ours else 34,
            color="black" if peer == ours else colours[index % 20],
            zorder=3 if peer == ours else 2,
        )
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds a call (median)")
    axes.set_yticks(range(len(places)), [f"{code}  n = {size}" for code, size in places])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=140)
    pyplot.close(figure)
