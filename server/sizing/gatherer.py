"""Everything that one request is sized from: all that is read, and the arrays made of it.

`gather` reads, on the event loop; `prepared` turns what was read into arrays, in a compute thread.
Nothing after them reads anything.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from compute.adapt.regime_edges import RegimeProbabilities
from compute.learn.predicted import StoredFeatures
from compute.limits.stress_limits import StressEvent
from compute.market import equity_of
from compute.parameters import EffectiveParameters
from compute.waterfall.usable import check_book
from server.calls.errors import invalid_fields, precondition
from server.calls.halt import refused
from server.calls.request_context import Call
from server.convert.market import COVARIANCE_KINDS, SCALABLE_KINDS, SCENARIO_KINDS, Snapshot
from server.convert.matrix import MatrixData, kind_violations
from server.learning import prediction
from server.learning.models import Models
from server.learning.regime_prediction import regimes_of
from server.learning.stored_features import FeatureStore
from server.market.missed_actions import check_shown
from server.market.price_jumps import refuse_held, refuse_shared
from server.market.volatility import Estimates
from server.observability import profile
from server.parameters.adaptation import adapted
from server.portfolios.book_at_rest import (
    COVARIANCES,
    RestData,
    book_at_rest,
    is_looked_up,
    matrix_at_rest,
)
from server.portfolios.equity_jumps import check_equity
from server.portfolios.portfolio_state import PortfolioState, restated, universe_words
from server.portfolios.state import States
from server.risk.histories import lent_by
from server.risk.stress import read_events, scenarios_of
from server.sizing.assembly import assemble, concerned, context_of
from server.sizing.method import needs_default
from server.sizing.prepared_request import PreparedRequest
from server.sizing.request import SizingRequest
from server.sizing.stored_edges import Again, StoredOutcomes, read_outcomes
from storage.postgres.pool import Database
from storage.postgres.trading_state import TradingState


@dataclass(frozen=True)
class Gathered:
    """What was read for a request at `time`; pure data.

    covariance_default_id: of a covariance that the parameters stand for. jumped: instruments whose
    price is not accepted. at_rest: what tells of the book whatever is sized, where that matters.
    """

    tenant_id: str
    request: SizingRequest
    state: PortfolioState
    time: datetime
    snapshot: Snapshot
    scenarios: MatrixData | None
    covariance: MatrixData | None
    covariance_default_id: str
    outcomes: StoredOutcomes | None
    models: prediction.Asked
    stored_features: tuple[StoredFeatures, ...]
    volatilities: Estimates | None
    regimes: RegimeProbabilities | None
    jumped: frozenset[str]
    at_rest: RestData | None = None
    stress: tuple[StressEvent, ...] = ()
    """The stress scenarios that limits name."""


class Gatherer:
    """Reads for sizings; keeps nothing but what `States` keeps."""

    def __init__(self, states: States, database: Database, models: Models) -> None:
        self.states = states
        self._database = database
        self._models = models
        self._features = FeatureStore(database, models.deadline_s)

    async def gather(self, call: Call, request: SizingRequest, state: PortfolioState) -> Gathered:
        """All that a checked request is sized from, beside the state. Raises `Refusal`."""
        tenant_id, parameters = call.tenant_id, state.parameters
        volatilities = None
        if parameters.volatility_model is not None:
            model_id = parameters.volatility_model
            volatilities = await self.states.volatilities.newest(tenant_id, model_id)
        with profile.span("gather: market snapshot and matrices"):
            snapshot = await self._snapshot(tenant_id, request, state)
            scenarios, covariance = await self.matrices(
                tenant_id, request.scenario_matrix_id, request.covariance_matrix_id
            )
            default_id = ""
            if covariance is None and needs_default(request, parameters):
                universe = parameters.covariance_universe or ""
                default_id = await self.states.latest_matrix_id(tenant_id, universe, COVARIANCES)
                covariance = await self.states.matrix(tenant_id, default_id)
            outcomes = await self.outcomes(call, request)
            named = scenarios_of(state.limits, state.book_limits, request.limits)
            names = (*request.instrument_ids, *state.own_instrument_ids)
            stress = await self.stress(call, named, names)
            at_rest = None
            if is_looked_up(state.book_limits):
                matrix = await matrix_at_rest(self.states, tenant_id, state)
                periods = state.book_parameters.periods_per_year
                at_rest = RestData(matrix, stress, periods_per_year=periods)
        regimes = await regimes_of(self._database, tenant_id, request, call.left_s)
        models = await prediction.asked(self._models, tenant_id, request, parameters)
        now = datetime.now(UTC)
        known = await prediction.read_stored(self._features, tenant_id, request, models, now)
        _check_ages(state, now, snapshot, (scenarios, covariance))
        jumped = await self.states.price_jumps.instruments(
            tenant_id, state.tenant_version, snapshot, state.portfolio.base_currency
        )
        return Gathered(
            tenant_id=tenant_id,
            request=request,
            state=state,
            time=now,
            snapshot=snapshot,
            scenarios=scenarios,
            covariance=covariance,
            covariance_default_id=default_id,
            outcomes=outcomes,
            models=models,
            stored_features=known,
            volatilities=volatilities,
            regimes=regimes,
            jumped=jumped,
            at_rest=at_rest,
            stress=stress,
        )

    async def stress(
        self, call: Call, scenario_ids: Iterable[str], names: Iterable[str]
    ) -> tuple[StressEvent, ...]:
        """What stored scenarios say of the instruments of a book."""
        return await read_events(lent_by(self._database, call), call, scenario_ids, names)

    def prepared(self, found: Gathered) -> PreparedRequest:
        """The same as arrays. Raises `Refusal`, `MissingInputError`."""
        request, state = found.request, found.state
        snapshot_id, currency = found.snapshot.snapshot_id, state.portfolio.base_currency
        with profile.span("gather: arrays"):
            prices = self.states.market(found.tenant_id, found.snapshot, currency)
            context = context_of(state, snapshot_id, prices)
            refuse_shared(state, prices, found.jumped)
            if found.jumped:
                refuse_held(prices, context.positions, found.jumped)
                context = replace(context, jumped=found.jumped)
            if found.covariance_default_id:
                context = replace(context, covariance_matrix_id=found.covariance_default_id)
            if found.outcomes is not None:
                context = replace(context, history_sequence=found.outcomes.sequence)
            equity = equity_of(prices, context.positions)
            context = adapted(context, request, found.time, equity, state)
            context = replace(
                context,
                stored_features=found.stored_features,
                regimes=found.regimes,
                stress=found.stress,
            )
            context = prediction.predicted(context, request, found.models, found.time)
            if found.volatilities is not None:
                key = (found.tenant_id, snapshot_id, currency)
                prices = self.states.volatilities.market(*key, prices, found.volatilities)
                places = concerned(request, context, prices)
                context = replace(context, volatility=found.volatilities.recorded(prices, places))
            matrices = found.scenarios, found.covariance
            made = assemble(request, context, prices, *matrices, state.derived, found.outcomes)
            check_equity(state, equity)
            bounds, budget = made.inputs.limit_bounds, context.parameters.risk_budget
            check_book(bounds.market, bounds.positions, budget, bounds.limits, bounds.equity)
            if found.at_rest is None:
                return made
            book = state.book_limits, prices, context.positions
            return replace(made, at_rest=book_at_rest(*book, found.at_rest))

    async def gather_under(
        self,
        call: Call,
        request: SizingRequest,
        state: PortfolioState,
        parameters: EffectiveParameters,
    ) -> Gathered:
        """What a request would be sized from under other parameters than the stored ones."""
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            other = await restated(connection, call.tenant_id, state, parameters)
        return await self.gather(call, request, other)

    async def outcomes(
        self, call: Call, request: SizingRequest, again: Again | None = None
    ) -> StoredOutcomes | None:
        """The stored histories that lines name, see `stored_edges.read_outcomes`."""
        return await read_outcomes(self._database, call, request, again)

    async def matrices(
        self,
        tenant_id: str,
        scenario_matrix_id: str,
        covariance_matrix_id: str,
        path: str = "",
        *,
        may_scale: bool = True,
    ) -> tuple[MatrixData | None, MatrixData | None]:
        """The stored scenarios and covariance of these ids; None for an empty one.

        may_scale: whether there are volatilities to make a covariance of a correlation. Raises
        `Refusal` for a matrix of another kind.
        """
        found: list[MatrixData | None] = []
        covariances = SCALABLE_KINDS if may_scale else COVARIANCE_KINDS
        for name, matrix_id, wanted in (
            ("scenario_matrix_id", scenario_matrix_id, SCENARIO_KINDS),
            ("covariance_matrix_id", covariance_matrix_id, covariances),
        ):
            stored = await self.states.matrix(tenant_id, matrix_id) if matrix_id else None
            if stored is not None and (
                wrong := [*kind_violations(stored.kind, wanted, path + name)]
            ):
                raise invalid_fields(wrong)
            found.append(stored)
        return found[0], found[1]

    async def _snapshot(
        self, tenant_id: str, request: SizingRequest, state: PortfolioState
    ) -> Snapshot:
        """The market asked for. Raises `Refusal` for one that misses a corporate action."""
        missed, wanted = self.states.missed_actions, request.market_snapshot_id
        asked = (tenant_id, state.portfolio.universe_id, wanted)
        snapshot = await self.states.snapshot_of(*asked)
        missing = await missed.of(tenant_id, state.tenant_version, snapshot)
        if missing and not wanted:  # the latest is kept for a moment
            self.states.changed(tenant_id)
            snapshot = await self.states.snapshot_of(*asked)
            missing = await missed.of(tenant_id, state.tenant_version, snapshot)
        check_shown(missing, state, snapshot.snapshot_id, request.instrument_ids)
        return snapshot


def _check_ages(
    state: PortfolioState,
    now: datetime,
    snapshot: Snapshot,
    matrices: Sequence[MatrixData | None],
) -> None:
    """Raises `Refusal` where trading is halted or an input is older than the policy allows."""
    if state.trading_state is TradingState.HALTED:
        raise refused(state)
    parameters = state.parameters
    for name, moment, age_max_s in (
        ("market snapshot", snapshot.as_of_time, parameters.market_age_max_s),
        *(
            (f"newest snapshot of {universe_words(universe_id)}", time, parameters.market_age_max_s)
            for universe_id, time in _used_elsewhere(state, snapshot)
        ),
        ("portfolio state", state.portfolio.as_of_time, parameters.portfolio_age_max_s),
        *(("matrix", m.as_of_time, parameters.matrix_age_max_s) for m in matrices if m is not None),
    ):
        age_s = (now - moment).total_seconds()
        if age_max_s is not None and age_s > age_max_s:
            message = f"the {name} is {age_s:.0f} s old; at most {age_max_s:.0f} s are allowed"
            raise precondition("STALE_INPUT", message)


def _used_elsewhere(state: PortfolioState, snapshot: Snapshot) -> Iterator[tuple[str, datetime]]:
    """Other universes that what members of the group hold is priced at, and as of when."""
    known = None
    for book in state.others.values():
        if book.elsewhere is None:
            continue
        known = set(snapshot.message.instrument_ids) if known is None else known
        if not known.issuperset(book.instrument_ids):
            yield book.universe_id, book.elsewhere.time
