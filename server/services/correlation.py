"""CorrelationService: matrices estimated from histories, and clusters."""

import numpy as np
from positionsizing.v1 import correlation_service_pb2 as pb
from positionsizing.v1 import market_service_pb2

from compute.correlation.clusters import clustered, mean_correlations
from compute.correlation.linkage import Linkage
from compute.correlation.sample import correlation_of
from server.calls.errors import invalid, invalid_fields
from server.calls.long_work import in_thread
from server.calls.request_context import Call
from server.convert.columns import Floats
from server.convert.market import instrument_violations
from server.convert.names import checked_id
from server.portfolios.state import States
from server.risk import hierarchy
from server.risk.matrix_refresh import MatrixRefreshes

_SQUARE = (market_service_pb2.MATRIX_KIND_COVARIANCE, market_service_pb2.MATRIX_KIND_CORRELATION)


class CorrelationService:
    """See `protos/positionsizing/v1/correlation_service.proto`."""

    def __init__(self, states: States, refreshes: MatrixRefreshes) -> None:
        self._states = states
        self._refreshes = refreshes

    async def estimate_matrix(
        self, call: Call, request: pb.EstimateMatrixRequest
    ) -> pb.EstimateMatrixResponse:
        """Estimates a matrix and stores it."""
        return await self._refreshes.estimate(call, request)

    async def list_matrix_refreshes(
        self, call: Call, request: pb.ListMatrixRefreshesRequest
    ) -> pb.ListMatrixRefreshesResponse:
        """Matrices that are estimated again by themselves."""
        del request
        return await self._refreshes.listed(call)

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

        return await in_thread(call, work)

    async def allocate_by_hierarchy(
        self, call: Call, request: pb.AllocateByHierarchyRequest
    ) -> pb.AllocateByHierarchyResponse:
        """Weights by HRP, HERC or NCO, bounds kept."""
        matrix_id = checked_id(request.matrix_id, "matrix_id")
        stored = await self._states.matrix(call.tenant_id, matrix_id)
        return await in_thread(call, lambda: hierarchy.allocated(request, stored))


def _clusters(
    ids: tuple[str, ...], correlation: Floats, linkage: "pb.Linkage.ValueType", count: int
) -> pb.ClusterInstrumentsResponse:
    found = clustered(correlation, Linkage(linkage).method, count)
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
