"""A matrix estimated from a stored history, checked and stored."""

from positionsizing.v1 import correlation_service_pb2 as pb
from positionsizing.v1 import market_service_pb2

from server.calls.errors import invalid, invalid_fields, precondition
from server.calls.long_work import in_thread
from server.calls.request_context import Call
from server.convert.estimator import settings_violations
from server.convert.market import instrument_violations
from server.convert.matrix import matrix_violations
from server.convert.names import checked_id, optional_id, optional_moment, timestamp
from server.convert.ranges import number_violations
from server.portfolios.state import States
from server.risk.estimation import estimated, kinds_fit
from server.risk.histories import Span, read
from server.risk.matrices import store_matrix
from storage.postgres.pool import Database

HELD_OUT = (0.01, 0.5)
"""Least and most of `held_out_fraction`."""


async def estimate_matrix(
    database: Database, states: States, call: Call, request: pb.EstimateMatrixRequest
) -> pb.EstimateMatrixResponse:
    """Estimates a matrix and stores it. Raises `Refusal`."""
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
    history = await read(database, call, universe_id, span, wanted)
    for place, name in enumerate(request.factor_ids):
        if name not in history.table.instrument_ids:
            text = f"{name!r} is not in the history of {universe_id!r} at that time"
            raise invalid(f"factor_ids[{place}]", "UNKNOWN_INSTRUMENT", text)

    def work() -> market_service_pb2.Matrix:
        matrix = estimated(request, history)
        if found := list(matrix_violations(matrix, "matrix", is_semidefinite=True)):
            raise precondition("NOT_ESTIMABLE", f"{found[0].field}: {found[0].description}")
        return matrix

    matrix = await in_thread(call, work)
    stored = await store_matrix(database, states, call, matrix)
    return pb.EstimateMatrixResponse(
        matrix_id=stored.matrix_id,
        create_time=timestamp(stored.create_time),
        as_of_time=matrix.as_of_time,
        instrument_count=len(matrix.instrument_ids),
        provenance=matrix.provenance,
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
    low, high = HELD_OUT
    value = request.held_out_fraction
    if request.HasField("held_out_fraction") and not low <= value <= high:
        text = f"is {value:g}; it must be from {low:g} to {high:g}"
        raise invalid("held_out_fraction", "OUT_OF_RANGE", text)
    wrong = list(number_violations(request.settings, "settings"))
    if wrong := wrong or list(settings_violations(request.settings, "settings")):
        raise invalid_fields(wrong)
    kinds_fit(request)
