"""A search of parameters as one HTML page that opens without a network."""

from typing import Any

from positionsizing.v1 import simulation_service_pb2 as pb

from server.cli.page import Output, subplots, write_page
from server.cli.page_tables import Plot
from server.cli.tuned import advice

HEIGHT = 420
"""Of a plot."""


def write_tuned(output: Output, answer: pb.TuneParametersResponse) -> None:
    """What trials are worth over each field, over the first two together, and walk-forward."""
    fields = list(answer.fields)
    pair = [
        Plot(f"Worth with neighbours over {fields[0]} and {fields[1]}", "map", *fields[:2])
        for _ in fields[1:2]
    ]
    worth = [
        Plot(f"Worth over {name}, log growth a session", f"worth_{name}", name, "log_growth")
        for name in fields
    ]
    unseen = "Growth a session in segments not seen before"
    forward = Plot(unseen, "walk_forward", "segment", "log_growth")
    figure = subplots([*pair, *worth, forward])
    if pair:
        _map(figure, answer)
    for place in range(len(fields)):
        _field(figure, answer, place, row=len(pair) + place + 1)
    _forward(figure, answer, row=len(pair) + len(fields) + 1)
    height = HEIGHT * (len(pair) + len(fields) + 1)
    title = f"{len(answer.trials)} trials, prices {answer.history_hash[:12]}: {advice(answer)}"
    figure.update_layout(height=height, title={"text": title, "font": {"size": 13}})
    write_page(output, figure)


def _known(answer: pb.TuneParametersResponse) -> list[tuple[int, pb.TunedTrial]]:
    """Trials that were not ruined, nor a neighbour of them."""
    return [(place, one) for place, one in enumerate(answer.trials) if one.HasField("plateau")]


def _words(answer: pb.TuneParametersResponse, place: int) -> str:
    if place == 0:
        return "as it is"
    return f"trial {place}{', chosen' if place == answer.chosen else ''}"


def _map(figure: Any, answer: pb.TuneParametersResponse) -> None:
    import plotly.graph_objects as go

    known = _known(answer)
    points = go.Scatter(
        x=[one.values[0] for _, one in known],
        y=[one.values[1] for _, one in known],
        text=[f"{_words(answer, place)}: {one.plateau:+.2e}" for place, one in known],
        mode="markers",
        marker={
            "color": [one.plateau for _, one in known],
            "colorscale": "Viridis",
            "size": [16 if place in (0, answer.chosen) else 9 for place, _ in known],
            "symbol": ["diamond" if place == 0 else "circle" for place, _ in known],
        },
        showlegend=False,
    )
    figure.add_trace(points, row=1, col=1)


def _field(figure: Any, answer: pb.TuneParametersResponse, field: int, row: int) -> None:
    import plotly.graph_objects as go

    known = _known(answer)
    for name, label in (("objective", "lower quantile"), ("plateau", "with neighbours")):
        points = go.Scatter(
            x=[one.values[field] for _, one in known],
            y=[getattr(one, name) for _, one in known],
            text=[_words(answer, place) for place, _ in known],
            mode="markers",
            name=label,
            legendgroup=label,
            showlegend=field == 0,
            marker={"color": "#bbb" if name == "objective" else "#1f77b4"},
        )
        figure.add_trace(points, row=row, col=1)


def _forward(figure: Any, answer: pb.TuneParametersResponse, row: int) -> None:
    import plotly.graph_objects as go

    segments = [f"segment {place}" for place in range(2, len(answer.base_growth) + 2)]
    for label, growth in (
        ("chosen before it", answer.walk_forward_growth),
        ("as it is", answer.base_growth),
    ):
        figure.add_trace(go.Bar(x=segments, y=list(growth), name=label), row=row, col=1)
