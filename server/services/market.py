"""MarketService: versioned market data, written once."""

from positionsizing.v1 import corporate_action_pb2
from positionsizing.v1 import market_service_pb2 as pb

from server.calls.errors import invalid, invalid_fields, not_found
from server.calls.long_work import in_thread
from server.calls.request_context import Call, first_delivery
from server.convert.bars import has_bars
from server.convert.market import Snapshot, snapshot_violations
from server.convert.matrix import matrix_violations
from server.convert.names import (
    checked_id,
    instant,
    optional_id,
    page_size,
    page_start,
    page_token,
    past_moment,
    position,
    text_violations,
    timestamp,
)
from server.convert.price_jump import messages as price_jump_messages
from server.convert.provenance import semidefinite
from server.market import corporate_actions, price_jumps, regime_conditions, volatility
from server.portfolios.day_loss import DayLossMonitor
from server.portfolios.state import States
from server.risk.matrices import store_matrix
from storage.errors import AlreadyExists, NotFound
from storage.postgres import changes, market, matrices
from storage.postgres import corporate_actions as action_storage
from storage.postgres import price_jumps as price_jump_storage
from storage.postgres import volatility as volatility_storage
from storage.postgres.changes import Subject, SubjectKind
from storage.postgres.pool import Database
from storage.postgres.price_jumps import PriceJump


