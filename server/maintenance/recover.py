"""After a restore to an earlier time: what the outside was told that the database doesn't know.

Events are numbered in their stream without gaps, so those with a number above the stream's last are
lost to the database. Decisions, settlements and ends of reservations are entered again as they
were, without an event, and requests with their answers; so are portfolios, versions of limits,
parameters and trading states, and corporate actions. Whatever else is lost is told, to be done
again by hand. Streams go on after the highest number that was published, so that none comes twice.

Nothing of a tenant is written unless all of it is: one transaction. Doing it again finds nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

import asyncpg

from server.calls.errors import Refusal
from server.convert import told
from server.convert.told import ToldDecision
from server.maintenance.recover_actions import APPLIED, LostActions
from server.maintenance.recover_changes import CHANGES
from server.maintenance.recover_changes import enter as enter_change
from server.maintenance.recover_portfolios import CHANGED, is_closing, is_creation
from server.maintenance.recover_portfolios import enter as enter_portfolio
from server.observability.alerts import CRITICAL, alert
from storage.errors import StorageError
from storage.events.ports import InMessage
from storage.postgres import outbox, recovery, settlements, tenants
from storage.postgres.pool import Database
from storage.postgres.requests import Request

DEADLINE_S = 600.0
_IN_A_PORTFOLIO = {"PositionSized", "DecisionSettled", "ReservationExpired", CHANGED}
_TOLD_ONLY = {
    "Alert",
    "SignalsRefused",
    "LimitBreached",
    "EffectiveParametersChanged",
    "SizingAnalyzed",
}
"""Events that change nothing by themselves."""


class Outcome(StrEnum):
    """What has become of a lost event."""

    ENTERED = "ENTERED"
    TOLD_ONLY = "TOLD_ONLY"
    BY_HAND = "BY_HAND"
    """It has to be done again by somebody."""


@dataclass(frozen=True)
class LostEvent:
    """An event that was published and is not in the database. portfolio_id '': of the firm."""

    tenant_id: str
    portfolio_id: str
    sequence: int
    type: str
    event_id: str
    publish_time: datetime
    payload: bytes = field(repr=False)


@dataclass(frozen=True)
class Finding:
    """A lost event, what has become of it, and why nothing more."""

    event: LostEvent
    outcome: Outcome
    why: str = ""


@dataclass(frozen=True)
class Gap:
    """Numbers of a stream that nobody knows: lost before they were published, or since deleted."""

    tenant_id: str
    portfolio_id: str
    first: int
    last: int


@dataclass(frozen=True)
class Report:
    """What was found, by tenant and stream in the order of the numbers.

    event_counts: of tenants that the database doesn't have at all; nothing of them is entered.
    """

    findings: tuple[Finding, ...]
    gaps: tuple[Gap, ...]
    event_counts: Mapping[str, int] = field(default_factory=dict)


class Search:
    """Collects what is lost: `take` each published message, then `lost`."""

    def __init__(self, known: Mapping[str, Mapping[str, int]]) -> None:
        """known: the last number of each stream, by tenant and portfolio ('' is the firm's)."""
        self._known = known
        self._found: dict[tuple[str, str, int], LostEvent] = {}
        self._of_strangers = defaultdict[str, set[str]](set)

    def take(self, message: InMessage) -> None:
        """Keeps a message whose number the database doesn't know."""
        number = message.properties.get("portfolio_sequence", "")
        if not number.isdecimal():
            return
        if message.tenant_id not in self._known:
            self._of_strangers[message.tenant_id].add(message.event_id)
            return
        own = message.key == message.tenant_id and message.event_type not in _IN_A_PORTFOLIO
        portfolio_id, sequence = "" if own else message.key, int(number)
        if sequence <= self._known[message.tenant_id].get(portfolio_id, 0):
            return
        self._found[message.tenant_id, portfolio_id, sequence] = LostEvent(
            message.tenant_id,
            portfolio_id,
            sequence,
            message.event_type,
            message.event_id,
            datetime.fromtimestamp(message.publish_time_ms / 1000, UTC),
            message.payload,
        )

    def event_counts(self) -> dict[str, int]:
        """How many events there are of each tenant that the database doesn't have."""
        return {name: len(ids) for name, ids in sorted(self._of_strangers.items())}

    def lost(self, tenant_id: str) -> list[LostEvent]:
        """Of a tenant, by stream and number."""
        mine = sorted(key for key in self._found if key[0] == tenant_id)
        return [self._found[key] for key in mine]

    def gaps(self, tenant_id: str) -> list[Gap]:
        """Numbers of a tenant's streams that are neither known nor found."""
        numbers = defaultdict[str, list[int]](list)
        for tenant, portfolio_id, sequence in self._found:
            if tenant == tenant_id:
                numbers[portfolio_id].append(sequence)
        return [
            Gap(tenant_id, portfolio_id, *span)
            for portfolio_id in sorted(numbers)
            for span in recovery.gaps(
                numbers[portfolio_id], self._known[tenant_id].get(portfolio_id, 0)
            )
        ]


async def known_streams(database: Database) -> dict[str, dict[str, int]]:
    """The last number of each stream, by tenant and portfolio."""
    found = {}
    for tenant_id in await tenants.list_ids(database, deadline_s=DEADLINE_S):
        async with database.connection(tenant_id, deadline_s=DEADLINE_S) as connection:
            found[tenant_id] = await recovery.sequences(connection, tenant_id)
    return found


async def recover(
    database: Database, read: Callable[[Callable[[InMessage], None]], None], *, write: bool = True
) -> Report:
    """Finds what is lost, and enters it. read: hands every published message to what it is given.

    write: False only finds it; then `outcome` is what would be tried.
    """
    known = await known_streams(database)
    search = Search(known)
    read(search.take)
    findings, gaps = list[Finding](), list[Gap]()
    for tenant_id in known:
        lost = search.lost(tenant_id)
        gaps += search.gaps(tenant_id)
        if not write:
            there = set(known[tenant_id])
            findings += [_untried(event, there) for event in lost]
        elif lost:
            async with database.transaction(tenant_id, deadline_s=DEADLINE_S) as connection:
                findings += await _enter_all(connection, tenant_id, lost, known[tenant_id])
    return Report(tuple(findings), tuple(gaps), search.event_counts())


def _untried(event: LostEvent, there: set[str]) -> Finding:
    """What is to be tried. there: portfolios that are there, to which new ones are added."""
    if event.type in _TOLD_ONLY:
        return Finding(event, Outcome.TOLD_ONLY)
    if event.type == CHANGED and is_creation(event.payload):
        there.add(event.portfolio_id)
    if event.portfolio_id not in there:
        return Finding(event, Outcome.BY_HAND, "the portfolio is not in the database")
    if event.type not in _IN_A_PORTFOLIO | CHANGES | {APPLIED}:
        return Finding(event, Outcome.BY_HAND, "do it again")
    return Finding(event, Outcome.ENTERED)


async def _enter_all(
    connection: asyncpg.Connection,
    tenant_id: str,
    lost: Sequence[LostEvent],
    streams: Mapping[str, int],
) -> list[Finding]:
    requests = _requests(event for event in lost if event.type == "PositionSized")
    actions = LostActions(connection, tenant_id)
    closings = {e.portfolio_id for e in lost if e.type == CHANGED and is_closing(e.payload)}
    there, findings = set(streams), []
    for event in lost:
        finding = _untried(event, there)
        if finding.outcome is Outcome.ENTERED:
            try:
                async with recovery.attempt(connection):  # what fails leaves the rest alone
                    why = await _enter(connection, event, requests, actions, closings)
            except (Refusal, StorageError, asyncpg.PostgresError, ValueError) as error:
                why = str(error)
            outcome = Outcome.BY_HAND if why else Outcome.ENTERED
            finding = replace(finding, outcome=outcome, why=why)
        findings.append(finding)
    highest = {event.portfolio_id: event.sequence for event in lost}  # numbers of a stream rise
    await recovery.go_on(connection, tenant_id, highest)
    by_hand = sum(item.outcome is Outcome.BY_HAND for item in findings)
    text = (
        f"restored to an earlier time: {len(lost)} events were published that the database did not "
        f"have; {by_hand} of them have to be done again by hand"
    )
    found = alert(CRITICAL, "DATABASE_RECOVERED", text, "firm")
    await outbox.append(connection, tenant_id, "", [found])
    return findings


_Requests = dict[str, Request | None]
"""By id, as text; None: it has been entered."""


def _requests(events: Iterable[LostEvent]) -> _Requests:
    """The requests whose decisions are lost, with their answers as far as all parts are there."""
    parts = defaultdict[str, dict[int, ToldDecision]](dict)
    for event in events:
        if (item := told.decision_of(event.payload)) is not None:
            parts[str(item.decision.request_id)][item.part] = item
    made: _Requests = {}
    for request_id, found in parts.items():
        one = next(iter(found.values()))
        is_whole = len(found) == one.part_count
        made[request_id] = Request(
            one.decision.request_id,
            one.method if is_whole else one.method + recovery.PARTLY_LOST,
            one.request_hash,
            b"",
            b"".join(found[part].answer for part in sorted(found)),
        )
    return made


async def _enter(
    connection: asyncpg.Connection,
    event: LostEvent,
    requests: _Requests,
    actions: LostActions,
    closings: Collection[str],
) -> str:
    """Enters an event; why it can't be, or not all of it, or ''."""
    tenant_id, payload = event.tenant_id, event.payload
    if event.type == CHANGED:
        return await enter_portfolio(connection, tenant_id, payload)
    if event.type == APPLIED:
        return await actions.enter(payload)
    if event.type in CHANGES:
        return await enter_change(connection, tenant_id, event.type, payload, closings)
    if event.type == "PositionSized":
        return await _enter_decision(connection, event, requests)
    if event.type == "ReservationExpired":
        is_open = await recovery.expire(connection, event.tenant_id, told.expired(event.payload))
        return "" if is_open else "there is no such reservation that is open"
    write = told.settlement_of(event.tenant_id, event.payload)
    if write is None:
        return "a release before this one told it, without enough to book it: book it again"
    await settlements.settle(connection, write)
    version = told.version_after(event.payload)
    await recovery.version_at_least(connection, event.tenant_id, event.portfolio_id, version)
    return ""


async def _enter_decision(
    connection: asyncpg.Connection, event: LostEvent, requests: _Requests
) -> str:
    item = told.decision_of(event.payload)
    if item is None:
        return "a release before this one told it, without enough to enter it"
    request_id = str(item.decision.request_id)
    request = requests[request_id]
    if request is not None:
        await recovery.put_request(connection, event.tenant_id, request)
    await recovery.tenant_version_at_least(connection, event.tenant_id, item.trading_state_version)
    await recovery.enter(
        connection,
        event.tenant_id,
        item.decision,
        item.reservation,
        version=item.portfolio_version + 1,
        equity=item.equity,
    )
    requests[request_id] = None
    return ""
