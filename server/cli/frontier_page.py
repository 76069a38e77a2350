"""An efficient frontier as one HTML page that opens without a network."""

from positionsizing.v1 import optimization_service_pb2 as pb

from server.cli.page import Output, subplots, write_page
from server.cli.page_tables import Plot

HEIGHT = 900


def write_frontier(output: Output, answer: pb.TraceFrontierResponse) -> None:
    """Return over risk, and what the books along it hold."""
    figure = subplots(
        (
            Plot("Expected return over risk, a period", "frontier", "risk", "expected_return"),
            Plot("Weights by risk", "weights", "risk", "weight"),
        )
    )
    import plotly.graph_objects as go

    risk = [point.risk for point in answer.points]
    returns = [point.expected_return for point in answer.points]
    line = go.Scatter(x=risk, y=returns, mode="lines+markers", name="frontier")
    figure.add_trace(line, row=1, col=1)
    for place, name in enumerate(answer.instrument_ids):
        weights = [point.weights[place] for point in answer.points]
        if any(abs(weight) > 1e-6 for weight in weights):
            held = go.Scatter(x=risk, y=weights, name=name, mode="lines")
            figure.add_trace(held, row=2, col=1)
    figure.update_layout(height=HEIGHT, title=f"{len(risk)} books of least risk")
    write_page(output, figure)
