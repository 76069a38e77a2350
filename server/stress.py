"""Stored stress scenarios as what they say of a book's instruments."""

from collections.abc import Iterable

import numpy as np
from positionsizing.v1 import risk_service_pb2 as pb

from compute.history import Table, carried, simple_returns
from compute.limits.book_guard import ReturnData, ReturnMatrix
from compute.limits.policy import Limits
from compute.limits.stress_limits import Others, StressEvent, returns_in
from compute.market import MissingInputError
from compute.risk.scenarios import window_shocks
from server.convert.columns import Floats, floats
from server.convert.names import optional_moment
from server.errors import Refusal, precondition
from server.histories import Span, read
from server.request_context import Call
from storage.postgres import stress
from storage.postgres.pool import Database
from storage.postgres.stress import StoredScenario


def scenarios_of(*limits: Limits | None) -> tuple[str, ...]:
    """The scenarios that limits name, each once."""
    named = (item.scenario_id for each in limits if each for item in each.joint.stress)
    return tuple(sorted(set(named)))


async def read_events(
    database: Database, call: Call, scenario_ids: Iterable[str], names: Iterable[str]
) -> tuple[StressEvent, ...]:
    """The scenarios of these ids that are in force, as they are now, for a book of `names`."""
    wanted = sorted(set(scenario_ids))
    if not wanted:
        return ()
    async with database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
        stored = await stress.in_force(connection, call.tenant_id, wanted)
    ids = sorted(set(names))
    return tuple([await event_of(database, call, item, ids) for item in stored])


async def event_of(
    database: Database, call: Call, stored: StoredScenario, names: Iterable[str]
) -> StressEvent:
    """What a scenario says of `names`. Raises `Refusal` where its window has no history."""
    scenario = pb.StressScenario.FromString(stored.payload)
    head = stored.scenario_id, stored.version
    if scenario.WhichOneof("event") == "window":
        found = await _window(database, call, scenario.window, names)
        return StressEvent(*head, Others.UNKNOWN, tuple(found), tuple(found.values()))
    shock = scenario.shock
    others = Others.SPREAD if shock.spread_by_covariance else Others.STAY
    given = tuple(floats(shock.returns).tolist())
    return StressEvent(*head, others, tuple(shock.instrument_ids), given)


async def shocks_of(
    database: Database,
    call: Call,
    stored: StoredScenario,
    names: tuple[str, ...],
    covariance: Table,
) -> Floats:
    """Return of each of `names` (n,). Raises `Refusal` where the scenario can't be applied.

    covariance: of the instruments in its own order, for shocks that spread.
    """
    event = await event_of(database, call, stored, names)
    matrix = ReturnMatrix(covariance.instrument_ids, covariance.values, np.zeros(0))
    try:
        return returns_in(event, names, ReturnData(covariance=matrix))
    except MissingInputError as error:
        raise precondition(error.reason, str(error)) from error


async def _window(
    database: Database, call: Call, window: pb.WindowEvent, names: Iterable[str]
) -> dict[str, float]:
    """Returns over a window of those of `names` that have their whole history in it."""
    span = Span(
        optional_moment(window, "start_time", "window."),
        optional_moment(window, "end_time", "window."),
    )
    try:
        history = await read(database, call, window.universe_id, span)
    except Refusal as refusal:
        raise precondition("NO_HISTORY", refusal.message) from refusal
    values = history.table.values
    if history.is_prices:
        values = simple_returns(carried(values))
    if not len(values):
        return {}
    wanted, shocks = set(names), window_shocks(values)
    return {
        name: shock
        for name, shock in zip(history.table.instrument_ids, shocks.tolist(), strict=True)
        if name in wanted and not np.isnan(shock)
    }
