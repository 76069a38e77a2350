"""A recorded decision with all it was computed from, read to be computed again."""

from dataclasses import dataclass
from uuid import UUID

import asyncpg
from positionsizing.v1 import sizing_pb2
from positionsizing.v1 import sizing_service_pb2 as pb

from compute.market import Market
from compute.methods import OPTIMIZED, Method
from server.calls.request_context import Call
from server.convert.market import Snapshot
from server.convert.matrix import MatrixData
from server.convert.recorded import answer_of, asked_of
from server.convert.request import sizing_request
from server.sizing import decision_inputs
from server.sizing.assembly import assemble
from server.sizing.engine import SizingEngine
from server.sizing.prepared_request import PreparedRequest
from server.sizing.stored_edges import Again, StoredOutcomes
from storage.errors import NotFound
from storage.postgres import decisions, records, requests
from storage.postgres.decisions import Decision
from storage.postgres.pool import Database


@dataclass(frozen=True)
class Recorded:
    """What was asked and answered, and what is stored of the inputs; pure data."""

    stored: Decision
    request: pb.SizePositionsRequest
    """Of the portfolio alone, where a call was for several."""
    answered: sizing_pb2.SizingDecision
    snapshot: Snapshot
    currency: str
    scenarios: MatrixData | None
    covariance: MatrixData | None
    outcomes: StoredOutcomes | None = None
    """Of the stored history that lines are estimated from."""

    @property
    def is_joint(self) -> bool:
        """Whether it takes an optimum to compute, also where that was tried and didn't answer."""
        steps = {step.method for step in self.answered.fallback_chain}
        return self.answered.method in OPTIMIZED or Method.JOINT.name.lower() in steps

    @property
    def n_lines(self) -> int:
        """Signals of the request."""
        return len(self.request.signals.instrument_ids)


@dataclass(frozen=True)
class Inputs:
    """A recorded decision in arrays: its market, and the state over the market's instruments."""

    recorded: Recorded
    market: Market
    context: decision_inputs.DecisionInputs

    def problem(self) -> PreparedRequest:
        """The problem as it was. Raises `Refusal`, `MissingInputError`."""
        item = self.recorded
        return assemble(
            sizing_request(item.request),
            self.context,
            self.market,
            item.scenarios,
            item.covariance,
            {},
            item.outcomes,
        )


async def read(engine: SizingEngine, database: Database, call: Call, decision_id: UUID) -> Recorded:
    """Reads a decision. Raises `NotFound` also where its portfolio isn't granted."""
    gatherer = engine.gatherer
    async with database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
        stored = await granted_decision(connection, call, decision_id)
        made = await requests.get(connection, call.tenant_id, stored.request_id)
    decision_inputs.check_kept(stored.inputs)
    request = asked_of(made.method, made.request, stored.portfolio_id)
    snapshot_id, currency = decision_inputs.market_named(stored.inputs)
    snapshot = await gatherer.states.snapshot(call.tenant_id, snapshot_id)
    scenarios, covariance = await gatherer.matrices(
        call.tenant_id, request.scenario_matrix_id, request.covariance_matrix_id
    )
    if default_id := decision_inputs.covariance_named(stored.inputs):
        covariance = await gatherer.states.matrix(call.tenant_id, default_id)
    again = Again(decision_inputs.history_named(stored.inputs), stored.create_time)
    outcomes = await gatherer.outcomes(call, sizing_request(request), again)
    answered = answer_of(made.method, made.response, str(decision_id))
    return Recorded(stored, request, answered, snapshot, currency, scenarios, covariance, outcomes)


def inputs_of(engine: SizingEngine, tenant_id: str, recorded: Recorded) -> Inputs:
    """The same in arrays; runs in a compute thread. Raises `Refusal`."""
    market = engine.gatherer.states.market(tenant_id, recorded.snapshot, recorded.currency)
    context = decision_inputs.decode(recorded.stored.inputs, market)
    return Inputs(recorded, decision_inputs.market_of(context, market), context)


async def granted_decision(
    connection: asyncpg.Connection, call: Call, decision_id: UUID
) -> Decision:
    """The decision. `NotFound` also where its portfolio isn't granted: ids tell nothing of it.

    `Archived` where it is in an archive alone.
    """
    try:
        stored = await decisions.get(connection, call.tenant_id, decision_id)
    except NotFound:
        gone = await records.archived(connection, call.tenant_id, decision_id)
        if gone is not None and call.identity.is_granted(gone[0]):
            raise gone[1] from None
        raise
    if not call.identity.is_granted(stored.portfolio_id):
        raise NotFound("decision", str(decision_id))
    return stored
