"""Edges estimated from outcomes and from stored histories, through the RPCs."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import numpy as np
import pytest
from positionsizing.v1 import (
    edge_service_pb2,
    history_service_pb2,
    parameter_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.limits.test_limits_on_lots import put_matrix
from tests.server.support.service_client import Client, new_id, refusal, sizing_request

LONG, SHORT = types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT
NAMES = ["I0", "I1", "I2", "I3", "I4"]
START = datetime(2024, 1, 2, tzinfo=UTC)
Request = edge_service_pb2.EstimateEdgeRequest


async def put_returns(
    client: Client, universe_id: str, values: np.ndarray, first: int = 0
) -> history_service_pb2.PutHistoryResponse:
    """Stores daily returns, NaN where missing."""
    history = history_service_pb2.History(
        universe_id=universe_id,
        kind=history_service_pb2.HISTORY_KIND_RETURNS,
        instrument_ids=NAMES[: values.shape[1]],
        values=np.nan_to_num(values).ravel(),
        missing=np.flatnonzero(np.isnan(values.ravel())),
    )
    for day in range(len(values)):
        history.observation_times.add().FromDatetime(START + timedelta(days=first + day))
    request = history_service_pb2.PutHistoryRequest(history=history)
    return await client.history.PutHistory(request)


def estimate(**given: Any) -> edge_service_pb2.EstimateEdgeRequest:
    return Request(**given)


@pytest.mark.parametrize(
    ("prior", "wins", "losses", "f", "low", "high", "positive"),
    [
        (1.0, 6, 4, 1 / 6, -0.38419057, 0.66502381, 0.725586),
        (1.0, 60, 40, 0.1960784314, 0.00348816, 0.38138297, 0.976978),
        (10.0, 6, 4, 0.0666666667, -0.28612258, 0.41102883, 0.644464),
        (0.5, 55, 45, 0.0990099010, -0.09554202, 0.28984612, 0.841342),
    ],
)
async def test_bayesian_kelly_k7(
    client: Client,
    prior: float,
    wins: int,
    losses: int,
    f: float,
    low: float,
    high: float,
    positive: float,
) -> None:
    request = estimate(
        instrument_ids=["A"],
        history_outcome=[1.0] * wins + [-1.0] * losses,
        history_length=[wins + losses],
        prior_wins=prior,
        prior_losses=prior,
    )
    found = (await client.edge.EstimateEdge(request)).estimates
    assert list(found.instrument_ids) == ["A"]
    assert found.kelly[0] == pytest.approx(f, abs=1e-9)
    assert found.kelly_low[0] == pytest.approx(low, abs=1e-8)
    assert found.kelly_high[0] == pytest.approx(high, abs=1e-8)
    assert found.kelly_positive[0] == pytest.approx(positive, abs=6e-7)


async def test_a_stored_history_with_gaps_sides_shrinkage_prior_and_views(client: Client) -> None:
    rng = np.random.default_rng(2)
    values = rng.normal([0.004, 0.001, -0.002, 0.003, 0.0], 0.02, (60, 5))
    values[:10, 1] = np.nan
    universe_id = new_id("universe")
    await put_returns(client, universe_id, values)
    side = [LONG, LONG, SHORT, LONG, LONG]
    sign = np.where(np.array(side) == SHORT, -1.0, 1.0)
    asked: dict[str, Any] = {"instrument_ids": NAMES, "universe_id": universe_id, "side": side}
    plain = (await client.edge.EstimateEdge(estimate(**asked))).estimates
    assert list(plain.mean) == pytest.approx(sign * np.nanmean(values, axis=0))
    assert list(plain.observation_count) == [60, 50, 60, 60, 60]
    assert list(plain.volatility) == pytest.approx(np.nanstd(values, axis=0, ddof=1))

    shrinkage = edge_service_pb2.MEAN_SHRINKAGE_JAMES_STEIN
    answer = await client.edge.EstimateEdge(estimate(**asked, mean_shrinkage=shrinkage))
    error, mean = np.array(plain.mean_error), np.array(plain.mean)
    centre = float(np.average(mean, weights=error**-2))
    share = min(1.0, 2 / float((((mean - centre) / error) ** 2).sum()))
    assert answer.shrinkage_centre == pytest.approx(centre)
    assert answer.shrinkage_intensity == pytest.approx(share)
    assert list(answer.estimates.mean) == pytest.approx(centre + (1 - share) * (mean - centre))
    assert list(answer.estimates.mean_sample) == pytest.approx(mean)

    sure = edge_service_pb2.EdgeView(
        instrument_ids=["I2", "I0"], coefficients=[1.0, -1.0], expected_return=0.05, error=0.0
    )
    viewed = (await client.edge.EstimateEdge(estimate(**asked, views=[sure]))).estimates
    # I2 is short: its own return is the negative of the mean of the position.
    assert -viewed.mean[2] - viewed.mean[0] == pytest.approx(0.05)
    believed = estimate(**asked, prior_mean=[0.01] * 5, prior_error=list(error))
    joined = (await client.edge.EstimateEdge(believed)).estimates
    assert (np.array(joined.mean_error) < error).all()
    assert (np.abs(np.array(joined.mean) - sign * 0.01) < np.abs(mean - sign * 0.01) + 1e-12).any()


async def test_a_prior_is_weighed_by_its_error(client: Client) -> None:
    x = np.array([0.02, -0.01, 0.03, 0.0, 0.01])
    error = float(x.std(ddof=1) / np.sqrt(5))
    request = estimate(
        instrument_ids=["A"],
        history_outcome=x,
        history_length=[5],
        prior_mean=[0.0],
        prior_error=[error],
    )
    found = (await client.edge.EstimateEdge(request)).estimates
    assert found.mean[0] == pytest.approx(x.mean() / 2)
    assert found.mean_error[0] == pytest.approx(error / np.sqrt(2))
    assert found.mean_sample[0] == pytest.approx(x.mean())


def certain(mean: float) -> edge_service_pb2.EdgeView:
    """Of instrument A."""
    return edge_service_pb2.EdgeView(instrument_ids=["A"], coefficients=[1.0], expected_return=mean)


@pytest.mark.parametrize(
    ("given", "path", "reason"),
    [
        ({}, "universe_id", "MISSING"),
        ({"universe_id": "u", "history_length": [2]}, "universe_id", "AMBIGUOUS"),
        (
            {"history_length": [1], "history_outcome": [0.1]},
            "history_length[0]",
            "TOO_FEW_OUTCOMES",
        ),
        (
            {"history_length": [3], "history_outcome": [0.1] * 2},
            "history_length",
            "LENGTH_MISMATCH",
        ),
        ({"history_outcome": [0.1, -2.0]}, "history_outcome[1]", "OUT_OF_RANGE"),
        ({"history_outcome": [0.1, float("nan")]}, "history_outcome[1]", "NOT_FINITE"),
        ({"side": [LONG, LONG]}, "side", "LENGTH_MISMATCH"),
        ({"side": [0]}, "side[0]", "MISSING"),
        ({"half_life": 0.1}, "half_life", "OUT_OF_RANGE"),
        ({"prior_mean": [0.1]}, "prior_error", "LENGTH_MISMATCH"),
        ({"interval_probability": 1.0}, "interval_probability", "OUT_OF_RANGE"),
        ({"mean_shrinkage": 7}, "mean_shrinkage", "UNKNOWN_VALUE"),
        ({"gap_policy": 9}, "gap_policy", "UNKNOWN_VALUE"),
        (
            {"views": [edge_service_pb2.EdgeView(instrument_ids=["A"], coefficients=[1.0, 2.0])]},
            "views[0].coefficients",
            "LENGTH_MISMATCH",
        ),
        (
            {"views": [edge_service_pb2.EdgeView(instrument_ids=["B"], coefficients=[1.0])]},
            "views[0].instrument_ids[0]",
            "UNKNOWN_INSTRUMENT",
        ),
        (
            {"views": [certain(0.02), certain(0.01)]},
            "views[1].expected_return",
            "CONTRADICTORY",
        ),
        (
            {"views": [certain(0.02)], "prior_mean": [0.01], "prior_error": [0.0]},
            "views[0].expected_return",
            "CONTRADICTORY",
        ),
    ],
)
async def test_wrong_requests_are_refused_by_path(
    client: Client, given: dict[str, Any], path: str, reason: str
) -> None:
    usual: dict[str, Any] = {"instrument_ids": ["A"]}
    if path not in ("universe_id",):
        usual |= {"history_outcome": [0.1, -0.1], "history_length": [2]}
    found = await refusal(client.edge.EstimateEdge(estimate(**(usual | given))))
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert found.fields[path] == reason


async def test_what_is_not_stored_is_named(client: Client) -> None:
    found = await refusal(client.edge.EstimateEdge(estimate(universe_id="nowhere")))
    assert found.code is grpc.StatusCode.NOT_FOUND
    universe_id = new_id("universe")
    await put_returns(client, universe_id, np.full((3, 1), 0.01))
    request = estimate(universe_id=universe_id, instrument_ids=["I9"])
    found = await refusal(client.edge.EstimateEdge(request))
    assert found.fields == {"instrument_ids[0]": "UNKNOWN_INSTRUMENT"}
    whole = await client.edge.EstimateEdge(estimate(universe_id=universe_id))
    assert list(whole.estimates.instrument_ids) == ["I0"]
    assert whole.HasField("first_observation_time")


async def test_sizes_from_a_stored_history_are_those_of_its_returns(client: Client) -> None:
    rng = np.random.default_rng(9)
    values = np.where(rng.random((50, 2)) < 0.6, 0.03, -0.03)
    universe_id = new_id("universe")
    await put_returns(client, universe_id, values)
    portfolio_id = await client.ready(weight_max=50.0, leverage_max=100.0, allow_short=True)
    stored: dict[str, Any] = {
        "win_probability": [],
        "payoff": [],
        "side": [LONG, SHORT],
        "history_universe_id": universe_id,
    }
    made = await client.size(sizing_request(portfolio_id, ["I0", "I1"], stored))
    sent = stored | {
        "history_universe_id": "",
        "history_outcome": np.concatenate([values[:, 0], -values[:, 1]]),
        "history_length": [50, 50],
    }
    other = await client.size(sizing_request(portfolio_id, ["I0", "I1"], sent, validate_only=True))
    # The second request finds the first one reserved: the stakes before limits are alike.
    assert made.waterfall.stages[0].weight == other.waterfall.stages[0].weight
    assert made.edges == other.edges
    wins = int((values[:, 0] > 0).sum())
    assert made.edges.win_count[0] == wins
    assert made.edges.win_probability[0] == pytest.approx((wins + 1) / 52)
    assert made.edges.mean[1] == pytest.approx(-values[:, 1].mean())

    await put_returns(client, universe_id, np.full((10, 2), 0.05), first=50)
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=made.decision_id)
    )
    assert replay.lots_equal
    assert replay.replayed.edges == made.edges
    later = await client.size(
        sizing_request(portfolio_id, ["I0", "I1"], stored, validate_only=True)
    )
    assert later.edges.observation_count[0] == 60


async def test_lines_without_a_stored_history_are_refused_alone(client: Client) -> None:
    universe_id = new_id("universe")
    await put_returns(client, universe_id, np.array([[0.1], [-0.05], [0.1]]))
    portfolio_id = await client.ready()
    stored = sizing_pb2.EDGE_SOURCE_STORED_HISTORY
    signals = {
        "edge_source": [stored, stored, sizing_pb2.EDGE_SOURCE_WIN_LOSS],
        "history_universe_id": universe_id,
    }
    decision = await client.size(sizing_request(portfolio_id, ["I0", "I3", "I1"], signals))
    (error,) = decision.line_errors
    assert (error.field, error.reason) == ("signals.instrument_ids[1]", "NOT_IN_HISTORY")
    assert decision.sizes.lots[2] > 0
    assert decision.edges.kelly[1] == 0.0
    del signals["history_universe_id"]
    found = await refusal(client.size(sizing_request(portfolio_id, ["I0", "I3", "I1"], signals)))
    assert found.fields == {"signals.history_universe_id": "MISSING"}
    signals["history_universe_id"] = "nowhere"
    found = await refusal(client.size(sizing_request(portfolio_id, ["I0", "I3", "I1"], signals)))
    assert found.code is grpc.StatusCode.NOT_FOUND


async def test_edges_of_scenarios_and_given_ones_are_read_by_a_mask(client: Client) -> None:
    portfolio_id = await client.ready()
    values = np.tile(np.array([0.02] * 49 + [-0.5])[:, None], 8)
    matrix_id = await put_matrix(client, "SCENARIOS", values)
    signals = {
        "edge_source": [sizing_pb2.EDGE_SOURCE_SCENARIOS, sizing_pb2.EDGE_SOURCE_WIN_LOSS],
        "win_probability_error": [0.0, 0.05],
    }
    request = sizing_request(portfolio_id, ["I0", "I1"], signals, scenario_matrix_id=matrix_id)
    request.read_mask.paths.append("edges")
    decision = await client.size(request)
    assert not decision.HasField("sizes")
    edges = decision.edges
    assert list(edges.instrument_ids) == ["I0", "I1"]
    assert edges.kelly[0] == pytest.approx(0.96, abs=1e-9)
    assert edges.mean[0] == pytest.approx(0.98 * 0.02 - 0.01)
    assert edges.kelly_low[0] < 0.96 < edges.kelly_high[0]
    assert edges.kelly[1] == pytest.approx(0.2)
    assert edges.kelly_low[1] == pytest.approx(0.2 - 1.959964 * 2 * 0.05, abs=1e-6)
    assert edges.mean[1] == 0.0


async def test_given_edges_are_not_told_again(client: Client) -> None:
    decision = await client.size(sizing_request(await client.ready()))
    assert not decision.HasField("edges")


async def test_the_interval_is_that_of_the_parameters(client: Client) -> None:
    portfolio_id = await client.ready()
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(interval_probability=0.5),
        )
    )
    signals = {
        "win_probability": [],
        "payoff": [],
        "history_outcome": [1.0] * 6 + [-1.0] * 4,
        "history_length": [10],
    }
    edges = (await client.size(sizing_request(portfolio_id, ["I0"], signals))).edges
    assert -0.1 < edges.kelly_low[0] < 1 / 6 < edges.kelly_high[0] < 0.5
