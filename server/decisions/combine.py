"""The inputs of two recorded decisions put together anew, group by group, and how they differ."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from positionsizing.v1 import explanation_service_pb2 as pb
from positionsizing.v1 import sizing_service_pb2

from compute.market import Floats, Market
from compute.money.transfer import moved_positions, moved_shared
from server.calls.errors import precondition
from server.convert.request import sizing_request
from server.decisions.recorded import Inputs
from server.sizing import decision_inputs
from server.sizing.assembly import assemble
from server.sizing.prepared_request import PreparedRequest

SIGNALS, MARKET, HOLDINGS, LIMITS, PARAMETERS, MATRICES = GROUPS = (
    pb.INPUT_GROUP_SIGNALS,
    pb.INPUT_GROUP_MARKET,
    pb.INPUT_GROUP_HOLDINGS,
    pb.INPUT_GROUP_LIMITS,
    pb.INPUT_GROUP_PARAMETERS,
    pb.INPUT_GROUP_MATRICES,
)

Described = dict[str, str]
"""The values of a group, by what they are."""


def combined(
    first: Inputs, second: Inputs, taken: AbstractSet[int], differing: AbstractSet[int]
) -> PreparedRequest:
    """The problem with the groups `taken` from the second decision, all others from the first.

    A group that is the same in both goes with the market, whose prices are in some of its amounts.
    Raises `Refusal`, `MissingInputError`.
    """
    market = second if MARKET in taken else first

    def source(group: int) -> Inputs:
        if group not in differing:
            return market
        return second if group in taken else first

    signals, parameters, matrices = source(SIGNALS), source(PARAMETERS), source(MATRICES)
    limits, holdings = source(LIMITS), source(HOLDINGS)
    asked = matrices.recorded.request
    request = sizing_service_pb2.SizePositionsRequest(
        portfolio_id=signals.recorded.request.portfolio_id,
        strategy_id=signals.recorded.request.strategy_id,
        signals=signals.recorded.request.signals,
        all_or_nothing=signals.recorded.request.all_or_nothing,
        method=parameters.recorded.request.method,
        scenario_matrix_id=asked.scenario_matrix_id,
        covariance_matrix_id=asked.covariance_matrix_id,
    )
    answer = signals.context.algorithm if parameters.context.algorithm is not None else None
    if parameters.context.algorithm is not None:
        request.algorithm.CopyFrom(parameters.recorded.request.algorithm)
        if answer is None:
            text = "no answer of a custom algorithm is recorded for these signals"
            raise precondition("NO_ALGORITHM_ANSWER", text)
    if limits.recorded.request.HasField("limits"):
        request.limits.CopyFrom(limits.recorded.request.limits)
    context = decision_inputs.DecisionInputs(
        market_snapshot_id=market.context.market_snapshot_id,
        base_currency=market.context.base_currency,
        positions=moved_positions(holdings.context.positions, holdings.market, market.market),
        limits=limits.context.limits,
        parameters=parameters.context.parameters,
        reducing=limits.context.reducing,
        shared=moved_shared(limits.context.shared, limits.market, market.market),
        covariance_matrix_id=matrices.context.covariance_matrix_id,
        adjustments=(
            *(item for item in parameters.context.adjustments if not item.lines),
            *(item for item in signals.context.adjustments if item.lines),
        ),
        algorithm=answer,
        predictions=signals.context.predictions,
        stored_features=signals.context.stored_features,
        regimes=signals.context.regimes,
        volatility=market.context.volatility,
        stress=limits.context.stress,
    )
    data = matrices.recorded
    return assemble(
        sizing_request(request), context, market.market, data.scenarios, data.covariance, {}
    )


def described(inputs: Inputs, names: Sequence[str]) -> dict[int, Described]:
    """The inputs of a decision by group; of the market only what concerns `names`."""
    request, context, market = inputs.recorded.request, inputs.context, inputs.market
    signals = dict(_columns(request.signals, request.signals.instrument_ids))
    if request.all_or_nothing:
        signals["all_or_nothing"] = "true"
    if context.algorithm is not None:  # sizes a signal, so they go with the signals
        for name, weight in zip(
            request.signals.instrument_ids, context.algorithm.weight, strict=True
        ):
            signals[f"algorithm's size of {name}"] = _text(float(weight))
    signals |= _said_by_models(context, request.signals.instrument_ids)
    snapshot = inputs.recorded.snapshot.message
    prices = dict(_columns(snapshot, snapshot.instrument_ids, frozenset(names)))
    prices["snapshot_id"] = snapshot.snapshot_id
    prices["spread_counts"] = str(context.spread_counts)
    if context.volatility is not None:
        told = {k: v for k, v in vars(context.volatility).items() if k != "column"}
        prices |= dict(_flat(told, "volatility model"))
        prices |= _by_instrument(market, context.volatility.column, "volatility model")
    positions = context.positions
    holdings = {"cash": _text(positions.cash)}
    for name in ("held", "open_buy", "open_sell"):
        holdings |= _by_instrument(market, getattr(positions, name), name)
    limits = dict(_flat(context.limits, "")) | {"reducing": str(context.reducing)}
    asked = MessageToDict(request.limits, preserving_proto_field_name=True)
    limits |= dict(_flat(asked, "request"))
    if context.shared is not None:
        limits |= dict(_flat(context.shared.limits, "shared"))
        limits["shared use"] = _text(context.shared.gross_notional)
        limits |= _by_instrument(market, context.shared.instrument_notional, "shared use")
    for event in context.stress:
        limits[f"stress scenario {event.scenario_id}"] = f"version {event.version}"
    parameters = dict(_flat(context.parameters, ""))
    if request.method:
        parameters["request.method"] = str(request.method)
    if context.algorithm is not None:
        answer = context.algorithm
        parameters["algorithm answered"] = f"{answer.name} {answer.version} {answer.sha256}".strip()
    matrices = {
        "scenario_matrix_id": request.scenario_matrix_id,
        "covariance_matrix_id": request.covariance_matrix_id or context.covariance_matrix_id,
    }
    return dict(zip(GROUPS, (signals, prices, holdings, limits, parameters, matrices), strict=True))


def _said_by_models(context: decision_inputs.DecisionInputs, names: Sequence[str]) -> Described:
    """What models said of the lines: it is of their features, so it goes with the signals."""
    said: Described = {}
    for item in context.predictions:
        said["model"] = f"{item.model_id} {item.model_hash}"
        columns = (item.lines, item.win_probability, item.win_probability_error)
        for line, p, error in zip(*columns, strict=True):
            said[f"model's probability of {names[line]}"] = f"{_text(p)} +- {_text(error)}"
    if context.regimes is not None:
        rows = zip(context.regimes.lines, context.regimes.probability, strict=True)
        said |= {f"regimes of {names[line]}": " ".join(map(_text, row)) for line, row in rows}
    for adjustment in context.adjustments:
        for name, m in zip(names, adjustment.lines, strict=False):
            said[f"{adjustment.name} multiplies {name}"] = _text(m)
    return said


def differences(first: Described, second: Described) -> list[tuple[str, str, str]]:
    """What is not the same in both, with both values; empty for none."""
    names = dict.fromkeys([*first, *second])
    found = ((name, first.get(name, ""), second.get(name, "")) for name in names)
    return [(name, left, right) for name, left, right in found if left != right]


def _columns(
    message: Message, instruments: Sequence[str], wanted: AbstractSet[str] | None = None
) -> Iterator[tuple[str, str]]:
    """Each cell of the columns of a message by column and instrument; other fields whole."""
    n = len(instruments)
    for descriptor, value in message.ListFields():
        if descriptor.enum_type is not None and descriptor.is_repeated:
            value = [_enum_word(descriptor.enum_type, cell) for cell in value]
        if descriptor.is_repeated and descriptor.message_type is None and len(value) == n:
            for name, cell in zip(instruments, value, strict=True):
                if wanted is None or name in wanted:
                    yield f"{descriptor.name} of {name}", _text(cell)
        elif descriptor.is_repeated and descriptor.message_type is None:
            yield descriptor.name, " ".join(map(_text, value))
        else:
            yield descriptor.name, " ".join(str(value).split())


def _enum_word(kind: EnumDescriptor, number: int) -> str:
    """As the contract names it; a number that it doesn't know as it is."""
    known = kind.values_by_number.get(number)
    return str(number) if known is None else known.name


def _by_instrument(market: Market, column: Floats, word: str) -> Described:
    return {
        f"{word} of {market.instrument_ids[i]}": _text(float(column[i]))
        for i in np.flatnonzero(column)
    }


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """The leaves of nested values by their dotted path; what is unset is left out."""
    if value is None:
        return
    if is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name) for item in fields(value)}
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, frozenset):
        for item in sorted(value):
            yield f"{path} {item}", "yes"
    elif isinstance(value, tuple | list):
        for place, inner in enumerate(value):
            name = inner.get("name") if isinstance(inner, Mapping) else getattr(inner, "name", None)
            yield from _flat(inner, f"{path}.{name or place}")
    else:
        yield path, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name.lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)
