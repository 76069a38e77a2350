"""Forecast returns of recorded decisions against what came: from messages to scores and back."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import sizing_pb2, types_pb2

from compute.analytics.return_forecasts import (
    INTERVAL,
    QUANTILES,
    ReturnForecast,
    Scores,
    ensemble_scores,
    normal_scores,
    return_forecast,
)
from compute.market import Floats, Integers
from compute.optimize.time_limit import checkpoint
from compute.waterfall.layout import Source
from server.calls.long_work import in_thread
from server.calls.request_context import Call
from server.convert.columns import floats, integers
from server.convert.matrix import MatrixData
from server.convert.request import sources
from server.convert.simulation_answer import interval
from storage.errors import NotFound

SEED = 0
"""Of the places within the steps of ensembles; the same decisions have the same scores."""


@dataclass(frozen=True)
class Forecast:
    """What the lines of a decision were said to return, and what they did.

    rows: places of the lines in the request. outcome: simple return on the line's side, (rows,).
    """

    signals: sizing_pb2.SignalBatch
    edges: sizing_pb2.EdgeEstimates
    scenario_matrix_id: str
    rows: Integers
    outcome: Floats


async def read_scores(
    call: Call, forecasts: Sequence[Forecast], matrix: Callable[[str], Awaitable[MatrixData]]
) -> list[Scores]:
    """Scores of the lines of each decision, in order, a matrix of scenarios in memory at a time.

    matrix: reads one; lines whose matrix is no longer there are not scored.
    """
    generator = np.random.Generator(np.random.Philox(SEED))
    scores: list[Scores] = []
    for forecast in forecasts:
        scenarios = None
        if _needs_scenarios(forecast):
            try:
                scenarios = await matrix(forecast.scenario_matrix_id)
            except NotFound:
                scenarios = None
        work = partial(scores_of, forecast, scenarios, generator)
        scores += await in_thread(call, work)
    return scores


def scores_of(
    forecast: Forecast, scenarios: MatrixData | None, generator: np.random.Generator
) -> list[Scores]:
    """Scores of the lines of one decision, a group of lines each; none of bets."""
    checkpoint()
    source = _sources(forecast)
    given = source == Source.RETURN_VOLATILITY
    stored = source == Source.STORED_HISTORY
    found = []
    if given.any():
        told = forecast.signals
        found.append(_normal(told.expected_return, told.volatility, forecast, given))
    if stored.any() and len(forecast.edges.mean):
        found.append(_normal(forecast.edges.mean, forecast.edges.volatility, forecast, stored))
    for place in np.flatnonzero(source == Source.HISTORY):
        members = _outcomes(forecast.signals, int(forecast.rows[place]))
        if len(members) > 1:
            equal = np.full(len(members), 1.0 / len(members))
            y = forecast.outcome[place : place + 1]
            found.append(ensemble_scores(members[:, None], equal, y, generator.random(1)))
    if scenarios is not None:
        found.append(_of_scenarios(forecast, source, scenarios, generator))
    return found


def message_of(scores: Sequence[Scores]) -> pb.ReturnForecast | None:
    """All of them as the contract has it; None where no line has a forecast."""
    found = return_forecast(scores)
    return None if found is None else _message(found)


def _needs_scenarios(forecast: Forecast) -> bool:
    return bool(forecast.scenario_matrix_id) and bool(
        (_sources(forecast) == Source.SCENARIOS).any()
    )


def _sources(forecast: Forecast) -> Integers:
    n = len(forecast.signals.instrument_ids)
    return sources(forecast.signals, n, bool(forecast.scenario_matrix_id))[forecast.rows]


def _normal(
    mean: Sequence[float], deviation: Sequence[float], forecast: Forecast, lines: Integers
) -> Scores:
    """Scores of the lines whose deviation is known."""
    at = forecast.rows[lines]
    m, s, y = floats(mean)[at], floats(deviation)[at], forecast.outcome[lines]
    known = s > 0.0
    return normal_scores(m[known], s[known], y[known])


def _outcomes(signals: sizing_pb2.SignalBatch, row: int) -> Floats:
    """Past outcomes of a line, on its side."""
    end = int(integers(signals.history_length)[: row + 1].sum())
    return floats(signals.history_outcome)[end - signals.history_length[row] : end]


def _of_scenarios(
    forecast: Forecast, source: Integers, scenarios: MatrixData, generator: np.random.Generator
) -> Scores:
    """Scores of the lines that the matrix has."""
    column = {name: place for place, name in enumerate(scenarios.instrument_ids)}
    names = forecast.signals.instrument_ids
    lines = [
        place
        for place in np.flatnonzero(source == Source.SCENARIOS)
        if names[forecast.rows[place]] in column
    ]
    side = np.where(
        integers(forecast.signals.side)[forecast.rows[lines]] == types_pb2.SIDE_SHORT, -1.0, 1.0
    )
    at = [column[names[forecast.rows[place]]] for place in lines]
    members = side * scenarios.values[:, at]
    y = forecast.outcome[lines]
    return ensemble_scores(members, scenarios.probability, y, generator.random(len(lines)))


def _message(found: ReturnForecast) -> pb.ReturnForecast:
    return pb.ReturnForecast(
        lines=found.lines,
        ensembles=found.ensembles,
        crps=found.crps,
        crps_fair=found.crps_fair,
        crps_no_edge=found.crps_no_edge,
        edge_gain=interval(found.edge_gain),
        log_score=found.log_score,
        interval_probability=INTERVAL,
        interval_score=found.interval_score,
        interval_coverage=found.coverage,
        quantiles=[
            pb.QuantileScore(level=level, pinball=loss, below=share)
            for level, loss, share in zip(QUANTILES, found.pinball, found.below, strict=True)
        ],
        pit_bins=found.pit_bins.tolist(),
        pit_distance=found.pit_distance,
        pit_probability=found.pit_probability,
    )
