"""Stored stress scenarios as what they say of a book's instruments."""

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
from positionsizing.v1 import limits_pb2
from positionsizing.v1 import risk_service_pb2 as pb

from compute.history import Table, carried, simple_returns
from compute.limits.book_guard import ReturnData, ReturnMatrix
from compute.limits.policy import Limits
from compute.limits.stress_limits import Others, StressEvent, returns_in
from compute.market import MissingInputError
from compute.risk.scenarios import window_shocks
from server.calls.errors import FieldViolation, Refusal, invalid, precondition
from server.calls.request_context import Call
from server.convert.columns import Floats
from server.convert.names import optional_moment
from server.convert.risk import shock_event
from server.risk.histories import Lend, Span, read_by
from storage.postgres import stress
from storage.postgres.stress import StoredScenario


def scenarios_of(*limits: Limits | None) -> tuple[str, ...]:
    """The scenarios that limits name, each once."""
    named = (item.scenario_id for each in limits if each for item in each.joint.stress)
    return tuple(sorted(set(named)))


def unknown_scenarios(
    joint: limits_pb2.JointLimits, known: Collection[str], path: str
) -> Iterator[FieldViolation]:
    """Scenarios that limits name and that are not among those known."""
    for place, item in enumerate(joint.stress):
        if item.scenario_id not in known:
            text = f"{item.scenario_id!r} is no stress scenario in force"
            yield FieldViolation(f"{path}.stress[{place}].scenario_id", "NOT_FOUND", text)


async def read_events(
    lend: Lend,
    call: Call,
    scenario_ids: Iterable[str],
    names: Iterable[str],
    unread: dict[str, str] | None = None,
) -> tuple[StressEvent, ...]:
    """The scenarios of these ids that are in force, as they are now, for a book of `names`.

    unread: takes why a scenario can't be read, by its id; None: that raises `Refusal`.
    """
    stored = await _in_force(lend, call, scenario_ids)
    ids = sorted(set(names))
    events = []
    for item in stored:
        try:
            events.append(await event_of(lend, call, item, ids))
        except Refusal as refusal:
            if unread is None:
                raise
            unread[item.scenario_id] = refusal.message
    return tuple(events)


async def read_stored(
    lend: Lend, call: Call, scenario_ids: Iterable[str]
) -> list[pb.StressScenario]:
    """The scenarios of these ids that are in force, as they were put."""
    stored = await _in_force(lend, call, scenario_ids)
    return [pb.StressScenario.FromString(item.payload) for item in stored]


async def _in_force(lend: Lend, call: Call, scenario_ids: Iterable[str]) -> list[StoredScenario]:
    wanted = sorted(set(scenario_ids))
    if not wanted:
        return []
    async with lend() as connection:
        return await stress.in_force(connection, call.tenant_id, wanted)


async def in_shocks(
    lend: Lend,
    call: Call,
    scenario: pb.StressScenario,
    names: Sequence[str],
    path: str,
) -> pb.StressScenario:
    """A scenario without a window: what happened in it to each of `names`.

    Raises `Refusal` naming the path where one of them has no whole history in it.
    """
    if scenario.WhichOneof("event") != "window":
        return scenario
    found = await _window(lend, call, scenario.window, names)
    for name in names:
        if name not in found:
            text = (
                f"{name!r} has no whole history in the window of the stress scenario "
                f"{scenario.scenario_id!r}"
            )
            raise invalid(path, "HISTORY_GAPS", text)
    shock = pb.ShockEvent(instrument_ids=found.keys(), returns=found.values())
    return pb.StressScenario(scenario_id=scenario.scenario_id, shock=shock)


async def event_of(
    lend: Lend, call: Call, stored: StoredScenario, names: Iterable[str]
) -> StressEvent:
    """What a scenario says of `names`. Raises `Refusal` where its window has no history."""
    scenario = pb.StressScenario.FromString(stored.payload)
    head = stored.scenario_id, stored.version
    if scenario.WhichOneof("event") == "window":
        found = await _window(lend, call, scenario.window, names)
        return StressEvent(*head, Others.UNKNOWN, tuple(found), tuple(found.values()))
    return shock_event(*head, scenario.shock)


async def shocks_of(
    lend: Lend,
    call: Call,
    stored: StoredScenario,
    names: tuple[str, ...],
    covariance: Table,
) -> Floats:
    """Return of each of `names` (n,). Raises `Refusal` where the scenario can't be applied.

    covariance: of the instruments in its own order, for shocks that spread.
    """
    event = await event_of(lend, call, stored, names)
    matrix = ReturnMatrix(covariance.instrument_ids, covariance.values, np.zeros(0))
    try:
        return returns_in(event, names, ReturnData(covariance=matrix))
    except MissingInputError as error:
        raise precondition(error.reason, str(error)) from error


async def _window(
    lend: Lend, call: Call, window: pb.WindowEvent, names: Iterable[str]
) -> dict[str, float]:
    """Returns over a window of those of `names` that have their whole history in it."""
    span = Span(
        optional_moment(window, "start_time", "window."),
        optional_moment(window, "end_time", "window."),
    )
    try:
        history = await read_by(lend, call, window.universe_id, span)
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
