"""Pages that open without a network: what is drawn is what the answer says."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
from positionsizing.v1 import analytics_service_pb2 as analytics
from positionsizing.v1 import correlation_service_pb2 as correlation
from positionsizing.v1 import market_service_pb2 as market
from positionsizing.v1 import optimization_service_pb2 as optimization
from positionsizing.v1 import simulation_service_pb2 as simulation
from positionsizing.v1 import types_pb2
from scipy.cluster.hierarchy import dendrogram, linkage

from server.cli.backtest_page import write_backtest
from server.cli.correlation_page import branches, correlations, write_correlation
from server.cli.errors import CommandError
from server.cli.fan_page import write_fan
from server.cli.frontier_page import write_frontier
from server.cli.page import Output
from server.cli.performance_page import write_performance
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
    write_correlation(Output(page), matrix, answer)
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
    write_fan(Output(page), request, answer)
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
    write_frontier(Output(page), answer)
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
    write_tuned(Output(page), answer)
    both, *rest = traces(page)
    assert (both["x"], both["y"]) == ([0.5, 0.3], [0.1, 0.2])
    assert both["text"] == ["as it is: +1.00e-04", "trial 1, chosen: +3.00e-04"]
    assert [item["y"] for item in rest[:2]] == [[1e-4, 4e-4], [1e-4, 3e-4]]
    assert [item["y"] for item in rest[-2:]] == [[2e-4, 1e-4], [1e-4, 1e-4]]


def tables(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What is in a folder of tables; both files of each say the same."""
    found = {}
    for path in sorted(folder.glob("*.parquet")):
        frame = polars.read_parquet(path)
        text = polars.read_csv(path.with_suffix(".csv"), schema=frame.schema)
        assert text.rows() == frame.rows()
        found[path.stem] = frame.to_dicts()
    assert len(list(folder.iterdir())) == 2 * len(found)
    return found


def measured() -> simulation.RunBacktestResponse:
    """Two settings, one of them ruined, beside a benchmark."""
    days = ["2024-01-30", "2024-01-31", "2024-02-01"]
    answer = simulation.RunBacktestResponse(dates=days, history_hash="ab" * 32)
    answer.overfitting.trials = 2
    for name, equity in (("a", [100.0, 110.0, 99.0]), ("b", [100.0, 50.0, 0.0])):
        result = answer.results.add(name=name, equity=equity, gross_weight=[0.0, 0.5, 0.4])
        result.measures.total_return = equity[-1] / 100.0 - 1.0
        last = equity[2] / equity[1] - 1.0
        result.calendar_returns.add(year=2024, month=0, value=equity[2] / 100.0 - 1.0)
        for month in range(1, 13):
            item = result.calendar_returns.add(year=2024, month=month)
            if month == 1:
                item.value = equity[1] / 100.0 - 1.0
            elif month == 2:
                item.value = last
            else:
                item.undefined_reason = "NO_SESSION"
    answer.results[0].measures.sharpe = 1.5
    answer.benchmark.CopyFrom(
        simulation.BenchmarkResult(name="equal weights", wealth=[1, 1.1, 1.2])
    )
    answer.benchmark.calendar_returns.extend(answer.results[0].calendar_returns)
    return answer


def test_a_backtest_is_beside_its_benchmark_with_its_months_and_measures(tmp_path: Path) -> None:
    output = Output(tmp_path / "page.html", tmp_path / "tables")
    write_backtest(output, measured())
    found = tables(tmp_path / "tables")
    assert sorted(found) == ["drawdown", "gross_weight", "measures", "monthly_returns", "wealth"]
    wealth = [(row["series"], row["date"], row["wealth"]) for row in found["wealth"]]
    assert wealth[:3] == [
        ("a", "2024-01-30", 1.0),
        ("a", "2024-01-31", 1.1),
        ("a", "2024-02-01", 0.99),
    ]
    assert [row for row in wealth if row[0] == "b"] == [
        ("b", "2024-01-30", 1.0),
        ("b", "2024-01-31", 0.5),
    ], "nothing is left: no place on a log scale"
    assert wealth[-1] == ("equal weights", "2024-02-01", 1.2)
    falls = {row["series"]: row["drawdown"] for row in found["drawdown"]}
    assert falls == pytest.approx({"a": -0.1, "b": -0.5, "equal weights": 0.0})
    months = {(row["series"], row["year"], row["month"]): row for row in found["monthly_returns"]}
    assert len(months) == 3 * 13
    assert months["a", "2024", "Feb"]["value"] == pytest.approx(-0.1)
    assert months["b", "2024", "Year"]["value"] == -1.0
    empty = months["a", "2024", "Mar"]
    assert (empty["value"], empty["label"]) == (None, "no session")
    measures = {(row["series"], row["measure"]): row for row in found["measures"]}
    assert measures["a", "sharpe"]["value"] == 1.5
    missing = measures["b", "sharpe"]
    assert (missing["value"], missing["undefined_reason"]) == (None, "returns don't vary")
    assert all(row["convention"] for row in found["measures"])
    html = (tmp_path / "page.html").read_text()
    for words in ("equal weights: returns by month", "n - 1, a year", "(returns don't vary)"):
        assert words in html or words.replace("'", "\\u0027") in html


