"""ParameterService: how signals become stakes, versioned."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from positionsizing.v1 import events_pb2, types_pb2
from positionsizing.v1 import parameter_service_pb2 as pb

from compute.adapt.adjustment import Adjustment, fraction_multiplier
from compute.market import MissingInputError, equity_of
from server import adaptation
from server.convert import parameters as convert
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
from server.convert.ranges import number_violations
from server.errors import FieldViolation, invalid_fields
from server.portfolio_state import positions
from server.request_context import Call, first_delivery
from server.state import States
from storage.errors import NotFound
from storage.postgres import outbox, parameters, portfolios
from storage.postgres.outbox import NewEvent
from storage.postgres.parameters import ParameterSet
from storage.postgres.pool import Database
from storage.postgres.scopes import TENANT_SCOPE, bump


class ParameterService:
    """See `protos/positionsizing/v1/parameter_service.proto`."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states

    async def set_parameters(
        self, call: Call, request: pb.SetParametersRequest
    ) -> pb.SetParametersResponse:
        """Stores a version; decisions computed under older ones can't be committed any more."""
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
        expected = None
        if request.HasField("expected_version"):
            expected = request.expected_version
        async with self._database.transaction(deadline_s=call.left_s) as connection:
            await first_delivery(connection, call)
            await bump(connection, call.tenant_id, TENANT_SCOPE)
            stored = await parameters.put(
                connection,
                call.tenant_id,
                convert.document(request.parameters),
                portfolio_id=portfolio_id,
                strategy_id=strategy_id,
                effective_time=effective_time,
                author=call.author,
                reason=request.reason,
                expected_version=expected,
            )
            event = events_pb2.ParametersChanged(
                portfolio_id=portfolio_id,
                strategy_id=strategy_id,
                parameters=request.parameters,
                effective_time=timestamp(effective_time),
                change=_change(stored),
            )
            payload = event.SerializeToString()
            await outbox.append(
                connection,
                call.tenant_id,
                portfolio_id,
                [
                    NewEvent(
                        "parameters-changed",
                        "ParametersChanged",
                        lambda _: payload,
                        trace_id=call.trace_id,
                    )
                ],
            )
        self._states.changed(call.tenant_id)
        return pb.SetParametersResponse(change=_change(stored))

    async def get_parameters(
        self, call: Call, request: pb.GetParametersRequest
    ) -> pb.GetParametersResponse:
        """The parameters in force, every default filled in."""
        portfolio_id, strategy_id = _scope(request)
        time = datetime.now(UTC)
        if request.HasField("as_of_time"):
            time = moment(request.as_of_time, "as_of_time")
        async with self._database.connection(deadline_s=call.left_s) as connection:
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
            adjustments=adaptation.messages(found),
            kelly_fraction_now=effective.fraction_chosen * fraction_multiplier(found),
        )

    async def _adjustments(
        self, tenant_id: str, portfolio_id: str, strategy_id: str, time: datetime
    ) -> list[Adjustment]:
        """What the rules of a portfolio come to at the newest market."""
        state = await self._states.portfolio(tenant_id, portfolio_id, strategy_id)
        equity = None
        with suppress(NotFound, MissingInputError):  # no market, or none that values the book
            snapshot = await self._states.snapshot(tenant_id, "")
            prices = self._states.market(tenant_id, snapshot, state.portfolio.base_currency)
            equity = equity_of(prices, positions(state, prices))
        return adaptation.of_state(state, time, equity)

    async def list_parameter_versions(
        self, call: Call, request: pb.ListParameterVersionsRequest
    ) -> pb.ListParameterVersionsResponse:
        """The versions of one scope, newest first."""
        portfolio_id, strategy_id = _scope(request)
        size = page_size(request.page_size)
        start = page_start(request, position)
        async with self._database.connection(deadline_s=call.left_s) as connection:
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
                    change=_change(row),
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
            change=_change(setters[field.name]),
        )
        for field in pb.SizingParameters.DESCRIPTOR.fields
        if field.name in setters
    ]


def _change(stored: ParameterSet) -> types_pb2.ChangeRecord:
    return types_pb2.ChangeRecord(
        version=stored.version,
        author=stored.author,
        reason=stored.reason,
        create_time=timestamp(stored.create_time),
    )
