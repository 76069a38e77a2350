"""Matrices that are estimated again by the service when the history of their universe moves.

`EstimateMatrix` with `refresh` begins it; the maintenance tasks look for histories with new parts.
A failure is kept with the matrix, logged, and tried again when the history moves the next time: the
matrix before stays the latest, until its age is beyond what the parameters allow.
"""

import time

import structlog
from positionsizing.v1 import correlation_service_pb2 as pb
from positionsizing.v1 import market_service_pb2

from server.auth.identity import Identity
from server.calls.errors import Refusal, invalid
from server.calls.request_context import Call
from server.convert.names import checked_id, timestamp
from server.portfolios.state import States
from server.risk.matrix_estimate import estimate_matrix
from storage.errors import StorageError
from storage.postgres import matrix_refreshes
from storage.postgres.pool import Database
from storage.postgres.tenancy import ALL_TENANTS

_log = structlog.get_logger(__name__)

DEADLINE_S = 120.0
_FIXED = ("as_of_time", "known_time", "matrix_id")
"""What says which history or which matrix, and so leaves nothing to be done again."""


class MatrixRefreshes:
    """Estimates matrices, now and when their histories move."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states

    async def estimate(
        self, call: Call, request: pb.EstimateMatrixRequest
    ) -> pb.EstimateMatrixResponse:
        """Estimates a matrix; with `refresh` again from then on, or no longer. Raises `Refusal`."""
        universe_id = checked_id(request.universe_id, "universe_id")
        kept, tenant_id = request.refresh, call.tenant_id
        given = {field.name for field, _ in request.ListFields()}
        for name in _FIXED:
            if kept and name in given:
                raise invalid(name, "NOT_APPLICABLE", "fixes what is estimated; not with refresh")
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            # Before the history is read: a part that arrives meanwhile is looked at again.
            parts = await matrix_refreshes.history_parts(connection, tenant_id, universe_id)
        said = request.HasField("refresh")
        request.ClearField("refresh")  # the matrix is the same, and so is its id
        response = await estimate_matrix(self._database, self._states, call, request)
        if said:
            kind = _kind(request)
            async with self._database.transaction(
                call.tenant_id, deadline_s=call.left_s
            ) as connection:
                if kept:
                    await matrix_refreshes.put(
                        connection,
                        tenant_id,
                        universe_id,
                        kind,
                        request=request.SerializeToString(deterministic=True),
                        history_parts=parts,
                        matrix_id=response.matrix_id,
                    )
                else:
                    await matrix_refreshes.remove(connection, tenant_id, universe_id, kind)
        return response

    async def listed(self, call: Call) -> pb.ListMatrixRefreshesResponse:
        """All of the tenant's."""
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await matrix_refreshes.of_tenant(connection, call.tenant_id)
        response = pb.ListMatrixRefreshesResponse()
        for row in rows:
            response.refreshes.add(
                request=pb.EstimateMatrixRequest.FromString(row.request),
                matrix_id=row.matrix_id,
                failure=row.failure,
                update_time=timestamp(row.update_time),
            )
        return response

    async def run_due(self) -> int:
        """Estimates again what has a newer history; how many."""
        async with self._database.connection(ALL_TENANTS, deadline_s=DEADLINE_S) as connection:
            tenants = await matrix_refreshes.tenants_due(connection)
        return sum([await self._run_due(tenant_id) for tenant_id in tenants])

    async def _run_due(self, tenant_id: str) -> int:
        count = 0
        while True:
            async with self._database.transaction(tenant_id, deadline_s=DEADLINE_S) as connection:
                due = await matrix_refreshes.claim_due(connection, tenant_id, DEADLINE_S)
                if due is None:
                    return count
                refresh, parts = due
                matrix_id, failure = await self._again(tenant_id, refresh.request)
                await matrix_refreshes.done(
                    connection,
                    tenant_id,
                    refresh,
                    history_parts=parts,
                    matrix_id=matrix_id,
                    failure=failure,
                )
            count += 1

    async def _again(self, tenant_id: str, content: bytes) -> tuple[str, str]:
        """The new matrix, or why there is none."""
        request = pb.EstimateMatrixRequest.FromString(content)
        call = Call(
            identity=Identity(tenant_id, "service:matrix-refresh", frozenset()),
            deadline=time.monotonic() + DEADLINE_S,
        )
        try:
            response = await estimate_matrix(self._database, self._states, call, request)
        except (Refusal, StorageError) as error:
            _log.warning(
                "a matrix is not estimated again",
                tenant_id=tenant_id,
                universe_id=request.universe_id,
                error=str(error),
            )
            return "", str(error)
        return response.matrix_id, ""


def _kind(request: pb.EstimateMatrixRequest) -> str:
    kind = request.kind or market_service_pb2.MATRIX_KIND_COVARIANCE
    return market_service_pb2.MatrixKind.Name(kind).removeprefix("MATRIX_KIND_")
