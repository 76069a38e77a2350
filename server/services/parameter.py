"""ParameterService: how signals become stakes, versioned."""

from collections.abc import Sequence
from datetime import UTC, datetime

from positionsizing.v1 import events_pb2
from positionsizing.v1 import parameter_service_pb2 as pb

from compute.adapt.adjustment import Adjustment, fraction_multiplier
from server.calls.errors import FieldViolation, invalid_fields
from server.calls.request_context import Call, first_delivery
from server.convert import parameters as convert
from server.convert.adjustment import adjustments
from server.convert.change_record import change_record
from server.convert.names import (
    moment,
    optional_id,
    page_size,
    page_start,
    page_token,
    position,
    text_violations,
    timestamp,
)
from server.convert.past_parameters import answer, past_request
from server.convert.ranges import number_violations
from server.parameters import adaptation
from server.parameters.effective_parameters import equity_now
from server.parameters.parameter_approval import proposed_parameters
from server.parameters.past_parameters import simulated
from server.portfolios import four_eyes
from server.portfolios.four_eyes import Approval
from server.portfolios.state import States
from storage.postgres import changes, outbox, parameters, portfolios
from storage.postgres.changes import WHOLE_TENANT, Subject, SubjectKind
from storage.postgres.outbox import NewEvent
from storage.postgres.parameters import ParameterSet
from storage.postgres.pool import Database


