"""CorrelationService: matrices estimated from histories, and clusters."""

import asyncio

import numpy as np
from positionsizing.v1 import correlation_service_pb2 as pb
from positionsizing.v1 import market_service_pb2

from compute.correlation.clusters import clustered, mean_correlations
from compute.correlation.sample import correlation_of
from server import hierarchy
from server.convert.columns import Floats
from server.convert.market import instrument_violations, matrix_violations
from server.convert.names import checked_id, optional_id, timestamp
from server.errors import invalid, invalid_fields, precondition
from server.estimation import estimated, kinds_fit
from server.histories import Span, optional_moment, read
from server.matrices import store_matrix
from server.request_context import Call
from server.state import States
from storage.postgres.pool import Database

_SQUARE = (market_service_pb2.MATRIX_KIND_COVARIANCE, market_service_pb2.MATRIX_KIND_CORRELATION)
_RANGES = {
    "held_out_fraction": (0.01, 0.5),
    "settings.decay": (0.5, 0.9999),
    "settings.stress_fraction": (0.001, 0.9),
}


class CorrelationService:
    """See `protos/positionsizing/v1/correlation_service.proto`."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states

    async def estimate_matrix(
        self, call: Call, request: pb.EstimateMatrixRequest
    ) -> pb.EstimateMatrixResponse:
        """Estimates a matrix and stores it."""
        universe_id = checked_id(request.universe_id, "universe_id")
        optional_id(request.matrix_id, "matrix_id")
        _check(request)
        span = Span(
            optional_moment(request, "start_time", ""),
            optional_moment(request, "as_of_time", ""),
            optional_moment(request, "known_time", ""),
        )
        wanted = list(request.instrument_ids)
        if wanted:
            wanted += [name for name in request.factor_ids if name not in set(wanted)]
        history = await read(self._database, call, universe_id, span, wanted)
        for place, name in enumerate(request.factor_ids):
            if name not in history.table.instrument_ids:
                text = f"{name!r} is not in the history of {universe_id!r} at that time"
                raise invalid(f"factor_ids[{place}]", "UNKNOWN_INSTRUMENT", text)

        def work() -> market_service_pb2.Matrix:
            matrix = estimated(request, history)
            if found := list(matrix_violations(matrix, "matrix")):
                raise precondition("NOT_ESTIMABLE", f"{found[0].field}: {found[0].description}")
            return matrix

        matrix = await asyncio.to_thread(work)
        stored = await store_matrix(self._database, self._states, call, matrix)
        return pb.EstimateMatrixResponse(
            matrix_id=stored.matrix_id,
            create_time=timestamp(stored.create_time),
            as_of_time=matrix.as_of_time,
            instrument_count=len(matrix.instrument_ids),
            provenance=matrix.provenance,
        )

    async def cluster_instruments(
        self, call: Call, request: pb.ClusterInstrumentsRequest
    ) -> pb.ClusterInstrumentsResponse:
        """Clusters the instruments of a stored matrix."""
        matrix_id = checked_id(request.matrix_id, "matrix_id")
        if request.linkage not in pb.Linkage.values():
            raise invalid("linkage", "UNKNOWN_VALUE", "is not known")
        stored = await self._states.matrix(call.tenant_id, matrix_id)
        if stored.kind not in _SQUARE:
            text = "names scenarios; a correlation or covariance is needed"
            raise invalid("matrix_id", "WRONG_KIND", text)
        ids = tuple(request.instrument_ids) or stored.instrument_ids
        if found := list(instrument_violations(ids, "instrument_ids")):
            raise invalid_fields(found)
        place = {name: i for i, name in enumerate(stored.instrument_ids)}
        for i, name in enumerate(ids):
            if name not in place:
                text = f"{name!r} is not in the matrix {matrix_id!r}"
                raise invalid(f"instrument_ids[{i}]", "UNKNOWN_INSTRUMENT", text)
        if not 0 <= request.cluster_count <= len(ids):
            text = f"is {request.cluster_count}; it must be from 0 to {len(ids)}"
            raise invalid("cluster_count", "OUT_OF_RANGE", text)
        places = [place[name] for name in ids]
        linkage = request.linkage or pb.LINKAGE_WARD

        def work() -> pb.ClusterInstrumentsResponse:
            correlation, _ = correlation_of(stored.values[np.ix_(places, places)])
            return _clusters(ids, correlation, linkage, request.cluster_count)

        return await asyncio.to_thread(work)

    async def allocate_by_hierarchy(
        self, call: Call, request: pb.AllocateByHierarchyRequest
    ) -> pb.AllocateByHierarchyResponse:
        """Weights by HRP or HERC, bounds kept."""
        matrix_id = checked_id(request.matrix_id, "matrix_id")
        stored = await self._states.matrix(call.tenant_id, matrix_id)
        return await asyncio.to_thread(lambda: hierarchy.allocated(request, stored))


def _clusters(
    ids: tuple[str, ...], correlation: Floats, linkage: "pb.Linkage.ValueType", count: int
) -> pb.ClusterInstrumentsResponse:
    found = clustered(correlation, hierarchy.LINKAGES[linkage], count)
    n = len(ids)
    rank = np.empty(n, dtype=np.int64)
    rank[found.order] = np.arange(n)
    nodes = found.tree[:, :2].astype(np.int64)
    leaf = nodes < n
    nodes[leaf] = rank[nodes[leaf]]
    within, between = mean_correlations(correlation, found.label)
    return pb.ClusterInstrumentsResponse(
        instrument_ids=[ids[i] for i in found.order],
        cluster=found.label[found.order].tolist(),
        cluster_count=found.count,
        left=nodes[:, 0].tolist(),
        right=nodes[:, 1].tolist(),
        distance=found.tree[:, 2].tolist(),
        correlation_within=within,
        correlation_between=between,
        linkage=linkage,
    )


def _check(request: pb.EstimateMatrixRequest) -> None:
    """Raises `Refusal` where the request is wrong by itself."""
    for name, names in (
        ("instrument_ids", request.instrument_ids),
        ("factor_ids", request.factor_ids),
    ):
        if names and (found := list(instrument_violations(names, name))):
            raise invalid_fields(found)
    for name, enum in (
        ("kind", market_service_pb2.MatrixKind),
        ("estimator", pb.CovarianceEstimator),
        ("indefinite_policy", market_service_pb2.IndefinitePolicy),
    ):
        if getattr(request, name) not in enum.values():
            raise invalid(name, "UNKNOWN_VALUE", "is not known")
    for path, (low, high) in _RANGES.items():
        owner, _, name = path.rpartition(".")
        message = request.settings if owner else request
        value = getattr(message, name)
        if message.HasField(name) and not low <= value <= high:  # type: ignore[arg-type]
            raise invalid(
                path, "OUT_OF_RANGE", f"is {value:g}; it must be from {low:g} to {high:g}"
            )
    for name in ("factor_count", "detoned_count"):
        if getattr(request.settings, name) < 0:
            raise invalid(f"settings.{name}", "OUT_OF_RANGE", "must be >= 0")
    kinds_fit(request)
