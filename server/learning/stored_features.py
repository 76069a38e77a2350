"""Features that models find in their sets for lines of a request: what is known of them now.

By the rule of `compute.learn.asof`, as in training (`feature_join.py`).
"""

from collections.abc import Sequence
from datetime import datetime

from compute.learn.predicted import StoredFeatures, WrongLine
from compute.market import Integers
from server.convert.model_records import ModelDetails
from server.refreshing_cache import RefreshingCache
from storage.postgres import features
from storage.postgres.features import FeatureSet
from storage.postgres.pool import Database


class FeatureStore:
    """What is known of instruments now. Sets never change, so they are kept."""

    def __init__(self, database: Database, deadline_s: float) -> None:
        self._database = database
        self._deadline_s = deadline_s
        self._sets: RefreshingCache[FeatureSet] = RefreshingCache(float("inf"), 256)

    async def known(
        self,
        tenant_id: str,
        details: ModelDetails,
        names: Sequence[str],
        instrument_ids: Sequence[str],
        lines: Integers,
        moment: datetime,
    ) -> StoredFeatures | None:
        """Those of `names` that the model's set has, for the lines that need them; None for none of
        them. Errors: `NotFound`."""
        key = (tenant_id, details.feature_set_id)
        found = await self._sets.get(key, lambda: self._set(*key))
        wanted = tuple(name for name in names if name in found.features)
        if not wanted:
            return None
        asked = [instrument_ids[line] for line in lines]
        async with self._database.connection(tenant_id, deadline_s=self._deadline_s) as connection:
            rows = await features.known_before(connection, *key, asked, moment)
        places = [found.features.index(name) for name in wanted]
        age_max_s = youngest(found.age_max_s, details.feature_age_max_s)
        values, times, wrong = [], [], []
        for line, name, row in zip(lines.tolist(), asked, rows, strict=True):
            if row is None:
                text = f"no value of {', '.join(wanted)} is known of {name!r} in set {key[1]!r}"
                wrong.append(WrongLine(line, "MISSING_FEATURE", text))
            elif age_max_s is not None and (moment - row.as_of_time).total_seconds() > age_max_s:
                text = (
                    f"{', '.join(wanted)} of {name!r} in set {key[1]!r} are of "
                    f"{row.as_of_time:%Y-%m-%dT%H:%M:%SZ}; at most {age_max_s:.0f} s are taken"
                )
                wrong.append(WrongLine(line, "STALE_FEATURES", text))
            values.append(() if row is None else tuple(row.values[place] for place in places))
            times.append("" if row is None else row.as_of_time.isoformat())
        return StoredFeatures(
            details.feature_set_id, wanted, tuple(lines.tolist()), tuple(values), tuple(times),
            tuple(wrong),
        )  # fmt: skip

    async def _set(self, tenant_id: str, feature_set_id: str) -> FeatureSet:
        async with self._database.connection(tenant_id, deadline_s=self._deadline_s) as connection:
            return await features.get_set(connection, tenant_id, feature_set_id)


def youngest(*limits_s: float | None) -> float | None:
    """The tightest of age limits, None where there is none."""
    return min((item for item in limits_s if item is not None), default=None)
