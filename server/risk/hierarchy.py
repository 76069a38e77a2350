"""Weights by the hierarchy of correlations, from a checked request and a stored covariance."""

import numpy as np
from positionsizing.v1 import correlation_service_pb2 as pb
from positionsizing.v1 import market_service_pb2

from compute.correlation.hierarchical import (
    bounded,
    hierarchical_equal_risk,
    hierarchical_risk_parity,
    nested_clusters,
)
from compute.correlation.linkage import Linkage
from server.calls.errors import invalid, invalid_fields, precondition
from server.convert.columns import Floats, floats, set_floats
from server.convert.market import instrument_violations
from server.convert.matrix import MatrixData

TOTAL_RANGE = (1e-6, 100.0)
_ROUNDING = 1e-14


def allocated(
    request: pb.AllocateByHierarchyRequest, stored: MatrixData
) -> pb.AllocateByHierarchyResponse:
    """The weights. Raises `Refusal` for what is wrong, and for bounds that leave no weights."""
    _check(request, stored)
    ids = tuple(request.instrument_ids) or stored.instrument_ids
    place = {name: i for i, name in enumerate(stored.instrument_ids)}
    places = [place[name] for name in ids]
    covariance = stored.values[np.ix_(places, places)]
    still = np.flatnonzero(~(np.diag(covariance) > 0.0))
    if len(still):
        raise precondition("NO_VARIANCE", f"{ids[int(still[0])]!r} has no variance")
    total = request.total if request.HasField("total") else 1.0
    lower = _bounds(request, "lower", len(ids), 0.0)
    upper = _bounds(request, "upper", len(ids), np.inf)
    crossed = np.flatnonzero(lower > upper)
    if len(crossed):
        first = int(crossed[0])
        text = f"is {lower[first]:g}, above upper[{first}] of {upper[first]:g}"
        raise invalid(f"lower[{first}]", "CONTRADICTORY", text)
    hrp = request.method == pb.HIERARCHY_METHOD_HRP
    linkage = Linkage(request.linkage or (Linkage.SINGLE if hrp else Linkage.WARD)).method
    if hrp:
        raw = hierarchical_risk_parity(covariance, linkage)
    elif request.method == pb.HIERARCHY_METHOD_NCO:
        raw = nested_clusters(covariance, linkage, request.cluster_count)
    else:
        raw = hierarchical_equal_risk(covariance, linkage, request.cluster_count)
    try:
        weights = bounded(total * raw, lower, np.minimum(upper, 2.0 * total + lower))
    except ValueError as error:
        raise precondition("INFEASIBLE_LIMITS", str(error)) from error
    parts = weights * (covariance @ weights)
    variance = float(parts.sum())
    if variance <= _ROUNDING * float(np.abs(weights) @ np.abs(covariance) @ np.abs(weights)):
        variance = 0.0  # what rounding leaves of a perfect hedge
    name = pb.HierarchyMethod.Name(request.method).removeprefix("HIERARCHY_METHOD_")
    response = pb.AllocateByHierarchyResponse(
        instrument_ids=ids,
        volatility=float(np.sqrt(variance)),
        variant=f"{name}, {linkage} linkage, condensed distances sqrt((1-rho)/2)",
    )
    set_floats(response, "weights", weights)
    if variance > 0.0:
        set_floats(response, "risk_share", parts / variance)
    return response


def _check(request: pb.AllocateByHierarchyRequest, stored: MatrixData) -> None:
    if stored.kind != market_service_pb2.MATRIX_KIND_COVARIANCE:
        raise invalid("matrix_id", "WRONG_KIND", "a covariance is needed")
    ids = tuple(request.instrument_ids) or stored.instrument_ids
    if found := list(instrument_violations(ids, "instrument_ids")):
        raise invalid_fields(found)
    known = set(stored.instrument_ids)
    for place, name in enumerate(ids):
        if name not in known:
            text = f"{name!r} is not in the matrix {request.matrix_id!r}"
            raise invalid(f"instrument_ids[{place}]", "UNKNOWN_INSTRUMENT", text)
    if not request.method or request.method not in pb.HierarchyMethod.values():
        raise invalid("method", "MISSING", "must be HRP, HERC or NCO")
    if request.linkage not in pb.Linkage.values():
        raise invalid("linkage", "UNKNOWN_VALUE", "is not known")
    if not 0 <= request.cluster_count <= len(ids):
        text = f"is {request.cluster_count}; it must be from 0 to {len(ids)}"
        raise invalid("cluster_count", "OUT_OF_RANGE", text)
    low, high = TOTAL_RANGE
    if request.HasField("total") and not low <= request.total <= high:
        text = f"is {request.total:g}; it must be from {low:g} to {high:g}"
        raise invalid("total", "OUT_OF_RANGE", text)


def _bounds(request: pb.AllocateByHierarchyRequest, name: str, n: int, default: float) -> Floats:
    column = getattr(request, name)
    if not len(column):
        return np.full(n, default)
    if len(column) != n:
        raise invalid(name, "LENGTH_MISMATCH", f"has {len(column)} entries for {n} instruments")
    values = floats(column)
    wrong = np.flatnonzero(~((values >= 0.0) & (values <= 100.0)))
    if len(wrong):
        place = int(wrong[0])
        text = f"is {values[place]:g}; it must be from 0 to 100"
        raise invalid(f"{name}[{place}]", "OUT_OF_RANGE", text)
    return values
