"""VolatilityService: volatilities that the service estimates from market snapshots."""

from datetime import datetime

import numpy as np
from positionsizing.v1 import types_pb2
from positionsizing.v1 import volatility_service_pb2 as pb

from compute.adapt.volatility import estimates, long_run, regime_probabilities
from compute.adapt.volatility_model import ROWS, Row, VolatilityState
from compute.market import Floats
from server.calls.errors import invalid, invalid_fields
from server.calls.long_work import in_thread
from server.calls.request_context import Call, first_delivery
from server.convert import volatility as convert
from server.convert import volatility_fit as fit_convert
from server.convert.columns import set_floats
from server.convert.names import (
    checked_id,
    optional_moment,
    past_moment,
    text_violations,
    timestamp,
)
from server.convert.ranges import number_violations
from server.market.regime_conditions import tell
from server.market.volatility import computed, nothing_yet, stored_anew
from server.portfolios.state import States
from server.risk.histories import Span, read
from storage.errors import NotFound
from storage.postgres import changes, conditions
from storage.postgres import volatility as storage
from storage.postgres.changes import Subject, SubjectKind
from storage.postgres.pool import Database

INSTRUMENTS_MAX = 50_000
_SPAN = ("start_time", "as_of_time", "known_time")


class VolatilityService:
    """See `protos/positionsizing/v1/volatility_service.proto`."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states

    async def put_volatility_model(
        self, call: Call, request: pb.PutVolatilityModelRequest
    ) -> pb.PutVolatilityModelResponse:
        """Stores a version; decisions computed under older ones can't be committed any more."""
        found = [*number_violations(request), *text_violations(request.reason, "reason")]
        found += convert.violations(request.model, "model")
        if found:
            raise invalid_fields(found)
        start, known = _start(request), convert.model(request.model)
        told = convert.told(request.model)
        tenant_id, model_id = call.tenant_id, request.model.model_id
        of = (tenant_id, request.model.universe_id)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            earlier = await computed(connection, *of, known, start)
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await first_delivery(connection, call)
            await changes.change(connection, tenant_id, _subject(model_id))
            if told is not None:
                about = conditions.subject_of((told.condition_id, "", ""))
                await changes.raise_version(connection, tenant_id, about)
            await storage.hold(connection, tenant_id)
            try:
                before = (await storage.entry(connection, tenant_id, model_id)).state
            except NotFound:
                before = nothing_yet(model_id)
            version, time = await storage.put_model(
                connection,
                tenant_id,
                model_id,
                convert.document(request.model),
                author=call.author,
                reason=request.reason,
            )
            anew = await computed(connection, *of, known, start, earlier)
            stored = stored_anew(before, anew, version)
            await storage.put_state(connection, tenant_id, stored)
            if told is not None and anew.newest is not None:
                observed = anew.newest.as_of_time
                await tell(connection, tenant_id, known, told, anew.state, observed)
        self._states.changed(tenant_id)
        change = types_pb2.ChangeRecord(
            version=version, author=call.author, reason=request.reason, create_time=timestamp(time)
        )
        return pb.PutVolatilityModelResponse(change=change, state=convert.summary(stored))

    async def list_volatility_models(
        self, call: Call, request: pb.ListVolatilityModelsRequest
    ) -> pb.ListVolatilityModelsResponse:
        """All of them."""
        del request
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            found = await storage.entries(connection, call.tenant_id)
        return pb.ListVolatilityModelsResponse(models=map(_entry, found))

    async def get_volatility(
        self, call: Call, request: pb.GetVolatilityRequest
    ) -> pb.GetVolatilityResponse:
        """What a model says now."""
        model_id, asked = checked_id(request.model_id, "model_id"), request.instrument_ids
        if len(asked) > INSTRUMENTS_MAX:
            text = f"has {len(asked)} entries; at most {INSTRUMENTS_MAX} are accepted"
            raise invalid("instrument_ids", "TOO_MANY", text)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            entry = await storage.entry(connection, call.tenant_id, model_id)
        state, known = convert.state(entry.state), convert.model(convert.parse(entry.document))
        place = {name: i for i, name in enumerate(state.instrument_ids)}
        wanted = asked or state.instrument_ids[:INSTRUMENTS_MAX]
        places = np.array([place[name] for name in wanted if name in place], dtype=np.int64)
        response = pb.GetVolatilityResponse(
            state=convert.summary(entry.state),
            instrument_ids=[state.instrument_ids[i] for i in places],
            return_count=state.rows[Row.COUNT, places].astype(int).tolist(),
        )
        columns: tuple[tuple[str, Floats], ...] = (
            ("volatility", state.in_use),
            ("estimate", estimates(state, known)),
            ("long_run", long_run(state, known)),
        )
        for name, column in columns:
            set_floats(response, name, np.nan_to_num(column[places]))
        if known.regimes is not None:
            last = regime_probabilities(state, known.regimes)[-1]
            set_floats(response, "regime_probability", last[places])
        return response

    async def fit_volatility_model(
        self, call: Call, request: pb.FitVolatilityModelRequest
    ) -> pb.FitVolatilityModelResponse:
        """A proposal, which nothing stores."""
        if found := [*number_violations(request), *fit_convert.violations(request)]:
            raise invalid_fields(found)
        start, as_of, known = (optional_moment(request, name) for name in _SPAN)
        span = Span(start, as_of, known)
        wanted = fit_convert.instrument_ids(request)
        history = await read(self._database, call, request.universe_id, span, wanted)
        return await in_thread(call, lambda: fit_convert.fitted(request, history))

    async def rebuild_volatility(
        self, call: Call, request: pb.RebuildVolatilityRequest
    ) -> pb.RebuildVolatilityResponse:
        """The state anew, and where it differs."""
        model_id, tenant_id = checked_id(request.model_id, "model_id"), call.tenant_id
        if found := list(number_violations(request)):
            raise invalid_fields(found)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            entry = await storage.entry(connection, tenant_id, model_id)
            message = convert.parse(entry.document)
            of, known = (tenant_id, message.universe_id), convert.model(message)
            start = _start(request) or entry.state.start_time
            earlier = await computed(connection, *of, known, start)
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await first_delivery(connection, call)
            if not request.validate_only:
                await changes.change(connection, tenant_id, _subject(model_id))
            await storage.hold(connection, tenant_id)
            before = (await storage.entry(connection, tenant_id, model_id)).state
            anew = await computed(connection, *of, known, start, earlier)
            stored = stored_anew(before, anew, before.model_version)
            if not request.validate_only:
                await storage.put_state(connection, tenant_id, stored)
        if not request.validate_only:
            self._states.changed(tenant_id)
        response = pb.RebuildVolatilityResponse(state=convert.summary(stored))
        _compare(response, convert.state(before), anew.state)
        return response


