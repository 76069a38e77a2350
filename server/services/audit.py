"""AuditService: the chain of changes, to be read and verified."""

import grpc
from positionsizing.v1 import audit_service_pb2 as pb

from server.calls.errors import Refusal, invalid_fields
from server.calls.request_context import Call
from server.convert.names import page_size, page_start, page_token, position, timestamp
from server.convert.ranges import number_violations
from server.maintenance import audit, seals
from storage.postgres import audit as storage
from storage.postgres.audit import AuditEvent, Head
from storage.postgres.pool import Database

RECORDS_DEFAULT = 20_000
"""Of so many digests are recomputed in a second or a few."""
_ONE_STATE = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"


class AuditService:
    """See `protos/positionsizing/v1/audit_service.proto`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_audit_events(
        self, call: Call, request: pb.ListAuditEventsRequest
    ) -> pb.ListAuditEventsResponse:
        """Events, oldest first."""
        _check_grant(call)
        size = page_size(request.page_size)
        start = page_start(request, position)
        after = 0 if start is None else start[0]
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await storage.page(connection, call.tenant_id, after=after, limit=size + 1)
        response = pb.ListAuditEventsResponse(events=map(_message, rows[:size]))
        if len(rows) > size:
            response.next_page_token = page_token(request, rows[size - 1].sequence)
        return response

    async def verify_audit(
        self, call: Call, request: pb.VerifyAuditRequest
    ) -> pb.VerifyAuditResponse:
        """Recomputes the chain, and compares what it says with what is there."""
        _check_grant(call)
        if found := list(number_violations(request)):
            raise invalid_fields(found)
        noted = Head(request.noted.sequence, request.noted.hash)
        async with self._database.transaction(
            call.tenant_id, deadline_s=call.left_s, first_sql=_ONE_STATE
        ) as connection:
            given = noted if request.HasField("noted") else None
            report = await audit.verify(connection, call.tenant_id, given)
        return pb.VerifyAuditResponse(
            head=pb.AuditHead(sequence=report.head.sequence, hash=report.head.hash),
            faults=[pb.AuditFault(sequence=f.sequence, text=f.text) for f in report.faults],
        )

    async def verify_seals(
        self, call: Call, request: pb.VerifySealsRequest
    ) -> pb.VerifySealsResponse:
        """Recomputes seals over decisions and settlements."""
        _check_grant(call)
        if found := list(number_violations(request)):
            raise invalid_fields(found)
        report = await seals.verify(
            self._database,
            call.tenant_id,
            after=request.after,
            records_max=request.records_max or RECORDS_DEFAULT,
            deadline_s=call.left_s,
        )
        response = pb.VerifySealsResponse(
            last=report.last.sequence,
            records=report.records,
            faults=[pb.SealFault(sequence=f.sequence, text=f.text) for f in report.faults],
            is_last=report.is_all,
        )
        if report.last.sequence:
            response.sealed_until.CopyFrom(timestamp(report.last.end_time))
        return response


def _check_grant(call: Call) -> None:
    if not call.identity.has_all_portfolios:
        text = "audits are of the whole firm: they need a grant of all portfolios"
        raise Refusal(grpc.StatusCode.PERMISSION_DENIED, "PORTFOLIO_NOT_GRANTED", text)


def _message(event: AuditEvent) -> pb.AuditEvent:
    return pb.AuditEvent(
        sequence=event.sequence,
        create_time=event.create_time,
        table_name=event.table_name,
        row_key=event.row_key,
        document=event.document,
        previous=event.previous,
        hash=event.hash,
    )
