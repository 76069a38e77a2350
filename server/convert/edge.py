"""Edge estimates in the contract, and what can be wrong with a request for them."""

from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np
from positionsizing.v1 import edge_service_pb2 as pb
from positionsizing.v1 import history_service_pb2, sizing_pb2, types_pb2

from compute.edge.estimate import EdgeEstimates, EdgeSettings
from server.calls.errors import FieldViolation
from server.convert.columns import Floats, Piece, encoder, floats, integers, set_floats
from server.convert.market import instrument_violations
from server.convert.ranges import number_violations

VIEWS_MAX = 100
OUTCOMES_MIN = 2
_NAMES = {"count": "observation_count", "wins": "win_count", "losses": "loss_count"}
_COLUMNS = {item.name: _NAMES.get(item.name, item.name) for item in fields(EdgeEstimates)}
_ENCODER = encoder(sizing_pb2.EdgeEstimates.DESCRIPTOR)


def message_of(ids: Sequence[str], found: EdgeEstimates) -> sizing_pb2.EdgeEstimates:
    """The estimates as a message; 0 where there is none."""
    message = sizing_pb2.EdgeEstimates(instrument_ids=ids)
    for name, column in _COLUMNS.items():
        set_floats(message, column, np.nan_to_num(getattr(found, name)))
    return message


def pieces(ids: Sequence[str], found: EdgeEstimates) -> list[Piece]:
    """The same, encoded."""
    out: list[Piece] = [sizing_pb2.EdgeEstimates(instrument_ids=ids).SerializeToString()]
    for name, column in _COLUMNS.items():
        out += _ENCODER.floats(column, np.nan_to_num(getattr(found, name)))
    return out


def settings_of(request: pb.EstimateEdgeRequest) -> EdgeSettings:
    """What the estimates are told, defaults filled in."""
    given = {
        name: getattr(request, field)
        for name, field in (
            ("prior_wins", "prior_wins"),
            ("prior_losses", "prior_losses"),
            ("half_life", "half_life"),
            ("risk_free_rate", "risk_free_rate"),
            ("probability", "interval_probability"),
        )
        if request.HasField(field)  # type: ignore[arg-type]
    }
    return EdgeSettings(**given)


def outcomes_of(request: pb.EstimateEdgeRequest) -> list[Floats]:
    """The outcomes of each line."""
    ends = np.cumsum(integers(request.history_length))
    return np.split(floats(request.history_outcome), ends[:-1]) if len(ends) else []


def sides_of(request: pb.EstimateEdgeRequest, count: int) -> Floats:
    """+1 long, -1 short, (count,)."""
    if not len(request.side):
        return np.ones(count)
    return np.where(integers(request.side) == types_pb2.SIDE_SHORT, -1.0, 1.0)


def violations(request: pb.EstimateEdgeRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request, by field path."""
    yield from number_violations(request)
    n, stored = len(request.instrument_ids), bool(request.universe_id)
    if stored == bool(len(request.history_length)):
        text = "give either universe_id, or history_outcome with history_length"
        yield FieldViolation("universe_id", "AMBIGUOUS" if stored else "MISSING", text)
    if n or not stored:
        yield from instrument_violations(request.instrument_ids, "instrument_ids")
    for name in ("side", "history_length", "prior_mean", "prior_error"):
        length = len(getattr(request, name))
        if length and (length != n or (stored and not n)):
            text = f"has {length} entries for {n} instruments"
            yield FieldViolation(name, "LENGTH_MISMATCH", text)
    for place, side in enumerate(request.side):
        if side not in (types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT):
            text = "must be SIDE_LONG or SIDE_SHORT"
            yield FieldViolation(f"side[{place}]", "MISSING", text)
    yield from _outcomes(request)
    if len(request.prior_mean) != len(request.prior_error):
        yield FieldViolation("prior_error", "LENGTH_MISMATCH", "goes with prior_mean, one each")
    for name, enum in (
        ("mean_shrinkage", pb.MeanShrinkage),
        ("gap_policy", history_service_pb2.GapPolicy),
    ):
        if getattr(request, name) not in enum.values():
            yield FieldViolation(name, "UNKNOWN_VALUE", "is not known")
    yield from _views(request)


def _outcomes(request: pb.EstimateEdgeRequest) -> Iterator[FieldViolation]:
    lengths = integers(request.history_length)
    if len(lengths) and lengths.sum() != len(request.history_outcome):
        text = f"sums to {lengths.sum()}, but history_outcome has {len(request.history_outcome)}"
        yield FieldViolation("history_length", "LENGTH_MISMATCH", text)
    elif len(request.history_outcome) and not len(lengths):
        yield FieldViolation("history_length", "MISSING", "says whose outcomes they are")
    for place in np.flatnonzero(lengths < OUTCOMES_MIN):
        text = f"is {lengths[place]}; at least {OUTCOMES_MIN} outcomes are needed"
        yield FieldViolation(f"history_length[{place}]", "TOO_FEW_OUTCOMES", text)


def _views(request: pb.EstimateEdgeRequest) -> Iterator[FieldViolation]:
    if len(request.views) > VIEWS_MAX:
        text = f"has {len(request.views)} entries; at most {VIEWS_MAX} are accepted"
        yield FieldViolation("views", "TOO_MANY", text)
        return
    for place, view in enumerate(request.views):
        path = f"views[{place}]"
        yield from instrument_violations(view.instrument_ids, f"{path}.instrument_ids")
        if len(view.coefficients) != len(view.instrument_ids):
            text = f"has {len(view.coefficients)} entries for {len(view.instrument_ids)}"
            yield FieldViolation(f"{path}.coefficients", "LENGTH_MISMATCH", text)
        elif not any(view.coefficients):
            yield FieldViolation(f"{path}.coefficients", "OUT_OF_RANGE", "are all 0")
