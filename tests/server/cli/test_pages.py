"""Pages that open without a network: what is drawn is what the answer says."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from positionsizing.v1 import correlation_service_pb2 as correlation
from positionsizing.v1 import market_service_pb2 as market
from positionsizing.v1 import optimization_service_pb2 as optimization
from positionsizing.v1 import simulation_service_pb2 as simulation
from scipy.cluster.hierarchy import dendrogram, linkage

from server.cli.correlation_page import branches, correlations, write_correlation
from server.cli.fan_page import write_fan
from server.cli.frontier_page import write_frontier
from server.cli.tune_page import write_tuned


def traces(page: Path) -> list[dict[str, Any]]:
    """What plotly is given in a page."""
    html = page.read_text()
    assert "<script src=" not in html, "the page opens without a network"
    start = html.index("[", html.rindex("Plotly.newPlot("))
    found, _ = json.JSONDecoder().raw_decode(html[start:])
    assert re.search(r"<html", html)
    return list(found)


def test_a_tree_is_drawn_where_scipy_draws_it() -> None:
    points = np.random.default_rng(5).normal(size=(9, 3))
    tree = linkage(points, "average")
    drawn = dendrogram(tree, no_plot=True)
    place = {leaf: at for at, leaf in enumerate(drawn["leaves"])}
    left = [place.get(int(a), int(a)) for a in tree[:, 0]]
    right = [place.get(int(b), int(b)) for b in tree[:, 1]]
    ours = {
        tuple(np.round([*sorted(across), max(up)], 9))
        for across, up in branches(left, right, list(tree[:, 2]))
    }
    scipys = {
        tuple(np.round([*sorted((np.array(x) - 5.0) / 10.0), max(y)], 9))
        for x, y in zip(drawn["icoord"], drawn["dcoord"], strict=True)
    }
    assert ours == scipys


def test_a_covariance_is_shown_as_correlations_in_the_order_of_the_tree(tmp_path: Path) -> None:
    matrix = market.Matrix(matrix_id="c", instrument_ids=["A", "B", "C"])
    matrix.dense.values.extend([4.0, 3.0, -1.0, 3.0, 9.0, 0.0, -1.0, 0.0, 1.0])
    answer = correlation.ClusterInstrumentsResponse(
        instrument_ids=["C", "A", "B"],
        cluster=[1, 2, 2],
        cluster_count=2,
        left=[1, 0],
        right=[2, 3],
        distance=[0.5, 1.2],
    )
    page = tmp_path / "page.html"
    write_correlation(page, matrix, answer)
    *tree, heat = traces(page)
    assert [item["x"] for item in tree] == [[1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 1.5, 1.5]]
    assert [item["y"] for item in tree] == [[0.0, 0.5, 0.5, 0.0], [0.0, 1.2, 1.2, 0.5]]
    expected = [[1.0, -0.5, 0.0], [-0.5, 1.0, 0.5], [0.0, 0.5, 1.0]]
    assert correlations(matrix, ["C", "A", "B"]) == expected
    assert heat["type"] == "heatmap"
    triangle = market.Matrix(instrument_ids=["A", "B", "C"])
    triangle.upper_triangle.values.extend([4.0, 3.0, -1.0, 9.0, 0.0, 1.0])
    assert correlations(triangle, ["C", "A", "B"]) == expected


def test_a_fan_has_a_plot_a_fraction(tmp_path: Path) -> None:
    request = simulation.SimulateGrowthRequest(fractions=[0.5, 1.0], levels=[0.7], paths=100)
    answer = simulation.SimulateGrowthResponse(years=[0.0, 1.0])
    for fraction in request.fractions:
        wealth = [1.0, 0.8, 1.0, 0.9, 1.0, 1.1, 1.0, 1.2, 1.0, 0.0]
        answer.fans.add(fraction=fraction, wealth=wealth, fell_below=[0.2 * fraction])
    page = tmp_path / "fan.html"
    write_fan(page, request, answer)
    found = traces(page)
    assert [item["name"] for item in found[:5]] == ["5 %", "25 %", "50 %", "75 %", "95 %"]
    assert found[1]["y"] == [1.0, 0.9]
    assert found[4]["y"] == [1.0, None], "nothing is left: no place on a log scale"
    assert [item["y"] for item in found[-2:]] == [[0.1], [0.2]]


def test_a_frontier_shows_what_is_held_along_it(tmp_path: Path) -> None:
    answer = optimization.TraceFrontierResponse(instrument_ids=["A", "B", "C"])
    answer.points.add(risk=0.01, expected_return=0.001, weights=[0.5, 0.5, 0.0])
    answer.points.add(risk=0.02, expected_return=0.002, weights=[1.0, 0.0, 0.0])
    page = tmp_path / "frontier.html"
    write_frontier(page, answer)
    line, *held = traces(page)
    assert (line["x"], line["y"]) == ([0.01, 0.02], [0.001, 0.002])
    assert [(item["name"], item["y"]) for item in held] == [("A", [0.5, 1.0]), ("B", [0.5, 0.0])]


def test_a_search_is_drawn_over_its_fields_without_ruined_trials(tmp_path: Path) -> None:
    answer = simulation.TuneParametersResponse(
        fields=["parameters.kelly_fraction", "limits.weight_max"],
        chosen=1,
        walk_forward_growth=[2e-4, 1e-4],
        base_growth=[1e-4, 1e-4],
        is_recommended=True,
    )
    answer.trials.add(values=[0.5, 0.1], objective=1e-4, plateau=1e-4)
    answer.trials.add(values=[0.3, 0.2], objective=4e-4, plateau=3e-4)
    answer.trials.add(values=[0.9, 0.9])
    page = tmp_path / "tuned.html"
    write_tuned(page, answer)
    both, *rest = traces(page)
    assert (both["x"], both["y"]) == ([0.5, 0.3], [0.1, 0.2])
    assert both["text"] == ["as it is: +1.00e-04", "trial 1, chosen: +3.00e-04"]
    assert [item["y"] for item in rest[:2]] == [[1e-4, 4e-4], [1e-4, 3e-4]]
    assert [item["y"] for item in rest[-2:]] == [[2e-4, 1e-4], [1e-4, 1e-4]]
