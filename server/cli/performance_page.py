"""What decisions were worth, as one HTML page that opens without a network."""

from typing import Any

from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import simulation_service_pb2 as simulation_pb

from server.cli.errors import CommandError
from server.cli.labels import stage_name
from server.cli.page import Output, subplots, write_page
from server.cli.page_tables import Plot

HEIGHT = 1560
PLOTS = (
    Plot("Log growth by stage, from the stake to whole lots", "stage_growth", "stage", "growth"),
    Plot(
        "Log growth a decision more than other sizes, with 95 % intervals",
        *("other_sizes", "size", "difference"),
    ),
    Plot(
        "Claimed win probability against the rate of wins",
        *("calibration", "claimed", "won"),
    ),
    Plot(
        "Forecast returns: lines by tenths of the probability of at most what came",
        *("return_forecasts", "tenth_from", "lines"),
    ),
    Plot("Against the benchmark, by group", "attribution", "group", "return"),
    Plot("Money lost between decisions and positions", "shortfall", "part", "money"),
)


def write_performance(output: Output, answer: pb.AnalyzeDecisionsResponse, portfolio: str) -> None:
    """The growth ledger, other sizes, calibration, attribution and shortfall of a portfolio."""
    if not answer.decisions:
        raise CommandError(
            "no decision can be valued yet", "store later prices: sizing market load FILE"
        )
    figure = subplots(PLOTS)
    _growth(figure, answer)
    _other_sizes(figure, answer)
    _calibration(figure, answer)
    _places(figure, answer)
    _attribution(figure, answer)
    _shortfall(figure, answer)
    title = f"{portfolio}: {answer.decisions} decisions, {answer.lines} lines"
    figure.update_layout(height=HEIGHT, title=title, showlegend=False, barmode="group")
    write_page(output, figure)


def _growth(figure: Any, answer: pb.AnalyzeDecisionsResponse) -> None:
    import plotly.graph_objects as go

    if not answer.HasField("stage_growth"):
        return
    ledger = answer.stage_growth
    steps = [(stage_name(s), step) for s, step in zip(ledger.stages, ledger.steps, strict=True)]
    changed = [(name, step) for name, step in steps if step]
    bars = go.Waterfall(
        x=[stage_name(ledger.first_stage), *(name for name, _ in changed), "chosen"],
        y=[ledger.start, *(step for _, step in changed), ledger.start + sum(ledger.steps)],
        measure=["absolute", *("relative" for _ in changed), "total"],
    )
    figure.add_trace(bars, row=1, col=1)


def _other_sizes(figure: Any, answer: pb.AnalyzeDecisionsResponse) -> None:
    import plotly.graph_objects as go

    found = [item for item in answer.counterfactuals if item.HasField("difference")]
    bars = go.Bar(
        x=[item.name for item in found],
        y=[item.difference.mean for item in found],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [_reach(item.difference)[1] for item in found],
            "arrayminus": [_reach(item.difference)[0] for item in found],
        },
    )
    figure.add_trace(bars, row=2, col=1)


def _reach(interval: simulation_pb.MeanInterval) -> tuple[float | None, float | None]:
    """How far its ends are below and above the mean; None where there is no interval."""
    below = interval.mean - interval.low if interval.HasField("low") else None
    return below, interval.high - interval.mean if interval.HasField("high") else None


def _calibration(figure: Any, answer: pb.AnalyzeDecisionsResponse) -> None:
    import plotly.graph_objects as go

    bins = answer.bet_forecast.bins
    points = go.Scatter(
        x=[item.claimed for item in bins],
        y=[item.won for item in bins],
        text=[f"{item.count} lines" for item in bins],
        mode="lines+markers",
    )
    figure.add_trace(points, row=3, col=1)
    right = go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot"}, name="as claimed")
    figure.add_trace(right, row=3, col=1)


def _places(figure: Any, answer: pb.AnalyzeDecisionsResponse) -> None:
    """The probability integral transform; level where forecasts are right."""
    import plotly.graph_objects as go

    counts = list(answer.return_forecast.pit_bins)
    if not counts:
        return
    tenths = [f"{place / len(counts):.1f}" for place in range(len(counts))]
    figure.add_trace(go.Bar(x=tenths, y=counts), row=4, col=1)
    right = sum(counts) / len(counts)
    level = go.Scatter(
        x=tenths, y=[right] * len(counts), mode="lines", line={"dash": "dot"}, name="if right"
    )
    figure.add_trace(level, row=4, col=1)


def _attribution(figure: Any, answer: pb.AnalyzeDecisionsResponse) -> None:
    import plotly.graph_objects as go

    groups = answer.attribution.groups
    names = [item.group for item in groups]
    for label in ("allocation", "selection"):
        bars = go.Bar(x=names, y=[getattr(item, label) for item in groups], name=label)
        figure.add_trace(bars, row=5, col=1)


def _shortfall(figure: Any, answer: pb.AnalyzeDecisionsResponse) -> None:
    import plotly.graph_objects as go

    lost = answer.shortfall
    bars = go.Bar(
        x=["execution", "not filled", "fees"], y=[lost.execution, lost.opportunity, lost.fees]
    )
    figure.add_trace(bars, row=6, col=1)
