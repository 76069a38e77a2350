"""A correlation with its tree of clusters as one HTML page that opens without a network."""

from collections.abc import Iterator

import numpy as np
from positionsizing.v1 import correlation_service_pb2 as pb
from positionsizing.v1 import market_service_pb2 as market_pb

from server.cli.page import Output, subplots, write_page
from server.cli.page_tables import Plot
from server.convert.matrix import matrix as arrays_of

HEIGHT = 1200
Branch = tuple[list[float], list[float]]


def write_correlation(
    output: Output, matrix: market_pb.Matrix, answer: pb.ClusterInstrumentsResponse
) -> None:
    """The tree, and below it the correlations in the order of its leaves."""
    figure = subplots(
        (
            Plot("Distance at which instruments are joined", "tree", "place", "distance"),
            Plot("Correlation", "correlation", "instrument_id", "other_instrument_id"),
        )
    )
    import plotly.graph_objects as go

    for across, up in branches(list(answer.left), list(answer.right), list(answer.distance)):
        branch = go.Scatter(x=across, y=up, mode="lines", line={"color": "#555"}, showlegend=False)
        figure.add_trace(branch, row=1, col=1)
    names, places = list(answer.instrument_ids), list(range(len(answer.instrument_ids)))
    heat = go.Heatmap(
        x=places,
        y=places,
        z=correlations(matrix, names),
        zmin=-1.0,
        zmax=1.0,
        colorscale="RdBu",
        text=[[f"{row}, {column}" for column in names] for row in names],
        colorbar={"len": 0.45, "y": 0.22},
    )
    figure.add_trace(heat, row=2, col=1)
    for row in (1, 2):
        figure.update_xaxes(tickvals=places, ticktext=names, row=row, col=1)
    figure.update_yaxes(tickvals=places, ticktext=names, autorange="reversed", row=2, col=1)
    title = f"{matrix.matrix_id}: {len(names)} instruments, {answer.cluster_count} clusters"
    figure.update_layout(height=HEIGHT, title=title)
    write_page(output, figure)


def branches(left: list[int], right: list[int], distance: list[float]) -> Iterator[Branch]:
    """The lines of a tree: across and up, two legs and what joins them, a node each.

    Leaves are at 0, 1, ... and height 0; node n + k is in the middle of what it joins.
    """
    middle = [float(leaf) for leaf in range(len(left) + 1)]
    height = [0.0] * len(middle)
    for a, b, joined in zip(left, right, distance, strict=True):
        yield [middle[a], middle[a], middle[b], middle[b]], [height[a], joined, joined, height[b]]
        middle.append(0.5 * (middle[a] + middle[b]))
        height.append(joined)


def correlations(matrix: market_pb.Matrix, names: list[str]) -> list[list[float]]:
    """The correlations of a stored correlation or covariance, in the order of `names`."""
    place = {name: i for i, name in enumerate(matrix.instrument_ids)}
    values = arrays_of(matrix).values
    order = [place[name] for name in names]
    deviation = np.sqrt(np.diag(values))
    found = (values / np.outer(deviation, deviation))[np.ix_(order, order)]
    return [[float(value) for value in row] for row in found]
