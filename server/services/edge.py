"""EdgeService: edges estimated from outcomes."""

import numpy as np
from positionsizing.v1 import edge_service_pb2 as pb

from compute.edge.estimate import EdgeEstimates, EdgeSettings, estimates_of, with_means
from compute.edge.shrinkage import (
    Means,
    Shrunk,
    contradicted,
    james_stein,
    with_prior,
    with_views,
)
from compute.history import Gaps, HistoryGapError, sample
from server.calls.errors import invalid, invalid_fields, precondition
from server.calls.long_work import in_thread
from server.calls.request_context import Call
from server.convert import edge as edge_convert
from server.convert.columns import Floats, floats
from server.convert.history import moment_of
from server.convert.names import checked_id, optional_moment, timestamp
from server.risk.histories import Read, Span, read
from server.sizing import stakes
from server.sizing.engine import SizingEngine
from storage.postgres.pool import Database


class EdgeService:
    """See `protos/positionsizing/v1/edge_service.proto`."""

    def __init__(self, database: Database, engine: SizingEngine) -> None:
        self._database = database
        self._engine = engine

    async def evaluate_stakes(
        self, call: Call, request: pb.EvaluateStakesRequest
    ) -> pb.EvaluateStakesResponse:
        """Kelly of one bet or asset."""
        if found := list(stakes.violations(request)):
            raise invalid_fields(found)
        kernels = self._engine.kernels
        return await self._engine.run(
            lambda _: stakes.evaluate_stakes(request, kernels), n_lines=1, call=call
        )

    async def estimate_edge(
        self, call: Call, request: pb.EstimateEdgeRequest
    ) -> pb.EstimateEdgeResponse:
        """Estimates edges; stores nothing."""
        if found := list(edge_convert.violations(request)):
            raise invalid_fields(found)
        ids, history = list(request.instrument_ids), None
        if request.universe_id:
            span = Span(
                optional_moment(request, "start_time", ""),
                optional_moment(request, "as_of_time", ""),
                optional_moment(request, "known_time", ""),
            )
            universe_id = checked_id(request.universe_id, "universe_id")
            history = await read(self._database, call, universe_id, span, ids)
            ids = list(history.table.instrument_ids)
        return await in_thread(call, lambda: _estimated(request, ids, history))


def _estimated(
    request: pb.EstimateEdgeRequest, ids: list[str], history: Read | None
) -> pb.EstimateEdgeResponse:
    settings, side = edge_convert.settings_of(request), edge_convert.sides_of(request, len(ids))
    response = pb.EstimateEdgeResponse()
    together: Floats | None = None
    if history is None:
        outcomes = edge_convert.outcomes_of(request)
    else:
        together, times = _returns(request, history)
        response.first_observation_time.CopyFrom(timestamp(moment_of(int(times[0]))))
        response.last_observation_time.CopyFrom(timestamp(moment_of(int(times[-1]))))
        response.known_time.CopyFrom(timestamp(history.known))
        together = together * side
        outcomes = [column[~np.isnan(column)] for column in together.T]
        for name, column in zip(ids, outcomes, strict=True):
            if len(column) < edge_convert.OUTCOMES_MIN:
                text = f"{name!r} has {len(column)} returns in the history; at least 2 are needed"
                raise precondition("TOO_FEW_OUTCOMES", text)
    found = estimates_of(outcomes, settings)
    means = Means(found.mean, _covariance(found, together, settings))
    shrunk = Shrunk(means, 0.0, 0.0)
    if request.mean_shrinkage == pb.MEAN_SHRINKAGE_JAMES_STEIN:
        shrunk = james_stein(means)
        response.shrinkage_centre, response.shrinkage_intensity = shrunk.centre, shrunk.intensity
    joined = _joined(request, ids, side, shrunk.means)
    if joined is not means:
        found = with_means(found, joined.mean, joined.error, settings)
    response.estimates.CopyFrom(edge_convert.message_of(ids, found))
    return response


def _returns(request: pb.EstimateEdgeRequest, history: Read) -> tuple[Floats, np.ndarray]:
    """Returns (T, n), NaN where an instrument has none, and their times."""
    gaps = Gaps(request.gap_policy or Gaps.PAIRWISE)
    if gaps is Gaps.PAIRWISE and len(history.table.times) < edge_convert.OUTCOMES_MIN:
        raise precondition("HISTORY_GAPS", "the history has one observation; at least 2 are needed")
    try:
        return sample(history.table, is_prices=history.is_prices, gaps=gaps)
    except HistoryGapError as error:
        raise precondition("HISTORY_GAPS", str(error)) from error


def _covariance(found: EdgeEstimates, together: Floats | None, settings: EdgeSettings) -> Floats:
    """Covariance of the errors of the means, (n, n): correlated where outcomes are of one time."""
    error = found.mean_error
    out: Floats = np.diag(error**2)
    if together is None or len(error) < 2:
        return out
    whole = together[~np.isnan(together).any(axis=1)]
    if len(whole) < edge_convert.OUTCOMES_MIN + 1:
        return out
    deviation = whole.std(axis=0)
    moves = np.flatnonzero(deviation > 0.0)
    correlation = np.eye(len(error))
    if len(moves) > 1:
        correlation[np.ix_(moves, moves)] = np.corrcoef(whole[:, moves], rowvar=False)
    out = correlation * np.outer(error, error)
    return out


def _joined(request: pb.EstimateEdgeRequest, ids: list[str], side: Floats, means: Means) -> Means:
    """The means joined with prior and views, which speak of the instruments' own returns."""
    n = len(request.prior_mean)
    prior = (side if n else np.zeros(0)) * floats(request.prior_mean)
    prior_error = floats(request.prior_error)
    if n:
        means = with_prior(means, prior, prior_error)
    if not len(request.views):
        return means
    place = {name: i for i, name in enumerate(ids)}
    rows = np.zeros((len(request.views), len(ids)))
    for number, view in enumerate(request.views):
        for i, (name, value) in enumerate(zip(view.instrument_ids, view.coefficients, strict=True)):
            if name not in place:
                text = f"{name!r} is not among the instruments that are estimated"
                raise invalid(f"views[{number}].instrument_ids[{i}]", "UNKNOWN_INSTRUMENT", text)
            rows[number, place[name]] = value * side[place[name]]
    told = np.array([view.expected_return for view in request.views])
    error = np.array([view.error for view in request.views])
    everything = (
        np.concatenate([np.eye(len(ids))[:n], rows]),
        np.concatenate([prior, told]),
        np.concatenate([prior_error, error]),
    )
    if (wrong := contradicted(*everything)) is not None:
        text = "is certain, as its error is 0, and ruled out by what is certain before it"
        raise invalid(f"views[{wrong - n}].expected_return", "CONTRADICTORY", text)
    return with_views(means, rows, told, error)
