"""Returns of a book's instruments in stored stress scenarios."""

import numpy as np
from positionsizing.v1 import risk_service_pb2 as pb

from compute.history import Table, carried, simple_returns
from compute.risk.scenarios import conditional_shocks, window_shocks
from server.convert.columns import Floats, floats
from server.convert.names import optional_moment
from server.errors import Refusal, precondition
from server.histories import Span, read
from server.request_context import Call
from storage.postgres.pool import Database


async def shocks_of(
    database: Database,
    call: Call,
    scenario: pb.StressScenario,
    names: tuple[str, ...],
    covariance: Table,
) -> Floats:
    """Return of each of `names` (n,). Raises `Refusal` where the scenario can't be applied.

    covariance: of the instruments in its own order, for shocks that spread.
    """
    if scenario.WhichOneof("event") == "window":
        return await _window(database, call, scenario.window, names)
    return _shock(scenario.shock, names, covariance)


def _shock(shock: pb.ShockEvent, names: tuple[str, ...], covariance: Table) -> Floats:
    given = dict(zip(shock.instrument_ids, floats(shock.returns).tolist(), strict=True))
    if not shock.spread_by_covariance:
        return np.array([given.get(name, 0.0) for name in names])
    place = {name: i for i, name in enumerate(covariance.instrument_ids)}
    if unknown := [name for name in given if name not in place]:
        text = f"{unknown[0]!r} is in no history or covariance that its shock could spread by"
        raise precondition("UNKNOWN_INSTRUMENT", text)
    known = np.array([place[name] for name in given])
    spread = conditional_shocks(covariance.values, known, np.array(list(given.values())))
    return np.maximum(spread[[place[name] for name in names]], -1.0)


async def _window(
    database: Database, call: Call, window: pb.WindowEvent, names: tuple[str, ...]
) -> Floats:
    span = Span(
        optional_moment(window, "start_time", "window."),
        optional_moment(window, "end_time", "window."),
    )
    try:
        history = await read(database, call, window.universe_id, span, names)
    except Refusal as refusal:
        raise precondition("NO_HISTORY", refusal.message) from refusal
    values = history.table.values
    if history.is_prices:
        values = simple_returns(carried(values))
    missing = np.isnan(values).any(axis=0)
    if missing.any() or not len(values):
        name = names[int(missing.argmax())]
        raise precondition("HISTORY_GAPS", f"{name!r} has no whole history in the window")
    return window_shocks(values)