def test_every_page_is_tables_of_what_it_draws(tmp_path: Path) -> None:
    fan = simulation.SimulateGrowthResponse(years=[0.0, 1.0])
    fan.fans.add(fraction=0.5, wealth=[1, 0.8, 1, 0.9, 1, 1.1, 1, 1.2, 1, 0.0], fell_below=[0.1])
    asked = simulation.SimulateGrowthRequest(fractions=[0.5], levels=[0.7], paths=100)
    write_fan(Output(tables=tmp_path / "fan"), asked, fan)
    found = tables(tmp_path / "fan")
    assert found["wealth_0.5"][-1] == {"series": "95 %", "years": 1.0, "wealth": None}
    assert found["wealth_0.5"][3] == {"series": "25 %", "years": 1.0, "wealth": 0.9}
    assert found["fell_below"] == [{"series": "fraction 0.5", "level": "0.7", "probability": 0.1}]

    frontier = optimization.TraceFrontierResponse(instrument_ids=["A", "B"])
    frontier.points.add(risk=0.01, expected_return=0.001, weights=[0.5, 0.5])
    write_frontier(Output(tables=tmp_path / "frontier"), frontier)
    found = tables(tmp_path / "frontier")
    assert found["frontier"] == [{"series": "frontier", "risk": 0.01, "expected_return": 0.001}]
    assert [row["series"] for row in found["weights"]] == ["A", "B"]

    matrix = market.Matrix(matrix_id="c", instrument_ids=["A", "B"])
    matrix.dense.values.extend([4.0, 3.0, 3.0, 9.0])
    clusters = correlation.ClusterInstrumentsResponse(
        instrument_ids=["B", "A"], cluster=[1, 1], cluster_count=1, left=[0], right=[1],
        distance=[0.5],
    )  # fmt: skip
    write_correlation(Output(tables=tmp_path / "correlation"), matrix, clusters)
    found = tables(tmp_path / "correlation")
    pairs = {
        (row["instrument_id"], row["other_instrument_id"]): row["value"]
        for row in found["correlation"]
    }
    assert pairs == {("A", "A"): 1.0, ("A", "B"): 0.5, ("B", "A"): 0.5, ("B", "B"): 1.0}
    assert [row["distance"] for row in found["tree"]] == [0.0, 0.5, 0.5, 0.0]

    tuned = simulation.TuneParametersResponse(fields=["f", "g"], base_growth=[1e-4])
    tuned.walk_forward_growth.append(2e-4)
    tuned.trials.add(values=[0.5, 0.1], objective=1e-4, plateau=3e-4)
    write_tuned(Output(tables=tmp_path / "tuned"), tuned)
    found = tables(tmp_path / "tuned")
    assert sorted(found) == ["map", "walk_forward", "worth_f", "worth_g"]
    (point,) = found["map"]
    assert (point["f"], point["g"], point["value"]) == (0.5, 0.1, 3e-4)
    assert [row["log_growth"] for row in found["walk_forward"]] == [2e-4, 1e-4]

    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(CommandError, match="is a file"):
        write_frontier(Output(tables=file), frontier)


def test_what_decisions_were_worth_is_a_page_and_its_tables(tmp_path: Path) -> None:
    answer = analytics.AnalyzeDecisionsResponse(decisions=3, lines=6)
    ledger = answer.stage_growth
    ledger.first_stage, ledger.start = types_pb2.SIZING_STAGE_RAW_KELLY, 0.05
    ledger.stages.extend([types_pb2.SIZING_STAGE_KELLY_FRACTION, types_pb2.SIZING_STAGE_LOTS])
    ledger.steps.extend([-0.02, 0.001])
    other = answer.counterfactuals.add(name="nothing")
    other.difference.mean, other.difference.low, other.difference.high = 0.01, -0.01, 0.02
    answer.counterfactuals.add(name="equal").difference.mean = 0.02  # too few for an interval
    answer.bet_forecast.bins.add(claimed=0.55, won=0.5, count=6)
    answer.return_forecast.pit_bins.extend([1, 2, 3])
    answer.attribution.groups.add(group="tech", allocation=0.01, selection=-0.02)
    answer.shortfall.execution, answer.shortfall.fees = 5.0, 2.0
    write_performance(Output(tmp_path / "page.html", tmp_path / "tables"), answer, "demo")
    found = tables(tmp_path / "tables")
    growth = [row["growth"] for row in found["stage_growth"]]
    assert growth == pytest.approx([0.05, -0.02, 0.001, 0.031])
    assert found["stage_growth"][-1]["stage"] == "chosen"
    sizes = {row["size"]: row for row in found["other_sizes"]}
    assert (sizes["nothing"]["low"], sizes["nothing"]["high"]) == pytest.approx((-0.01, 0.02))
    assert (sizes["equal"]["difference"], sizes["equal"]["low"]) == (0.02, None)
    assert found["calibration"][0]["label"] == "6 lines"
    assert [row["lines"] for row in found["return_forecasts"][:3]] == [1, 2, 3]
    assert {row["series"]: row["return"] for row in found["attribution"]} == {
        "allocation": 0.01,
        "selection": -0.02,
    }
    assert [row["money"] for row in found["shortfall"]] == [5.0, 0.0, 2.0]
    assert len(traces(tmp_path / "page.html")) == 9
