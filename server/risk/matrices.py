"""Matrices written: once under their id, by a caller or by an estimate of the service."""

from positionsizing.v1 import market_service_pb2 as pb

from server.calls.request_context import Call, first_delivery
from server.convert.names import past_moment
from server.portfolios.state import States
from storage.errors import AlreadyExists, NotFound
from storage.postgres import matrices
from storage.postgres.pool import Database


async def store_matrix(
    database: Database, states: States, call: Call, matrix: pb.Matrix
) -> matrices.MarketMatrix:
    """Stores a checked matrix; the same one again is no error.

    Raises `AlreadyExists` where its id is taken by another.
    """
    payload = matrix.SerializeToString(deterministic=True)
    as_of_time = past_moment(matrix.as_of_time, "matrix.as_of_time")
    async with database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
        await first_delivery(connection, call)
        try:
            stored = await matrices.get(connection, call.tenant_id, matrix.matrix_id)
        except NotFound:
            stored = await matrices.put(
                connection,
                call.tenant_id,
                matrix.matrix_id,
                kind=pb.MatrixKind.Name(matrix.kind).removeprefix("MATRIX_KIND_"),
                as_of_time=as_of_time,
                instrument_id=tuple(matrix.instrument_ids),
                payload=payload,
                document={},
                universe_id=matrix.universe_id,
            )
    if stored.payload != payload:
        raise AlreadyExists("matrix", matrix.matrix_id)
    states.matrix_changed(call.tenant_id, matrix.universe_id)
    return stored
