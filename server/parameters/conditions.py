"""The observations that rules on market conditions look at."""

from collections.abc import Mapping, Sequence

import asyncpg

from compute.adapt.condition import ConditionRule, ConditionScope, Observation
from compute.parameters import EffectiveParameters
from storage.postgres import conditions

OBSERVATIONS_MAX = 256
"""Of a condition: what came before them is taken as the worst (`condition.state_after`)."""

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
    """The newest observations of the conditions that the parameters have rules for."""
    wanted = keys(parameters, portfolio_id, strategy_id)
    if not wanted:
        return {}
    rows = await conditions.newest_of(connection, tenant_id, wanted, OBSERVATIONS_MAX)
    return {
        key: [Observation(item.as_of_time, item.value, item.category) for item in found]
        for key, found in rows.items()
    }


def keys(
    parameters: EffectiveParameters, portfolio_id: str, strategy_id: str
) -> list[conditions.Key]:
    """What the parameters have rules for, observed or not."""
    found = {
        key_of(rule, portfolio_id, strategy_id, name)
        for rule in parameters.condition_rules
        for name in (rule.instrument_ids if rule.scope is ConditionScope.INSTRUMENT else ("",))
    }
    return sorted(key for key in found if key is not None)