class ParameterService:
    """See `protos/positionsizing/v1/parameter_service.proto`."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states

    async def set_parameters(
        self, call: Call, request: pb.SetParametersRequest, approval: Approval | None = None
    ) -> pb.SetParametersResponse:
        """Stores a version; decisions computed under older ones can't be committed any more.

        What may make stakes larger may become a proposal.
        """
        portfolio_id, strategy_id = _scope(request)
        found = list(number_violations(request))
        found += convert.violations(request.parameters, "parameters")
        if not request.HasField("parameters"):
            text = "must be given; empty parameters leave everything to the more general scope"
            found.append(FieldViolation("parameters", "MISSING", text))
        if (portfolio_id or strategy_id) and request.parameters.HasField("price_jump_max"):
            text = "is looked at when a snapshot is stored, for all alike: set it for the firm"
            found.append(FieldViolation("parameters.price_jump_max", "NOT_APPLICABLE", text))
        found += text_violations(request.reason, "reason")
        if found:
            raise invalid_fields(found)
        effective_time = datetime.now(UTC)
        if request.HasField("effective_time"):
            effective_time = moment(request.effective_time, "effective_time")
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await first_delivery(connection, call)
            proposal = await proposed_parameters(
                connection, call, request, effective_time, approval
            )
            if proposal is None:
                subject = _subject(portfolio_id, strategy_id)
                await changes.change(connection, call.tenant_id, subject)
                stored = await parameters.put(
                    connection,
                    call.tenant_id,
                    convert.document(request.parameters),
                    portfolio_id=portfolio_id,
                    strategy_id=strategy_id,
                    effective_time=effective_time,
                    author=call.author,
                    approver=four_eyes.approver(approval),
                    reason=request.reason,
                )
                event = _event(request, stored, call.trace_id)
                await outbox.append(connection, call.tenant_id, portfolio_id, [event])
        if proposal is not None:
            raise four_eyes.required(proposal)
        self._states.changed(call.tenant_id)
        return pb.SetParametersResponse(change=change_record(stored))

    async def get_parameters(
        self, call: Call, request: pb.GetParametersRequest
    ) -> pb.GetParametersResponse:
        """The parameters in force, every default filled in."""
        portfolio_id, strategy_id = _scope(request)
        time = datetime.now(UTC)
        if request.HasField("as_of_time"):
            time = moment(request.as_of_time, "as_of_time")
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            if portfolio_id:
                await portfolios.get(connection, call.tenant_id, portfolio_id)
            layers = await parameters.layers(
                connection,
                call.tenant_id,
                portfolio_id=portfolio_id,
                strategy_id=strategy_id,
                time=time,
            )
        effective = convert.effective(layer.document for layer in layers)
        found: list[Adjustment] = []
        if portfolio_id and not request.HasField("as_of_time"):
            found = await self._adjustments(call.tenant_id, portfolio_id, strategy_id, time)
        return pb.GetParametersResponse(
            parameters=convert.message_of(effective),
            parameters_version=max((layer.version for layer in layers), default=0),
            origins=_origins(layers),
            adjustments=adjustments(found),
            kelly_fraction_now=effective.fraction_chosen * fraction_multiplier(found),
        )

    async def _adjustments(
        self, tenant_id: str, portfolio_id: str, strategy_id: str, time: datetime
    ) -> list[Adjustment]:
        """What the rules of a portfolio come to at the newest market."""
        state = await self._states.portfolio(tenant_id, portfolio_id, strategy_id)
        return adaptation.of_state(state, time, await equity_now(self._states, tenant_id, state))

    async def simulate_parameters(
        self, call: Call, request: pb.SimulateParametersRequest
    ) -> pb.SimulateParametersResponse:
        """What rules would have done at past times."""
        asked = past_request(request)
        return answer(asked, await simulated(self._database, self._states, call, asked))

    async def list_parameter_versions(
        self, call: Call, request: pb.ListParameterVersionsRequest
    ) -> pb.ListParameterVersionsResponse:
        """The versions of one scope, newest first."""
        portfolio_id, strategy_id = _scope(request)
        size = page_size(request.page_size)
        start = page_start(request, position)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            if portfolio_id:
                await portfolios.get(connection, call.tenant_id, portfolio_id)
            rows = await parameters.history(
                connection,
                call.tenant_id,
                portfolio_id=portfolio_id,
                strategy_id=strategy_id,
                before_version=None if start is None else start[0],
                limit=size + 1,
            )
        response = pb.ListParameterVersionsResponse(
            versions=[
                pb.ParameterVersion(
                    parameters=convert.parse(dict(row.document)),
                    effective_time=timestamp(row.effective_time),
                    change=change_record(row),
                )
                for row in rows[:size]
            ]
        )
        if len(rows) > size:
            response.next_page_token = page_token(request, rows[size - 1].version)
        return response


def _scope(
    request: pb.SetParametersRequest | pb.GetParametersRequest | pb.ListParameterVersionsRequest,
) -> tuple[str, str]:
    return (
        optional_id(request.portfolio_id, "portfolio_id"),
        optional_id(request.strategy_id, "strategy_id"),
    )


def _origins(layers: Sequence[ParameterSet]) -> list[pb.ParameterOrigin]:
    """The most special layer that sets each field; `layers`: the most special first."""
    setters: dict[str, ParameterSet] = {}
    for layer in layers:
        for field, _ in convert.parse(dict(layer.document)).ListFields():
            setters.setdefault(field.name, layer)
    return [
        pb.ParameterOrigin(
            field=field.name,
            portfolio_id=setters[field.name].portfolio_id,
            strategy_id=setters[field.name].strategy_id,
            effective_time=timestamp(setters[field.name].effective_time),
            change=change_record(setters[field.name]),
        )
        for field in pb.SizingParameters.DESCRIPTOR.fields
        if field.name in setters
    ]


def _event(request: pb.SetParametersRequest, stored: ParameterSet, trace_id: str) -> NewEvent:
    event = events_pb2.ParametersChanged(
        portfolio_id=stored.portfolio_id,
        strategy_id=stored.strategy_id,
        parameters=request.parameters,
        effective_time=timestamp(stored.effective_time),
        change=change_record(stored),
    )
    payload = event.SerializeToString()
    return NewEvent("parameters-changed", "ParametersChanged", lambda _: payload, trace_id=trace_id)


def _subject(portfolio_id: str, strategy_id: str) -> Subject:
    """Whose decisions new parameters concern."""
    if portfolio_id:
        return Subject(SubjectKind.PORTFOLIO, portfolio_id)
    return Subject(SubjectKind.STRATEGY, strategy_id) if strategy_id else WHOLE_TENANT
