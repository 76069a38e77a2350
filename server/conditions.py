"""The observations that rules on market conditions look at."""

from collections.abc import Mapping, Sequence

import asyncpg

from compute.adapt.condition import Observation
from compute.parameters import EffectiveParameters
from storage.postgres import conditions

OBSERVATIONS_MAX = 256
"""Of a condition: what came before them is taken as the worst (`condition.state_after`)."""

Conditions = Mapping[str, Sequence[Observation]]
"""By condition, in the order of time."""


async def observed(
    connection: asyncpg.Connection, tenant_id: str, parameters: EffectiveParameters
) -> Conditions:
    """The newest observations of the conditions that the parameters have rules for."""
    ids = sorted({rule.condition_id for rule in parameters.condition_rules})
    if not ids:
        return {}
    rows = await conditions.newest_of(connection, tenant_id, ids, OBSERVATIONS_MAX)
    return {
        name: [Observation(item.as_of_time, item.value, item.category) for item in found]
        for name, found in rows.items()
    }
