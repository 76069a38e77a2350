"""Limits on the loss of a book in stored stress scenarios: each becomes a linear limit.

    -sum_i x_i w_i <= loss_max      x_i: return of instrument i in the scenario

The dual of that row is the price of the scenario. A scenario names the returns of some instruments;
`Others` says what the rest of a book does in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from compute.limits.book_guard import ReturnData, ReturnMatrix
from compute.limits.policy import Limits, LinearLimit, StressLimit
from compute.market import Floats, MissingInputError
from compute.risk.scenarios import conditional_shocks


class Others(IntEnum):
    """What the instruments that a scenario doesn't name do in it."""

    STAY = 1
    """Their return is 0."""
    SPREAD = 2
    """They move as a covariance says they do on average (`conditional_shocks`), to -1 at worst."""
    UNKNOWN = 3
    """Nobody knows: a window of a history that has not all of them."""


@dataclass(frozen=True)
class StressEvent:
    """A version of a stored scenario: simple returns (k,) of the instruments that it names."""

    scenario_id: str
    version: int
    others: Others
    instrument_ids: tuple[str, ...]
    returns: tuple[float, ...]


def with_stress(
    limits: Limits, events: Sequence[StressEvent], ids: Sequence[str], data: ReturnData
) -> Limits:
    """The limits with a linear one in the place of each on a scenario, and none on these left.

    ids: all instruments that are sized, held or reserved. data: what shocks spread by, covariances
    first. A scenario that has a linear limit already keeps it, with the smaller of both bounds.
    Raises `MissingInputError`, naming the limit, where a loss can't be told.
    """
    by_id = {event.scenario_id: event for event in events}
    rows = list(limits.joint.linear)
    taken = {row.name for row in rows}
    place = {row.scenario_id: i for i, row in enumerate(rows) if row.scenario_id}
    for limit in _tightest(limits.joint.stress):
        if (i := place.get(limit.scenario_id)) is not None:
            bounds = [limit.loss_max, *filter(None, [rows[i].upper])]
            rows[i] = replace(rows[i], upper=min(bounds))
            continue
        event = by_id.get(limit.scenario_id)
        if event is None:
            text = f"the limit {path_of(limit)} names no stress scenario in force"
            raise MissingInputError("NO_STRESS_SCENARIO", text)
        try:
            shocks = returns_in(event, ids, data)
        except MissingInputError as error:
            text = f"{error}, which the limit {path_of(limit)} needs"
            raise MissingInputError(error.reason, text) from error
        name = _free(limit.scenario_id, taken)
        taken.add(name)
        losses = {i: -x for i, x in zip(ids, shocks.tolist(), strict=True) if x != 0.0}
        rows.append(LinearLimit(name, losses, upper=limit.loss_max, scenario_id=limit.scenario_id))
    joint = replace(limits.joint, linear=tuple(rows), stress=())
    return replace(limits, joint=joint)


def _tightest(given: Sequence[StressLimit]) -> list[StressLimit]:
    """One for each scenario: that of the smallest loss, whichever scope states it."""
    found: dict[str, StressLimit] = {}
    for limit in given:
        other = found.setdefault(limit.scenario_id, limit)
        if limit.loss_max < other.loss_max:
            found[limit.scenario_id] = limit
    return list(found.values())


def returns_in(event: StressEvent, ids: Sequence[str], data: ReturnData) -> Floats:
    """The return of each of `ids` in a scenario, (n,).

    Raises `MissingInputError` where the scenario doesn't say it.
    """
    given = dict(zip(event.instrument_ids, event.returns, strict=True))
    if event.others is Others.SPREAD:
        return _spread(event, given, ids, data)
    if event.others is Others.UNKNOWN:
        for name in ids:
            if name not in given:
                text = (
                    f"{name!r} has no whole history in the window of the stress scenario "
                    f"{event.scenario_id!r}"
                )
                raise MissingInputError("HISTORY_GAPS", text)
    return np.array([given.get(name, 0.0) for name in ids])


def path_of(limit: StressLimit) -> str:
    """The limit as errors name it."""
    return f"joint.stress ({limit.scenario_id})"


def _spread(
    event: StressEvent, given: dict[str, float], ids: Sequence[str], data: ReturnData
) -> Floats:
    matrix = data.covariance or data.scenarios
    if matrix is None:
        text = (
            f"the shocks of the stress scenario {event.scenario_id!r} spread by a covariance: name "
            "one by covariance_matrix_id, or a covariance_universe in the sizing parameters"
        )
        raise MissingInputError("MISSING_MATRIX", text)
    place = matrix.place
    for name in (*given, *ids):
        if name not in place:
            text = (
                f"{name!r} is not in the matrix that the shocks of the stress scenario "
                f"{event.scenario_id!r} spread by"
            )
            raise MissingInputError("MISSING_MATRIX_ENTRY", text)
    values = matrix.values if matrix is data.covariance else _covariance(matrix)
    known = np.array([place[name] for name in given], dtype=np.int64)
    spread = conditional_shocks(values, known, np.array(list(given.values())))
    return np.maximum(spread[[place[name] for name in ids]], -1.0)


def _covariance(scenarios: ReturnMatrix) -> Floats:
    centred = scenarios.values - scenarios.probability @ scenarios.values
    return np.asarray((scenarios.probability[:, None] * centred).T @ centred)


def _free(name: str, taken: set[str]) -> str:
    """NAME, or NAME (2) and so on where another limit is called so."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free
