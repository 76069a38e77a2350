"""Sizing requests: checked as a whole here, line by line in `compute.signals.check`."""

from collections.abc import Iterator, Sequence

import numpy as np
from positionsizing.v1 import sizing_pb2, types_pb2
from positionsizing.v1 import sizing_service_pb2 as pb

from compute.market import Integers
from compute.methods import Method
from compute.ranges import RANGES
from compute.signals import Feature, Signals
from compute.waterfall.layout import Source
from server.calls.errors import FieldViolation, invalid_fields
from server.convert.algorithm import choice
from server.convert.algorithm import violations as algorithm_violations
from server.convert.columns import floats, integers, optional_floats
from server.convert.limits import book_only_violations, limits
from server.convert.limits import violations as limit_violations
from server.convert.market import instrument_violations
from server.convert.names import (
    id_violations,
    optional_moment,
    past_moment,
    text_violations,
)
from server.convert.parameters import duration_violations, seconds
from server.convert.ranges import column_violations, number_violations
from server.sizing.request import HistoryAsked, RegimesAsked, SizingRequest

# Columns that are empty or as long as the ids.
_COLUMNS = (
    "edge_source",
    "win_probability",
    "payoff",
    "loss_fraction",
    "expected_return",
    "volatility",
    "confidence",
    "win_probability_error",
    "expected_return_error",
    "stop_price",
    "holding_periods",
    "cost_rate",
    "edge_half_life_periods",
    "history_length",
)
FEATURES_MAX = 400
"""Twice what one model may read."""
_SIDE_SIGN = np.array([0.0, 1.0, -1.0])


def violations(
    request: pb.SizePositionsRequest, lines_max: int, path: str = ""
) -> Iterator[FieldViolation]:
    """What is wrong with a request as a whole, by field path."""
    yield from number_violations(request, path.removesuffix("."))
    yield from id_violations(request.portfolio_id, f"{path}portfolio_id")
    for name in (
        "strategy_id",
        "market_snapshot_id",
        "scenario_matrix_id",
        "covariance_matrix_id",
    ):
        value = getattr(request, name)
        if value:
            yield from id_violations(value, f"{path}{name}")
    yield from _batch_violations(request.signals, lines_max, f"{path}signals")
    if request.HasField("limits"):
        yield from limit_violations(request.limits, f"{path}limits")
        yield from book_only_violations(request.limits, f"{path}limits")
    if request.method not in types_pb2.SizingMethod.values():
        text = f"is {request.method}; it is no sizing method"
        yield FieldViolation(f"{path}method", "UNKNOWN_VALUE", text)
    if request.HasField("algorithm"):
        yield from algorithm_violations(request.algorithm, f"{path}algorithm")
        if request.method != types_pb2.SIZING_METHOD_CUSTOM:
            text = "is for method CUSTOM; say that too"
            yield FieldViolation(f"{path}algorithm", "NOT_APPLICABLE", text)
    if request.HasField("reservation_ttl"):
        yield from duration_violations(request.reservation_ttl, f"{path}reservation_ttl")


