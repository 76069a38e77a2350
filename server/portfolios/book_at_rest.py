"""What limits of the book are told by where nobody sizes it: its clusters, losses and risk.

A decision finds the clusters of what it sizes and holds, by the matrix that it was given. A book
that nobody sizes has clusters of its own: by the latest covariance or correlation of the
`covariance_universe` in force for the portfolio, whatever its strategies name, so that a limit is
looked at alike whoever asks. Shocks that spread do so by that matrix too, and it tells volatility
and normal values at risk; other tails need scenarios, which only requests name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import asyncpg
import numpy as np

from compute.limits.book_guard import ReturnData, ReturnMatrix, Rule
from compute.limits.closing import is_solvent
from compute.limits.cluster_limits import Cluster, find_clusters, of_book_at_rest
from compute.limits.policy import JointLimits, LimitKind, Limits, LinearLimit
from compute.limits.risk_at_rest import risk_limits, risk_rules
from compute.limits.stress_limits import Others, StressEvent, with_stress
from compute.market import Market, MissingInputError, Positions, equity_of
from compute.parameters import EffectiveParameters
from server.convert.matrix import MatrixData, covariance_of
from server.portfolios.portfolio_state import PortfolioState
from server.portfolios.state import States
from storage.errors import NotFound
from storage.postgres.breaches import BreachKey

NO_MATRIX = (
    "no covariance or correlation is stored of a covariance_universe in the sizing parameters of "
    "the portfolio"
)

COVARIANCES = ("COVARIANCE", "CORRELATION")
"""Kinds of matrices that a universe stands for."""


@dataclass(frozen=True)
class RestData:
    """What was read for a book at rest: its matrix, and stress scenarios as they are now.

    unread: why scenarios could not be read, by their id. periods_per_year: of the matrix.
    """

    matrix: MatrixData | None = None
    stress: tuple[StressEvent, ...] = ()
    unread: dict[str, str] = field(default_factory=dict)
    periods_per_year: float = EffectiveParameters().periods_per_year


@dataclass(frozen=True)
class BookAtRest:
    """The clusters of what is held and reserved, losses as linear limits, risk as rules.

    no_clusters: why limits on clusters could not be looked at, "" where they could or there are
    none. no_loss: the same of limits on scenarios, by the scenario; no_risk: of those on risk.
    """

    clusters: tuple[Cluster, ...] = ()
    no_clusters: str = ""
    stress: tuple[LinearLimit, ...] = ()
    no_loss: dict[str, str] = field(default_factory=dict)
    risk: tuple[Rule, ...] = ()
    no_risk: dict[BreachKey, str] = field(default_factory=dict)

    def limits(self, limits: Limits) -> Limits:
        """With groups in the place of clusters, and linear limits in that of scenarios."""
        if limits.clusters:
            limits = of_book_at_rest(limits, self.clusters)
        if limits.joint.stress:
            linear = (*limits.joint.linear, *self.stress)
            limits = replace(limits, joint=replace(limits.joint, linear=linear, stress=()))
        return limits

    @property
    def unknown(self) -> tuple[str, ...]:
        """What could not be looked at, and why."""
        why = self.no_clusters, *self.no_loss.values(), *self.no_risk.values()
        return tuple(filter(None, why))

    def key_of(self, name: str) -> str:
        """What an episode of a breach is known by: its limit and the first of its members.

        Clusters are numbered in the order of a book, so that their names move with it.
        """
        for cluster in self.clusters:
            if cluster.name == name:
                return f"{cluster.name.rpartition(' ')[0]}: {cluster.instrument_ids[0]}"
        return name

    def members_of(self, name: str) -> tuple[str, ...]:
        """The members of a cluster by its name; empty for what is none."""
        return next((c.instrument_ids for c in self.clusters if c.name == name), ())

    def is_untold(self, key: BreachKey, limits: Limits) -> bool:
        """Whether an episode is of a limit that could not be looked at."""
        if key in self.no_risk:
            return True
        kind, name = key
        if kind == LimitKind.STRESS_LOSS_MAX:
            return name in self.no_loss
        starts = tuple(f"{c.name}{end}" for c in limits.clusters for end in (": ", " ("))
        return bool(self.no_clusters) and name.startswith(starts)


NOTHING_AT_REST = BookAtRest()


def book_at_rest(
    limits: Limits | None, market: Market, positions: Positions, data: RestData | None
) -> BookAtRest:
    """What limits say of a book. Takes a while where hundreds of instruments are held."""
    if limits is None or not len(positions.taken):
        return NOTHING_AT_REST
    data = data or RestData()
    clusters, no_clusters = _clusters(limits, market, positions, data.matrix)
    stress, no_loss = _stress(limits, market, positions, data)
    risk, no_risk = _risk(limits, market, positions, data)
    return BookAtRest(clusters, no_clusters, stress, no_loss, risk, no_risk)


def _clusters(
    limits: Limits, market: Market, positions: Positions, matrix: MatrixData | None
) -> tuple[tuple[Cluster, ...], str]:
    if not limits.clusters:
        return (), ""
    if matrix is None:
        names = ", ".join(repr(limit.name) for limit in limits.clusters)
        return (), (f"limits on clusters ({names}) need correlations: {NO_MATRIX}")
    nothing = np.zeros(0, dtype=np.int64)
    try:
        return find_clusters(limits, market, positions, nothing, _returns(matrix)), ""
    except MissingInputError as error:
        return (), str(error)


def _stress(
    limits: Limits, market: Market, positions: Positions, data: RestData
) -> tuple[tuple[LinearLimit, ...], dict[str, str]]:
    """A linear limit for each scenario, or why it has none."""
    rows: list[LinearLimit] = []
    unknown: dict[str, str] = {}
    names, events = [market.instrument_ids[place] for place in positions.taken], data.stress
    for scenario_id in dict.fromkeys(limit.scenario_id for limit in limits.joint.stress):
        if scenario_id in data.unread:
            unknown[scenario_id] = f"limit on {scenario_id!r}: {data.unread[scenario_id]}"
            continue
        own = tuple(x for x in limits.joint.stress if x.scenario_id == scenario_id)
        is_spread = any(x.others is Others.SPREAD and x.scenario_id == scenario_id for x in events)
        returns = ReturnData()
        try:
            if is_spread and data.matrix is not None:  # alike whatever a year has
                returns = _returns(covariance_of(data.matrix, market, 1.0))
            told = with_stress(Limits(joint=JointLimits(stress=own)), events, names, returns)
        except MissingInputError as error:
            unknown[scenario_id] = str(error)
        else:
            rows += told.joint.linear
    return tuple(rows), unknown


def _risk(
    limits: Limits, market: Market, positions: Positions, data: RestData
) -> tuple[tuple[Rule, ...], dict[BreachKey, str]]:
    """The limits on risk that a covariance tells as rules, or why there is none."""
    rules: list[Rule] = []
    unknown: dict[BreachKey, str] = {}
    returns: ReturnData | None = None
    for limit in risk_limits(limits.joint):
        why = ""
        if limit.needs_scenarios:
            why = "needs scenarios, which requests name and a book at rest has none of"
        elif data.matrix is None:
            why = f"needs a covariance: {NO_MATRIX}"
        elif not is_solvent(equity_of(market, positions)):
            why = "is a part of equity, and there is none"
        if not why:
            assert data.matrix is not None, "seen above"
            try:
                if returns is None:
                    matrix = covariance_of(data.matrix, market, data.periods_per_year)
                    returns = _returns(matrix)
                rules += risk_rules(limit, market, positions, returns)
                continue
            except MissingInputError as error:
                why = f"can't be measured: {error}"
        unknown[int(limit.kind), limit.name] = f"the limit {limit.path} {why}"
    return tuple(rules), unknown


def _returns(matrix: MatrixData) -> ReturnData:
    return ReturnData(
        covariance=ReturnMatrix(matrix.instrument_ids, matrix.values, matrix.probability)
    )


def is_looked_up(limits: Limits | None) -> bool:
    """Whether limits of a book need more than its market to be looked at."""
    if limits is None:
        return False
    return bool(limits.clusters or limits.joint.stress) or any(risk_limits(limits.joint))


def names_of(states: Sequence[PortfolioState]) -> tuple[str, ...]:
    """The instruments of books."""
    return tuple(sorted({name for state in states for name in state.own_instrument_ids}))


async def matrix_at_rest(
    states: States,
    tenant_id: str,
    state: PortfolioState,
    connection: asyncpg.Connection | None = None,
) -> MatrixData | None:
    """The matrix of the book of a state; None where there is none, or no need.

    connection: of the transaction that the caller is in, which must not wait for a second one.
    """
    universe = state.book_parameters.covariance_universe
    if universe is None or not is_looked_up(state.book_limits):
        return None
    try:
        if connection is not None:
            return await states.matrix_within(connection, tenant_id, universe, COVARIANCES)
        matrix_id = await states.latest_matrix_id(tenant_id, universe, COVARIANCES)
        return await states.matrix(tenant_id, matrix_id)
    except NotFound:
        return None
