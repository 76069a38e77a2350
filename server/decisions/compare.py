"""Why the sizes of two decisions differ: every combination of their inputs, and Shapley values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import numpy as np
from positionsizing.v1 import explanation_service_pb2 as pb

from compute.analytics.shapley import shapley_values
from compute.market import Floats, MissingInputError
from compute.optimize.time_limit import TimeLimit
from server.calls.errors import Refusal, precondition
from server.calls.request_context import Call
from server.convert.columns import floats, set_floats
from server.decisions import recorded
from server.decisions.combine import GROUPS, HOLDINGS, combined, described, differences
from server.decisions.recorded import Inputs, Recorded
from server.sizing.engine import TOGETHER_MAX, SizingEngine
from server.sizing.sized_request import SizedRequest
from storage.postgres.pool import Database

DIFFERENCES_MAX = 50
TEXT_MAX = 200


@dataclass
class _Pair:
    """Two decisions with the union of their instruments, and the groups that differ."""

    first: Inputs
    second: Inputs
    names: list[str]
    differing: list[int] = field(default_factory=list)
    refused: dict[int, MissingInputError | Refusal] = field(default_factory=dict)
    """By the number of the combination."""

    @property
    def combinations(self) -> range:
        """A bit for each group that differs, set where it is the second decision's."""
        return range(1 << len(self.differing))

    def taken(self, number: int) -> frozenset[int]:
        """The groups that a combination takes from the second decision."""
        return frozenset(g for bit, g in enumerate(self.differing) if number >> bit & 1)


class Comparison:
    """Compares recorded decisions; writes nothing."""

    def __init__(self, engine: SizingEngine, database: Database) -> None:
        self._engine = engine
        self._database = database

    async def compare(
        self, call: Call, first_id: UUID, second_id: UUID
    ) -> pb.CompareDecisionsResponse:
        """The difference of every position, divided among the groups of inputs that changed."""
        first = await recorded.read(self._engine, self._database, call, first_id)
        second = await recorded.read(self._engine, self._database, call, second_id)
        if first.currency != second.currency:
            text = f"the decisions are in {first.currency} and {second.currency}: nothing to add up"
            raise precondition("MIXED_CURRENCIES", text)
        is_joint = first.is_joint or second.is_joint
        n_lines = max(first.n_lines, second.n_lines)
        response = pb.CompareDecisionsResponse()

        def begin(time_limit: TimeLimit) -> _Pair:
            del time_limit
            pair = _pair(*(recorded.inputs_of(self._engine, call.tenant_id, item)
                           for item in (first, second)))  # fmt: skip
            _describe(response, pair)
            return pair

        pair = await self._engine.run(begin, n_lines, call)
        numbers, rows = list(pair.combinations), []
        for start in range(0, len(numbers), TOGETHER_MAX):
            work = partial(self._positions, pair, numbers[start : start + TOGETHER_MAX])
            rows += await self._engine.run(work, n_lines, call, is_joint=is_joint)
        _divide(response, pair, np.stack(rows))
        response.replays_equal = _replays(rows[0], pair, first) and _replays(rows[-1], pair, second)
        return response

    def _positions(
        self, pair: _Pair, numbers: Sequence[int], time_limit: TimeLimit
    ) -> list[Floats]:
        """The position of every instrument under each combination, (names,) each."""
        differing = frozenset(pair.differing)
        try:
            problems = [
                combined(pair.first, pair.second, pair.taken(number), differing)
                for number in numbers
            ]
            solved = self._engine.answers(problems, time_limit)
            return [_quantities(pair, item) for item in solved]
        except (MissingInputError, Refusal) as error:
            if len(numbers) > 1:
                return [
                    row for number in numbers for row in self._positions(pair, [number], time_limit)
                ]
            pair.refused[numbers[0]] = error
            return [_untraded(pair, pair.taken(numbers[0]))]


def _pair(first: Inputs, second: Inputs) -> _Pair:
    asked = (item.recorded.request.signals.instrument_ids for item in (first, second))
    names = list(dict.fromkeys(name for ids in asked for name in ids))
    return _Pair(first, second, names)


def _describe(response: pb.CompareDecisionsResponse, pair: _Pair) -> None:
    """Says what differs; a group is one of the causes where anything of it does."""
    one, other = (described(item, pair.names) for item in (pair.first, pair.second))
    pair.differing.clear()  # the work may run again
    del response.differences[:]
    for group in GROUPS:
        found = differences(one[group], other[group])
        if not found:
            continue
        pair.differing.append(group)
        for name, left, right in found[:DIFFERENCES_MAX]:
            values = {"first": left[:TEXT_MAX], "second": right[:TEXT_MAX]}
            response.differences.add(group=group, input=name[:TEXT_MAX], **values)


def _quantities(pair: _Pair, solved: SizedRequest) -> Floats:
    """Units after the decision; of instruments without a signal what is held and reserved."""
    inputs = solved.problem.inputs
    expected = inputs.limit_bounds.positions.expected
    out = _over(pair.names, inputs.limit_bounds.market.instrument_ids, expected)
    place = {name: i for i, name in enumerate(pair.names)}
    lines = np.array([place[name] for name in solved.problem.ids])
    known = inputs.known
    out[lines[known]] = solved.sizing.quantity[known]
    return out


def _untraded(pair: _Pair, taken: frozenset[int]) -> Floats:
    """Units where nothing is decided."""
    holder = pair.second if HOLDINGS in taken else pair.first
    return _over(pair.names, holder.market.instrument_ids, holder.context.positions.expected)


def _over(names: Sequence[str], instruments: Sequence[str], column: Floats) -> Floats:
    held = {instruments[i]: column[i] for i in np.flatnonzero(column).tolist()}
    return np.array([held.get(name, 0.0) for name in names])


def _divide(response: pb.CompareDecisionsResponse, pair: _Pair, values: Floats) -> None:
    """Fills positions and shares, the largest difference in money first."""
    price = np.array([_price(pair, name) for name in pair.names])
    order = np.argsort(-np.abs(values[-1] - values[0]) * price, kind="stable")
    shares = shapley_values(values)
    response.groups.extend(pb.InputGroup.ValueType(group) for group in pair.differing)
    response.instrument_ids.extend(pair.names[i] for i in order)
    set_floats(response, "quantity_first", values[0][order])
    set_floats(response, "quantity_second", values[-1][order])
    set_floats(response, "shares", shares[:, order].T.ravel())
    response.combinations = len(values) - len(pair.refused)
    for number, error in sorted(pair.refused.items()):
        groups = [pb.InputGroup.ValueType(group) for group in sorted(pair.taken(number))]
        response.refused.add(
            second_groups=groups,
            reason=error.reason,
            message=str(error)[:TEXT_MAX],
        )


def _price(pair: _Pair, name: str) -> float:
    for item in (pair.second, pair.first):
        if (place := item.market.index.get(name)) is not None:
            return float(abs(item.market.price[place]))
    return 0.0


def _replays(row: Floats, pair: _Pair, item: Recorded) -> bool:
    """Whether the positions computed are those that were answered."""
    place = {name: i for i, name in enumerate(pair.names)}
    sizes = item.answered.sizes
    lines = [place[name] for name in sizes.instrument_ids]
    known = floats(sizes.lot_size) > 0.0
    return bool((row[lines] == floats(sizes.quantity))[known].all())
