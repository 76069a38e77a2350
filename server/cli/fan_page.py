"""Simulated futures as one HTML page that opens without a network."""

from typing import Any

from positionsizing.v1 import simulation_service_pb2 as pb

from server.cli.page import Output, subplots, write_page
from server.cli.page_tables import Plot

HEIGHT = 420
"""Of a plot."""
QUANTILES = ("5 %", "25 %", "50 %", "75 %", "95 %")


def write_fan(
    output: Output, request: pb.SimulateGrowthRequest, answer: pb.SimulateGrowthResponse
) -> None:
    """Quantiles of wealth over time of each fraction, and how likely it falls to each level."""
    plots = [
        Plot(
            f"Wealth, fraction {fan.fraction:g}, log scale",
            f"wealth_{fan.fraction:g}",
            *("years", "wealth"),
        )
        for fan in answer.fans
    ]
    falls = ("Chance of ever falling to a part of the start", "fell_below", "level", "probability")
    figure = subplots([*plots, Plot(*falls)])
    for row, fan in enumerate(answer.fans, 1):
        _fan(figure, list(answer.years), fan, row)
        figure.update_yaxes(type="log", row=row, col=1)
    _chances(figure, request, answer)
    title = f"{request.paths:,} futures of {answer.years[-1]:g} years, seed {request.seed}"
    figure.update_layout(height=HEIGHT * (len(plots) + 1), title=title, barmode="group")
    write_page(output, figure)


def _fan(figure: Any, years: list[float], fan: pb.GrowthFan, row: int) -> None:
    import plotly.graph_objects as go

    count = len(years)
    for place, name in enumerate(QUANTILES):
        wealth = list(fan.wealth[place * count : (place + 1) * count])
        is_median = name == "50 %"
        line = go.Scatter(
            x=years,
            y=[value if value > 0.0 else None for value in wealth],
            name=name,
            legendgroup=name,
            showlegend=row == 1,
            fill=None if place == 0 else "tonexty",
            line={"color": f"rgba(31, 119, 180, {1.0 if is_median else 0.4})"},
            fillcolor="rgba(31, 119, 180, 0.12)",
        )
        figure.add_trace(line, row=row, col=1)


def _chances(
    figure: Any, request: pb.SimulateGrowthRequest, answer: pb.SimulateGrowthResponse
) -> None:
    import plotly.graph_objects as go

    for fan in answer.fans:
        bars = go.Bar(
            x=[f"{level:g}" for level in request.levels],
            y=list(fan.fell_below),
            name=f"fraction {fan.fraction:g}",
        )
        figure.add_trace(bars, row=len(answer.fans) + 1, col=1)
