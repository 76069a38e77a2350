"""HistoryService: price and return histories, point in time."""

import hashlib
from datetime import UTC

from positionsizing.v1 import history_service_pb2 as pb

from server.calls.errors import invalid_fields
from server.calls.long_work import in_thread
from server.calls.request_context import Call, first_delivery
from server.convert import history as history_convert
from server.convert.market import instrument_violations
from server.convert.names import (
    checked_id,
    name,
    optional_moment,
    page_size,
    page_start,
    page_token,
    past_moment,
    timestamp,
)
from server.risk.histories import Span, read
from storage.postgres import histories
from storage.postgres.pool import Database


class HistoryService:
    """See `protos/positionsizing/v1/history_service.proto`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put_history(self, call: Call, request: pb.PutHistoryRequest) -> pb.PutHistoryResponse:
        """Stores a part; the same one again is no error."""
        part = request.history
        found = await in_thread(call, lambda: list(history_convert.violations(part, "history")))
        if found:
            raise invalid_fields(found)
        payload = part.SerializeToString(deterministic=True)
        known = None
        if part.HasField("known_time"):
            known = past_moment(part.known_time, "history.known_time")
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await first_delivery(connection, call)
            stored = await histories.put_part(
                connection,
                call.tenant_id,
                part.universe_id,
                kind=pb.HistoryKind.Name(part.kind).removeprefix("HISTORY_KIND_"),
                known_time=known,
                first_time=part.observation_times[0].ToDatetime(tzinfo=UTC),
                last_time=part.observation_times[-1].ToDatetime(tzinfo=UTC),
                instrument_id=tuple(part.instrument_ids),
                digest=hashlib.sha256(payload).digest(),
                payload=payload,
            )
        return pb.PutHistoryResponse(
            universe_id=part.universe_id,
            part_sequence=stored.sequence,
            known_time=timestamp(stored.known_time),
            instrument_count=len(part.instrument_ids),
            observation_count=len(part.observation_times),
            missing_count=len(part.missing),
        )

    async def get_history(self, call: Call, request: pb.GetHistoryRequest) -> pb.GetHistoryResponse:
        """A history as it was known at a moment."""
        universe_id = checked_id(request.universe_id, "universe_id")
        ids = tuple(request.instrument_ids)
        if ids and (found := list(instrument_violations(ids, "instrument_ids"))):
            raise invalid_fields(found)
        span = Span(
            optional_moment(request, "start_time", ""),
            optional_moment(request, "as_of_time", ""),
            optional_moment(request, "known_time", ""),
        )
        history = await read(self._database, call, universe_id, span, ids)

        def work() -> pb.History:
            return history_convert.message_of(
                universe_id, history.kind, history.known, history.table
            )

        return pb.GetHistoryResponse(
            history=await in_thread(call, work), part_count=history.n_parts
        )

    async def list_histories(
        self, call: Call, request: pb.ListHistoriesRequest
    ) -> pb.ListHistoriesResponse:
        """Universes by name."""
        size = page_size(request.page_size)
        start = page_start(request, name)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await histories.list_universes(
                connection, call.tenant_id, after="" if start is None else start[0], limit=size + 1
            )
        response = pb.ListHistoriesResponse(
            histories=[
                pb.HistorySummary(
                    universe_id=row.universe_id,
                    kind=pb.HistoryKind.Value(f"HISTORY_KIND_{row.kind}"),
                    part_count=row.n_parts,
                    instrument_count=row.n_instruments,
                    first_observation_time=timestamp(row.first_time),
                    last_observation_time=timestamp(row.last_time),
                    known_time=timestamp(row.known_time),
                )
                for row in rows[:size]
            ]
        )
        if len(rows) > size:
            response.next_page_token = page_token(request, rows[size - 1].universe_id)
        return response