def _batch_violations(
    signals: sizing_pb2.SignalBatch, lines_max: int, path: str
) -> Iterator[FieldViolation]:
    n = len(signals.instrument_ids)
    if n > lines_max:
        text = f"has {n} lines; at most {lines_max} are accepted in one request"
        yield FieldViolation(f"{path}.instrument_ids", "TOO_MANY", text)
        return
    yield from instrument_violations(signals.instrument_ids[:], f"{path}.instrument_ids")
    if len(signals.side) != n:
        text = f"has {len(signals.side)} entries for {n} instruments"
        yield FieldViolation(f"{path}.side", "LENGTH_MISMATCH", text)
    for name in _COLUMNS:
        length = len(getattr(signals, name))
        if length not in (0, n):
            text = f"has {length} entries for {n} instruments"
            yield FieldViolation(f"{path}.{name}", "LENGTH_MISMATCH", text)
    yield from _feature_violations(signals, n, path)
    lengths = integers(signals.history_length)
    if (lengths < 0).any():
        place = int(np.argmax(lengths < 0))
        text = f"is {lengths[place]}; it must be >= 0"
        yield FieldViolation(f"{path}.history_length[{place}]", "OUT_OF_RANGE", text)
    elif lengths.sum() != len(signals.history_outcome):
        text = f"sums to {lengths.sum()}, but history_outcome has {len(signals.history_outcome)}"
        yield FieldViolation(f"{path}.history_length", "LENGTH_MISMATCH", text)
    yield from _stored_violations(signals, path)
    if signals.regime_model_id:
        yield from id_violations(signals.regime_model_id, f"{path}.regime_model_id")
    if signals.regime_instrument_id:
        yield from text_violations(signals.regime_instrument_id, f"{path}.regime_instrument_id")
    # With a model what is wrong is told by line.
    for name in () if signals.regime_model_id else ("regime_expected_return", "regime_volatility"):
        values = optional_floats(getattr(signals, name))
        if values is not None:
            allowed = RANGES[f"SignalBatch.{name}"]
            yield from column_violations(values, allowed, f"{path}.{name}")
    if signals.HasField("as_of_time"):
        past_moment(signals.as_of_time, f"{path}.as_of_time")
    if len(signals.confidence) and (
        len(signals.win_probability_error) or len(signals.expected_return_error)
    ):
        text = "give either confidence or standard errors, not both"
        yield FieldViolation(f"{path}.confidence", "AMBIGUOUS", text)


def _stored_violations(signals: sizing_pb2.SignalBatch, path: str) -> Iterator[FieldViolation]:
    if signals.history_universe_id:
        yield from id_violations(signals.history_universe_id, f"{path}.history_universe_id")
    elif sizing_pb2.EDGE_SOURCE_STORED_HISTORY in signals.edge_source[:]:
        text = "must be given for lines of STORED_HISTORY"
        yield FieldViolation(f"{path}.history_universe_id", "MISSING", text)
    if signals.HasField("history_start_time"):
        past_moment(signals.history_start_time, f"{path}.history_start_time")


def _feature_violations(
    signals: sizing_pb2.SignalBatch, n: int, path: str
) -> Iterator[FieldViolation]:
    """Features that are no columns; what models need of them is told later (`prediction.py`)."""
    if len(signals.features) > FEATURES_MAX:
        text = f"has {len(signals.features)} entries; at most {FEATURES_MAX} are accepted"
        yield FieldViolation(f"{path}.features", "TOO_MANY", text)
        return
    names = [item.name for item in signals.features]
    yield from feature_name_violations(names, f"{path}.features")
    for place, item in enumerate(signals.features):
        if len(item.values) != n:
            text = f"has {len(item.values)} entries for {n} instruments"
            yield FieldViolation(f"{path}.features[{place}].values", "LENGTH_MISMATCH", text)
    if signals.model_id:
        yield from id_violations(signals.model_id, f"{path}.model_id")


def feature_name_violations(names: Sequence[str], path: str) -> Iterator[FieldViolation]:
    """Names that are none, or given twice."""
    for place, name in enumerate(names):
        where = f"{path}[{place}].name"
        yield from id_violations(name, where)
        if name in names[:place]:
            yield FieldViolation(where, "DUPLICATE", f"{name[:40]!r} is given twice")


def check(request: pb.SizePositionsRequest, lines_max: int, path: str = "") -> None:
    """Raises `Refusal` where a request is wrong by itself."""
    if found := list(violations(request, lines_max, path)):
        raise invalid_fields(found)


