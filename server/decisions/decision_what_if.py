"""Recorded decisions varied: other prices, matrices, parameters, and limits, looser ones too.

The decision is put together again from its record, as a replay does, but for what a variation
changes; then it is sized as anything else is. Nothing is written: what a simulation allows is no
permission.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import numpy as np
from positionsizing.v1 import explanation_service_pb2 as pb
from positionsizing.v1 import sizing_service_pb2

from compute.limits.stress_limits import StressEvent
from compute.limits.tightest import tightest
from compute.market import Market, MissingInputError
from compute.methods import Engine, Method
from compute.money.currency import rate_of
from compute.money.transfer import moved_column, moved_positions, moved_shared
from compute.parameters import overlaid
from server.calls.errors import Refusal, invalid_fields, of_storage, precondition
from server.calls.reading import check_bytes
from server.calls.request_context import Call
from server.convert import limits as limits_convert
from server.convert import parameters as parameters_convert
from server.convert.corporate_action import shown_to, shown_until
from server.convert.decision_variation import simulated_limits, violations
from server.convert.market import Snapshot
from server.convert.matrix import MatrixData
from server.convert.names import optional_moment
from server.convert.request import sizing_request
from server.decisions import recorded
from server.decisions.recorded import Recorded
from server.decisions.shocks import shock_violations
from server.decisions.what_if import refused, result, varied
from server.risk.histories import lent_by
from server.risk.stress import read_events, scenarios_of
from server.sizing import decision_inputs
from server.sizing.assembly import assemble
from server.sizing.engine import SizingEngine
from server.sizing.prepared_request import PreparedRequest
from storage.errors import NotFound
from storage.postgres import corporate_actions
from storage.postgres import market as market_storage
from storage.postgres.corporate_actions import StoredAction
from storage.postgres.pool import Database


@dataclass(frozen=True)
class _Read:
    """What a variation needs of storage."""

    snapshot: Snapshot
    scenarios: MatrixData | None
    covariance: MatrixData | None
    actions: tuple[StoredAction, ...] = ()
    """Corporate actions between the two markets."""
    stress: tuple[StressEvent, ...] = ()
    """Stress scenarios that the variation names, as they are now."""


class DecisionWhatIf:
    """Answers what-ifs on recorded decisions; writes nothing."""

    def __init__(self, engine: SizingEngine, database: Database) -> None:
        self._engine, self._database = engine, database

    async def answer(
        self, call: Call, decision_id: UUID, request: pb.WhatIfDecisionRequest
    ) -> pb.WhatIfDecisionResponse:
        """The decision as it was, and every variation of it."""
        if found := list(violations(request)):
            raise invalid_fields(found)
        told = await recorded.read(self._engine, self._database, call, decision_id)
        response = pb.WhatIfDecisionResponse(recorded=told.answered)
        n_bytes = response.ByteSize() * (1 + len(request.variations))
        check_bytes(n_bytes, call.bytes_max, is_estimate=True)
        for place, variation in enumerate(request.variations):
            path = f"variations[{place}]."
            try:
                read = await self._read(call, told, variation)
            except NotFound as error:
                raise of_storage(error) from error
            except Refusal as refusal:
                raise refusal.within(path) from refusal
            response.results.append(await self._result(call, told, variation, read, path))
        return response

    async def _read(self, call: Call, told: Recorded, variation: pb.DecisionVariation) -> _Read:
        gatherer, tenant_id = self._engine.gatherer, call.tenant_id
        snapshot, actions = told.snapshot, tuple[StoredAction, ...]()
        wanted = variation.market_snapshot_id
        time = optional_moment(variation, "market_time", "market_time")
        if time is not None:
            async with self._database.connection(tenant_id, deadline_s=call.left_s) as connection:
                newest = await market_storage.latest_snapshot(
                    connection, tenant_id, snapshot.universe_id, time=time
                )
            wanted = newest.snapshot_id
        if wanted and wanted != snapshot.snapshot_id:
            snapshot = await gatherer.states.snapshot(tenant_id, wanted)
            before = min(told.snapshot.as_of_time, snapshot.as_of_time)
            async with self._database.connection(tenant_id, deadline_s=call.left_s) as connection:
                actions = tuple(await corporate_actions.after(connection, tenant_id, before))
        scenarios, covariance = await gatherer.matrices(
            tenant_id, variation.scenario_matrix_id, variation.covariance_matrix_id
        )
        limits = map(limits_convert.limits, (variation.change.limits, variation.limits_instead))
        names = snapshot.message.instrument_ids
        lend = lent_by(self._database, call)
        stress = await read_events(lend, call, scenarios_of(*limits), names)
        matrices = scenarios or told.scenarios, covariance or told.covariance
        return _Read(snapshot, *matrices, actions, stress)

    async def _result(
        self,
        call: Call,
        told: Recorded,
        variation: pb.DecisionVariation,
        read: _Read,
        path: str,
    ) -> sizing_service_pb2.WhatIfResult:
        engine, n_lines = self._engine, told.n_lines

        def prepared() -> PreparedRequest:
            problem = self._changed(call.tenant_id, told, variation, read)
            market = problem.inputs.limit_bounds.market
            if wrong := list(shock_violations([variation.change], market)):
                renamed = [replace(w, field=_own_path(w.field, path)) for w in wrong]
                raise invalid_fields(renamed)
            return varied(problem, variation.change)

        name = variation.change.name
        try:
            problem = await engine.run(lambda _: prepared(), n_lines, call)
            problem = await engine.with_algorithm(problem, call)
            is_joint = problem.inputs.method.engine is Engine.OPTIMIZER
            solved = await engine.run(
                lambda limit: engine.answer(problem, limit), n_lines, call, is_joint=is_joint
            )
        except Refusal as refusal:
            if any(item.field.startswith(path) for item in refusal.fields):
                raise
            return refused(name, refusal)
        except MissingInputError as error:
            return refused(name, error)
        return result(name, solved)

    def _changed(
        self, tenant_id: str, told: Recorded, variation: pb.DecisionVariation, read: _Read
    ) -> PreparedRequest:
        """The decision with all but shocks changed. Raises `Refusal`, `MissingInputError`."""
        was = recorded.inputs_of(self._engine, tenant_id, told)
        context, market = _on_market(self._engine, tenant_id, was, read)
        request = sizing_request(told.request)
        said = variation.change.parameters
        parameters = overlaid(context.parameters, parameters_convert.parameters(said))
        if said.method:
            request = replace(request, method=Method(said.method))
        limits = context.limits
        if request.limits is not None:
            limits = tightest([limits, request.limits])
        limits = simulated_limits(limits, variation, market.rates)
        kept = {event.scenario_id for event in context.stress}
        changed = replace(
            context,
            limits=limits,
            stress=(*context.stress, *(e for e in read.stress if e.scenario_id not in kept)),
            parameters=parameters,
            covariance_matrix_id="",
            algorithm=None,
            clusters=(),
            lot_search=None,
        )
        return assemble(
            replace(request, limits=None),
            changed,
            market,
            read.scenarios,
            read.covariance,
            {},
            told.outcomes,
        )


def _own_path(field: str, path: str) -> str:
    """The path of a shock below `change`; `shock_violations` speaks of the first variation."""
    return f"{path}change.{field.partition('.')[2]}"


def _on_market(
    engine: SizingEngine, tenant_id: str, was: recorded.Inputs, read: _Read
) -> tuple[decision_inputs.DecisionInputs, Market]:
    """The state over the market of a variation. Raises `Refusal`, `MissingInputError`."""
    told, context = was.recorded, was.context
    if read.snapshot.snapshot_id == told.snapshot.snapshot_id:
        return context, was.market
    market = engine.gatherer.states.market(tenant_id, read.snapshot, told.currency)
    if not context.spread_counts:
        market = replace(market, spread=None)
    old = was.market
    held = [old.instrument_ids[place] for place in context.positions.taken]
    _refuse_actions(read, told.snapshot, held)
    positions = moved_positions(context.positions, old, market)
    if context.balances:
        positions = replace(positions, cash=_cash(context, market))
    volatility = context.volatility
    if volatility is not None:
        column = moved_column(volatility.column, old, market)
        volatility = replace(volatility, column=column)
        given = np.zeros(len(column)) if market.volatility is None else market.volatility
        market = replace(market, volatility=np.where(column > 0.0, column, given))
    return replace(
        context,
        market_snapshot_id=read.snapshot.snapshot_id,
        positions=positions,
        shared=moved_shared(context.shared, old, market),
        volatility=volatility,
        jumped=frozenset(),
    ), market


def _cash(context: decision_inputs.DecisionInputs, market: Market) -> float:
    """Cash of all currencies at the rates of a market, in the base."""
    total = 0.0
    for code, amount in context.balances.items():
        is_base = code == context.base_currency
        total += amount if is_base else amount * rate_of(market.rates, code, "cash")
    return total


def _refuse_actions(read: _Read, before: Snapshot, held: list[str]) -> None:
    """Raises `Refusal` where a split or the like lies between two markets for what is held."""
    shown = [(s, shown_until(s.message)) for s in (before, read.snapshot)]
    for action in read.actions:
        name, time = action.instrument_id, action.effective_time
        seen = [_shows(time, until, s.as_of_time, name) for s, until in shown]
        if name in held and seen[0] != seen[1]:
            text = (
                f"a corporate action of {name!r} took effect on {time:%Y-%m-%d}, between the "
                "market of the decision and this one: what is held was another number of units"
            )
            raise precondition("CORPORATE_ACTION_BETWEEN", text, instrument_id=name)


def _shows(time: datetime, until: dict[str, datetime], as_of: datetime, name: str) -> bool:
    return time <= shown_to(until, name, as_of)
