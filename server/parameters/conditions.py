"""The observations that rules on market conditions look at."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import asyncpg

from compute.adapt.condition import (
    UNKNOWN,
    ConditionRule,
    ConditionScope,
    Observation,
    is_whole,
)
from compute.parameters import EffectiveParameters
from storage.postgres import conditions
from storage.postgres.conditions import StoredCondition, Undecided

OBSERVATIONS_MAX = 256
"""Of a condition: older ones are read where these don't decide a rule (`deciding`)."""
LOOK_BACK_MAX = 20_000
"""So many older ones are looked at, which takes some milliseconds; what came before them is taken
as the worst (`condition.UNKNOWN`)."""

Conditions = Mapping[conditions.Key, Sequence[Observation]]
"""By condition and what it is observed of, in the order of time."""


def key_of(
    rule: ConditionRule, portfolio_id: str, strategy_id: str, instrument_id: str = ""
) -> conditions.Key | None:
    """Whose observation a rule looks at; None where there is nobody to look at."""
    if rule.scope is ConditionScope.FIRM:
        return rule.condition_id, "", ""
    owner = {
        ConditionScope.PORTFOLIO: portfolio_id,
        ConditionScope.STRATEGY: strategy_id,
        ConditionScope.INSTRUMENT: instrument_id,
    }[rule.scope]
    return (rule.condition_id, rule.scope.name, owner) if owner else None


async def observed(
    connection: asyncpg.Connection,
    tenant_id: str,
    parameters: EffectiveParameters,
    portfolio_id: str,
    strategy_id: str,
) -> Conditions:
    """The newest observations of the conditions that the parameters have rules for, as
    `condition.is_whole` wants them."""
    rules = rules_by_key(parameters, portfolio_id, strategy_id)
    if not rules:
        return {}
    rows = await conditions.newest_of(connection, tenant_id, sorted(rules), OBSERVATIONS_MAX)
    found = {key: [of_stored(item) for item in seen] for key, seen in rows.items()}
    older = await deciding(connection, tenant_id, found, rules)
    return {key: [*(item for item, _ in older.get(key, ())), *seen] for key, seen in found.items()}


async def deciding(
    connection: asyncpg.Connection,
    tenant_id: str,
    found: Mapping[conditions.Key, Sequence[Observation]],
    rules: Mapping[conditions.Key, Iterable[ConditionRule]],
) -> dict[conditions.Key, list[tuple[Observation, datetime]]]:
    """What came before `found`, the newest until a time, where these don't decide a rule; with when
    each was stored. Where that is too far back, one that says nothing (`condition.UNKNOWN`)."""
    wanted = {
        Undecided(key, seen[0].as_of_time, min(rule.enter, rule.leave), max(rule.enter, rule.leave))
        for key, seen in found.items()
        for rule in rules[key]
        if rule.enter is not None and rule.leave is not None
        if len(seen) >= OBSERVATIONS_MAX and is_whole(seen, rule, OBSERVATIONS_MAX)
    }
    if not wanted:
        return {}
    rows, unknown = await conditions.decided_before(
        connection, tenant_id, list(wanted), OBSERVATIONS_MAX, LOOK_BACK_MAX
    )
    older: dict[conditions.Key, list[tuple[Observation, datetime]]] = {}
    for key, time in unknown:
        older[key] = [(Observation(time, UNKNOWN), time)]
    for seen, told in rows:
        older.setdefault(seen.key, []).append((of_stored(seen), told))
    return {key: sorted(seen, key=lambda item: item[0].as_of_time) for key, seen in older.items()}


def of_stored(seen: StoredCondition) -> Observation:
    """What a rule reads of it."""
    return Observation(seen.as_of_time, seen.value, seen.category)


def rules_by_key(
    parameters: EffectiveParameters, portfolio_id: str, strategy_id: str
) -> dict[conditions.Key, list[ConditionRule]]:
    """The rules that look at each condition, observed or not."""
    found: dict[conditions.Key, list[ConditionRule]] = {}
    for rule in parameters.condition_rules:
        names = rule.instrument_ids if rule.scope is ConditionScope.INSTRUMENT else ("",)
        for name in names:
            key = key_of(rule, portfolio_id, strategy_id, name)
            if key is not None:
                found.setdefault(key, []).append(rule)
    return found


def keys(
    parameters: EffectiveParameters, portfolio_id: str, strategy_id: str
) -> list[conditions.Key]:
    """What the parameters have rules for, observed or not."""
    return sorted(rules_by_key(parameters, portfolio_id, strategy_id))