def sizing_request(message: pb.SizePositionsRequest, content: bytes | None = None) -> SizingRequest:
    """The domain's request, from a checked message; content: its encoded form, where it is known.

    Raises `Refusal`.
    """
    batch = message.signals
    history = None
    if batch.history_universe_id:
        start = optional_moment(batch, "history_start_time", "signals.")
        history = HistoryAsked(batch.history_universe_id, start)
    regimes = None
    if batch.regime_model_id:
        regimes = RegimesAsked(batch.regime_model_id, batch.regime_instrument_id)
    given = message.HasField
    return SizingRequest(
        portfolio_id=message.portfolio_id,
        strategy_id=message.strategy_id,
        instrument_ids=tuple(batch.instrument_ids[:]),
        signals=signals(batch, has_scenarios=bool(message.scenario_matrix_id)),
        signals_time=optional_moment(batch, "as_of_time", "signals."),
        features=tuple(Feature(item.name, floats(item.values)) for item in batch.features),
        feature_schema_hash=batch.feature_schema_hash,
        model_id=batch.model_id,
        history=history,
        regimes=regimes,
        market_snapshot_id=message.market_snapshot_id,
        scenario_matrix_id=message.scenario_matrix_id,
        covariance_matrix_id=message.covariance_matrix_id,
        expected_portfolio_version=message.expected_portfolio_version
        if given("expected_portfolio_version")
        else None,
        limits=limits(message.limits) if given("limits") else None,
        limits_content=message.limits.SerializeToString(deterministic=True),
        method=Method(message.method) if message.method else None,
        algorithm=choice(message.algorithm) if given("algorithm") else None,
        reservation_ttl_s=seconds(message.reservation_ttl) if given("reservation_ttl") else None,
        all_or_nothing=message.all_or_nothing,
        include_sensitivities=message.include_sensitivities,
        include_cash_needs=message.include_cash_needs,
        content=message.SerializeToString(deterministic=True) if content is None else content,
    )


def signals(message: sizing_pb2.SignalBatch, *, has_scenarios: bool) -> Signals:
    """The domain's signals; prices still in the instruments' own currencies."""
    sides = integers(message.side)
    known = (sides >= 0) & (sides < len(_SIDE_SIGN))
    history = optional_floats(message.history_outcome)
    return Signals(
        side=_SIDE_SIGN[np.where(known, sides, 0)],
        source=sources(message, len(sides), has_scenarios),
        win_probability=optional_floats(message.win_probability),
        payoff=optional_floats(message.payoff),
        loss_fraction=optional_floats(message.loss_fraction),
        expected_return=optional_floats(message.expected_return),
        volatility=optional_floats(message.volatility),
        confidence=optional_floats(message.confidence),
        win_probability_error=optional_floats(message.win_probability_error),
        expected_return_error=optional_floats(message.expected_return_error),
        stop_price=optional_floats(message.stop_price),
        holding_periods=optional_floats(message.holding_periods),
        cost_rate=optional_floats(message.cost_rate),
        edge_half_life_periods=optional_floats(message.edge_half_life_periods),
        regime_expected_return=optional_floats(message.regime_expected_return),
        regime_volatility=optional_floats(message.regime_volatility),
        history_outcome=history,
        history_length=integers(message.history_length) if history is not None else None,
    )


def sources(message: sizing_pb2.SignalBatch, n: int, has_scenarios: bool) -> Integers:
    """What each edge comes from, (n,): as said, or by the columns that are there; 0 for nothing."""
    if len(message.edge_source):
        return integers(message.edge_source)
    for given, source in (
        (len(message.win_probability), Source.WIN_LOSS),
        (len(message.expected_return), Source.RETURN_VOLATILITY),
        (len(message.history_outcome), Source.HISTORY),
        (len(message.history_universe_id), Source.STORED_HISTORY),
        (has_scenarios, Source.SCENARIOS),
        (len(message.features) or message.model_id, Source.MODEL),
        (message.regime_model_id, Source.REGIMES),
    ):
        if given:
            return np.full(n, int(source), dtype=np.int64)
    return np.zeros(n, dtype=np.int64)
