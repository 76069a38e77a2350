"""What rules would have done to parameters at past times, by the code that sizes live.

Each time sees what was of it or of before: versions in force, observations, snapshots, equities.
Everything is read first; then times are gone through in a thread, each by `adaptation.of_state`.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import asyncpg
import numpy as np

from compute.adapt.adjustment import Adjustment, fraction_multiplier
from compute.adapt.condition import ConditionRule, Observation, decides
from compute.adapt.line_rules import rule_multipliers
from compute.adapt.schedule import Schedule, Sessions
from compute.market import Floats
from compute.optimize.time_limit import checkpoint
from compute.parameters import EffectiveParameters
from server import calendars
from server.calls.errors import invalid
from server.calls.long_work import in_thread
from server.calls.request_context import Call
from server.convert import parameters as convert
from server.convert.recorded import answer_of
from server.parameters import adaptation
from server.parameters.conditions import (
    OBSERVATIONS_MAX,
    deciding,
    of_stored,
    rules_by_key,
)
from server.parameters.past_volatility import Readings, volatilities
from server.portfolios.portfolio_state import PortfolioState
from server.portfolios.state import States
from storage.postgres import conditions, decisions, parameters
from storage.postgres.conditions import Key
from storage.postgres.decisions import DecisionFilter
from storage.postgres.parameters import ParameterSet
from storage.postgres.pool import Database
from storage.postgres.rows import Document

OBSERVATIONS_ALL_MAX = 200_000
DECISIONS_MAX = 20_000
_PAGE = 200


@dataclass(frozen=True)
class PastRequest:
    """What is asked for; equity: (time, equity) in the order of time, empty: as recorded.

    tried: takes the place of the scope's versions, as it would be stored; None: nothing does.
    """

    portfolio_id: str
    strategy_id: str
    tried: Document | None
    times: Sequence[datetime]
    instrument_ids: tuple[str, ...]
    equity: Sequence[tuple[datetime, float]]
    as_told: bool


@dataclass(frozen=True)
class Then:
    """What parameters came to at one time. volatility, weight_max: of the instruments, (k,)."""

    fraction: float
    fraction_stored: float
    adjustments: Sequence[Adjustment]
    equity: float | None
    edge_multiplier: Floats
    volatility: Floats
    weight_max: Floats


@dataclass(frozen=True)
class Simulated:
    """Each time, and whether any of the parameters tried out has a floor or a target."""

    found: Sequence[Then]
    has_floor: bool
    has_target: bool


@dataclass(frozen=True)
class _Span:
    """Parameters in force from a time on: as tried out, and as stored."""

    start: datetime
    tried: EffectiveParameters
    stored: EffectiveParameters


@dataclass(frozen=True)
class _Seen:
    """Observations of one condition with when each counts, both in the order of time."""

    times: Sequence[datetime]
    observations: Sequence[Observation]
    decided: Sequence[Sequence[int]]
    """Of each rule that looks at it: the place of the newest that decides, after each; -1: none."""

    def until(self, time: datetime) -> Sequence[Observation]:
        """The newest ones as a sizing at that time reads them (`conditions.observed`)."""
        end = bisect_right(self.times, time)
        start = max(0, end - OBSERVATIONS_MAX)
        newest = self.observations[start:end]
        if not start:
            return newest
        lasts = {places[end - 1] for places in self.decided}
        older = {
            place
            for last in lasts
            if last < start
            for place in range(max(0, last + 1 - OBSERVATIONS_MAX), last + 1)
        }
        return [*(self.observations[place] for place in sorted(older)), *newest]


@dataclass(frozen=True)
class _Past:
    """All that is read."""

    state: PortfolioState
    spans: Sequence[_Span]
    conditions: dict[Key, _Seen]
    equity: Sequence[tuple[datetime, float]]
    readings: dict[str | None, Readings]
    """Volatilities of the instruments by model; None: of the snapshots alone."""


async def simulated(
    database: Database, states: States, call: Call, asked: PastRequest
) -> Simulated:
    """What is asked for. Raises `Refusal`; errors: `NotFound`, `Unavailable`."""
    state = await states.portfolio(call.tenant_id, asked.portfolio_id, asked.strategy_id)
    async with database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
        spans = await _spans(connection, call.tenant_id, asked)
        tried = [span.tried for span in spans]
        every = [*tried, *(span.stored for span in spans)]
        for item in every:
            _check_calendar(item, asked)
        has_floor = any(item.has_floor for item in every)
        equity = asked.equity
        if has_floor and not equity:
            equity = await _equity(connection, call.tenant_id, asked)
        past = _Past(
            state,
            spans,
            await _conditions(connection, call.tenant_id, asked, every),
            equity,
            await _readings(connection, call, asked, tried, state.portfolio.universe_id),
        )
    sessions = {item.schedule: await calendars.sessions(item.schedule) for item in every}
    found = await in_thread(call, lambda: _through(past, asked, sessions))
    has_target = any(item.volatility_target is not None for item in tried)
    has_floor = any(item.has_floor for item in tried)
    return Simulated(found, has_floor, has_target)


async def _spans(connection: asyncpg.Connection, tenant_id: str, asked: PastRequest) -> list[_Span]:
    owner = {"portfolio_id": asked.portfolio_id, "strategy_id": asked.strategy_id}
    first, last = asked.times[0], asked.times[-1]
    changes = await parameters.change_times(connection, tenant_id, **owner, after=first)
    out = []
    for time in (first, *(item for item in changes if item <= last)):
        layers = await parameters.layers(connection, tenant_id, **owner, time=time)
        stored = convert.effective(layer.document for layer in layers)
        tried = stored
        if asked.tried is not None:
            others = [x for x in layers if (x.portfolio_id, x.strategy_id) != tuple(owner.values())]
            own = replace(_nothing(asked, first), document=asked.tried)
            # Nothing is more special than the scope of the request itself.
            tried = convert.effective(layer.document for layer in (own, *others))
        out.append(_Span(time, tried, stored))
    return out


def _nothing(asked: PastRequest, time: datetime) -> ParameterSet:
    return ParameterSet(asked.portfolio_id, asked.strategy_id, 0, time, {}, "", "", time)


def _check_calendar(item: EffectiveParameters, asked: PastRequest) -> None:
    """Sessions are known from the year before this one on (`calendars.py`)."""
    known = datetime(datetime.now(UTC).year - 1, 1, 1, tzinfo=UTC)
    if item.schedule.exchanges and asked.times[0] < known:
        text = f"is before {known:%Y-%m-%d}, from which on sessions of exchanges are known"
        raise invalid("start_time", "OUT_OF_RANGE", text)


async def _conditions(
    connection: asyncpg.Connection,
    tenant_id: str,
    asked: PastRequest,
    every: Sequence[EffectiveParameters],
) -> dict[Key, _Seen]:
    owner = asked.portfolio_id, asked.strategy_id
    rules: dict[Key, dict[ConditionRule, None]] = {}
    for item in every:
        for key, own in rules_by_key(item, *owner).items():
            rules.setdefault(key, {}).update(dict.fromkeys(own))
    if not rules:
        return {}
    first, last = asked.times[0], asked.times[-1]
    rows = await conditions.until(
        connection,
        tenant_id,
        sorted(rules),
        first,
        last,
        OBSERVATIONS_MAX,
        OBSERVATIONS_ALL_MAX + 1,
    )
    if len(rows) > OBSERVATIONS_ALL_MAX:
        text = f"there are more than {OBSERVATIONS_ALL_MAX} observations of conditions until then"
        raise invalid("end_time", "TOO_MANY", text)
    found: dict[Key, list[tuple[Observation, datetime]]] = {}
    for seen, told in rows:
        found.setdefault(seen.key, []).append((of_stored(seen), told))
    before = {
        key: [item for item, _ in seen if item.as_of_time < first] for key, seen in found.items()
    }
    older = await deciding(connection, tenant_id, before, rules)
    out = {}
    for key, seen_then in found.items():
        whole = [*older.get(key, ()), *seen_then]
        observations = [item for item, _ in whole]
        times = [max(x.as_of_time, told) if asked.as_told else x.as_of_time for x, told in whole]
        decided = [_decided(rule, observations) for rule in rules[key]]
        out[key] = _Seen(times, observations, decided)
    return out


def _decided(rule: ConditionRule, observations: Sequence[Observation]) -> list[int]:
    """The place of the newest observation that decides, after each; -1: none."""
    out, newest = [], -1
    for place, item in enumerate(observations):
        newest = place if decides(item, rule) else newest
        out.append(newest)
    return out


async def _equity(
    connection: asyncpg.Connection, tenant_id: str, asked: PastRequest
) -> list[tuple[datetime, float]]:
    """Equities that the decisions of the portfolio were made on, of all strategies."""
    where = DecisionFilter(portfolio_id=asked.portfolio_id)
    out: list[tuple[datetime, float]] = []
    after = None
    while True:
        page = await decisions.recorded(connection, tenant_id, where, after=after, limit=_PAGE)
        for item in page:
            if item.create_time > asked.times[-1]:
                return out
            decided = answer_of(item.method, item.response, str(item.decision_id))
            out.append((item.create_time, decided.summary.equity))
        if len(page) < _PAGE:
            return out
        if len(out) >= DECISIONS_MAX:
            text = f"the portfolio has more than {DECISIONS_MAX} decisions; give their equities"
            raise invalid("equity", "MISSING", text)
        after = page[-1].create_time, page[-1].decision_id


async def _readings(
    connection: asyncpg.Connection,
    call: Call,
    asked: PastRequest,
    tried: Sequence[EffectiveParameters],
    universe_id: str,
) -> dict[str | None, Readings]:
    if not asked.instrument_ids:
        return {}
    models = {item.volatility_model for item in tried}
    return {
        model_id: await volatilities(
            connection,
            call.tenant_id,
            model_id,
            universe_id,
            asked.instrument_ids,
            asked.times,
            as_told=asked.as_told,
        )
        for model_id in sorted(models | {None}, key=lambda name: name or "")
    }


def _through(
    past: _Past, asked: PastRequest, sessions: Mapping[Schedule, Mapping[str, Sessions]]
) -> list[Then]:
    """What parameters came to at each time, in their order."""
    starts = [span.start for span in past.spans]
    known = [time for time, _ in past.equity]
    highest = np.maximum.accumulate([value for _, value in past.equity] or [0.0])
    out = []
    for place, time in enumerate(asked.times):
        checkpoint()
        span = past.spans[bisect_right(starts, time) - 1]
        count = bisect_right(known, time)
        equity = past.equity[count - 1][1] if count else None
        seen = {key: item.until(time) for key, item in past.conditions.items()}
        mark = float(highest[count - 1]) if count else None
        state = replace(past.state, conditions=seen, high_water_mark=mark)

        def at(
            its: EffectiveParameters,
            state: PortfolioState = state,
            time: datetime = time,
            equity: float | None = equity,
        ) -> tuple[float, list[Adjustment]]:
            own = replace(state, parameters=its, sessions=sessions[its.schedule])
            found = adaptation.of_state(own, time, equity)
            found += adaptation.of_lines(own, asked.instrument_ids, time)
            return its.fraction_chosen * fraction_multiplier(found), found

        fraction, found = at(span.tried)
        stored = fraction if span.tried is span.stored else at(span.stored)[0]
        volatility = _volatility(past, span.tried, place, len(asked.instrument_ids))
        target = span.tried.volatility_target
        out.append(
            Then(
                fraction,
                stored,
                found,
                equity,
                _edge_multipliers(found, len(asked.instrument_ids)),
                volatility,
                _weight_max(volatility, target),
            )
        )
    return out


def _edge_multipliers(found: Sequence[Adjustment], count: int) -> Floats:
    of_lines = rule_multipliers(found)
    return np.ones(count) if of_lines is None else of_lines


def _volatility(past: _Past, its: EffectiveParameters, place: int, count: int) -> Floats:
    """The larger of the snapshot's volatility and the model's, (k,); 0: neither is known."""
    if not past.readings:
        return np.zeros(count)
    own = past.readings[None].volatility[place]
    if its.volatility_model is None:
        return own
    larger: Floats = np.maximum(own, past.readings[its.volatility_model].volatility[place])
    return larger


def _weight_max(volatility: Floats, target: float | None) -> Floats:
    if target is None:
        return np.full(len(volatility), np.inf)
    known = volatility > 0.0
    out: Floats = np.where(known, target / np.where(known, volatility, 1.0), 0.0)
    return out