class MarketService:
    """See `protos/positionsizing/v1/market_service.proto`."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states
        self._days = DayLossMonitor(database, states)

    async def put_market_snapshot(
        self, call: Call, request: pb.PutMarketSnapshotRequest
    ) -> pb.PutMarketSnapshotResponse:
        """Stores a snapshot; the same one again is no error."""
        snapshot = request.snapshot
        if found := list(snapshot_violations(snapshot, "snapshot")):
            raise invalid_fields(found)
        payload = snapshot.SerializeToString(deterministic=True)
        as_of_time = past_moment(snapshot.as_of_time, "snapshot.as_of_time")
        try:
            async with self._database.transaction(
                call.tenant_id, deadline_s=call.left_s
            ) as connection:
                await first_delivery(connection, call)
                announced = await regime_conditions.announce(
                    connection, call.tenant_id, Snapshot(snapshot)
                )
                await volatility_storage.share(connection, call.tenant_id)
                jumped: list[PriceJump] = []
                if not request.confirm_prices:
                    jumped = await price_jumps.found(
                        connection, call.tenant_id, Snapshot(snapshot), as_of_time
                    )
                stored = await market.put_snapshot(
                    connection,
                    call.tenant_id,
                    snapshot.snapshot_id,
                    as_of_time=as_of_time,
                    instrument_id=tuple(snapshot.instrument_ids),
                    payload=payload,
                    has_bars=has_bars(snapshot),
                    universe_id=snapshot.universe_id,
                )
                await price_jump_storage.put(
                    connection, call.tenant_id, snapshot.snapshot_id, jumped
                )
                await volatility.observe(connection, call.tenant_id, stored, announced)
        except AlreadyExists:
            key = (call.tenant_id, snapshot.snapshot_id)
            async with self._database.transaction(
                call.tenant_id, deadline_s=call.left_s
            ) as connection:
                stored = await market.get_snapshot(connection, *key)
                if stored.payload != payload:
                    raise
                if request.confirm_prices and await price_jump_storage.accept(connection, *key):
                    subject = Subject(SubjectKind.MARKET_SNAPSHOT, snapshot.snapshot_id)
                    await changes.raise_version(connection, call.tenant_id, subject)
                jumped = await price_jump_storage.of_snapshot(connection, *key)
        self._states.changed(call.tenant_id)
        await self._days.marked(call, snapshot.universe_id)
        return pb.PutMarketSnapshotResponse(
            snapshot_id=stored.snapshot_id,
            create_time=timestamp(stored.create_time),
            instrument_count=len(stored.instrument_id),
            price_jumps=price_jump_messages(Snapshot(snapshot), jumped),
        )

    async def get_market_snapshot(
        self, call: Call, request: pb.GetMarketSnapshotRequest
    ) -> pb.GetMarketSnapshotResponse:
        """One snapshot, or the latest of a universe."""
        wanted = optional_id(request.snapshot_id, "snapshot_id")
        universe_id = optional_id(request.universe_id, "universe_id")
        if wanted and universe_id:
            text = "is of the latest; snapshot_id names one of whichever universe"
            raise invalid("universe_id", "NOT_APPLICABLE", text)
        snapshot = await self._states.snapshot_of(call.tenant_id, universe_id, wanted)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            jumped = await price_jump_storage.of_snapshot(
                connection, call.tenant_id, snapshot.snapshot_id
            )
        return pb.GetMarketSnapshotResponse(
            snapshot=snapshot.message,
            price_jumps=price_jump_messages(snapshot, jumped),
        )

    async def list_market_snapshots(
        self, call: Call, request: pb.ListMarketSnapshotsRequest
    ) -> pb.ListMarketSnapshotsResponse:
        """Snapshots, the latest first."""
        size = page_size(request.page_size)
        start = page_start(request, instant, position)
        universe_id = None
        if request.HasField("universe_id"):
            universe_id = optional_id(request.universe_id, "universe_id")
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await market.list_snapshots(
                connection,
                call.tenant_id,
                universe_id=universe_id,
                before=None if start is None else (start[0], start[1]),
                limit=size + 1,
            )
        response = pb.ListMarketSnapshotsResponse(
            snapshots=[
                pb.MarketSnapshotSummary(
                    snapshot_id=row.snapshot_id,
                    as_of_time=timestamp(row.as_of_time),
                    instrument_count=row.n_instruments,
                    universe_id=row.universe_id,
                )
                for row in rows[:size]
            ]
        )
        if len(rows) > size:
            last = rows[size - 1]
            response.next_page_token = page_token(
                request, last.as_of_time.isoformat(), last.sequence
            )
        return response

    async def apply_corporate_action(
        self, call: Call, request: pb.ApplyCorporateActionRequest
    ) -> bytes:
        """Records an action and applies it."""
        return await corporate_actions.apply(self._database, self._states, call, request)

    async def list_corporate_actions(
        self, call: Call, request: pb.ListCorporateActionsRequest
    ) -> pb.ListCorporateActionsResponse:
        """Recorded actions, the last first."""
        size = page_size(request.page_size)
        start = page_start(request, position)
        if found := list(text_violations(request.instrument_id, "instrument_id")):
            raise invalid_fields(found)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await action_storage.list_page(
                connection,
                call.tenant_id,
                instrument_id=request.instrument_id,
                before=None if start is None else start[0],
                limit=size + 1,
            )
        response = pb.ListCorporateActionsResponse(
            actions=[
                corporate_action_pb2.RecordedCorporateAction(
                    request_id=str(row.request_id),
                    action=corporate_action_pb2.CorporateAction.FromString(row.payload),
                    author=row.author,
                    reason=row.reason,
                    create_time=timestamp(row.create_time),
                )
                for row in rows[:size]
            ]
        )
        if len(rows) > size:
            response.next_page_token = page_token(request, rows[size - 1].sequence)
        return response

    async def put_matrix(self, call: Call, request: pb.PutMatrixRequest) -> pb.PutMatrixResponse:
        """Stores a matrix; the same one again is no error, another under its id is."""
        # Eigenvalues of a large matrix take a second, which the event loop doesn't have.
        matrix = await in_thread(call, lambda: _checked_matrix(request))
        stored = await store_matrix(self._database, self._states, call, matrix)
        return pb.PutMatrixResponse(
            matrix_id=stored.matrix_id,
            create_time=timestamp(stored.create_time),
            repair_distance=matrix.provenance.repair_distance,
        )

    async def get_matrix(self, call: Call, request: pb.GetMatrixRequest) -> pb.GetMatrixResponse:
        """A matrix as it was stored."""
        matrix_id = checked_id(request.matrix_id, "matrix_id")
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            try:
                stored = await matrices.get(connection, call.tenant_id, matrix_id)
            except NotFound as error:
                raise not_found("matrix", matrix_id) from error
        return pb.GetMatrixResponse(matrix=pb.Matrix.FromString(stored.payload))


def _checked_matrix(request: pb.PutMatrixRequest) -> pb.Matrix:
    """The matrix to store, repaired where that is asked for and needed. Raises `Refusal`."""
    if request.indefinite_policy not in pb.IndefinitePolicy.values():
        raise invalid("indefinite_policy", "UNKNOWN_VALUE", "is not known")
    found = list(matrix_violations(request.matrix, "matrix"))
    repair = request.indefinite_policy == pb.INDEFINITE_POLICY_NEAREST
    if found and not (repair and all(v.reason == "NOT_POSITIVE_SEMIDEFINITE" for v in found)):
        raise invalid_fields(found)
    return semidefinite(request.matrix) if found else request.matrix