def _subject(model_id: str) -> Subject:
    return Subject(SubjectKind.VOLATILITY_MODEL, model_id)


def _start(
    request: pb.PutVolatilityModelRequest | pb.RebuildVolatilityRequest,
) -> datetime | None:
    if not request.HasField("start_time"):
        return None
    return past_moment(request.start_time, "start_time")


def _entry(entry: storage.Entry) -> pb.VolatilityModelEntry:
    return pb.VolatilityModelEntry(
        model=convert.filled(convert.parse(entry.document)),
        change=types_pb2.ChangeRecord(
            version=entry.state.model_version,
            author=entry.author,
            reason=entry.reason,
            create_time=timestamp(entry.create_time),
        ),
        state=convert.summary(entry.state),
    )


def _compare(
    response: pb.RebuildVolatilityResponse, before: VolatilityState, after: VolatilityState
) -> None:
    """Fills in the instruments whose state is another, in any bit of price or variance."""
    told = [Row.PRICE, Row.VARIANCE, *range(Row.GAP, ROWS), Row.IN_USE]
    columns = []
    for state in (before, after):
        rows = np.ascontiguousarray(state.rows[told].T)
        columns.append(dict(zip(state.instrument_ids, rows, strict=True)))
    ours, theirs = columns
    nothing = np.zeros(len(told))
    different = [
        name
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name, nothing).tobytes() != theirs.get(name, nothing).tobytes()
    ]
    response.different_count = len(different)
    if different:
        first = response.first_different = different[0]
        response.first_before = float(ours.get(first, nothing)[-1])
        response.first_after = float(theirs.get(first, nothing)[-1])
