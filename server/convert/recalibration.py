"""Claimed probabilities that are calibrated, between the contract and the domain."""

from collections.abc import Iterator

import numpy as np
from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.calibration import Calibration, Calibrator, calibrator, chosen
from compute.learn.recalibration import forward_score
from compute.learn.scores import decomposed
from compute.market import Floats
from server.calls.errors import FieldViolation
from server.convert.columns import floats, set_floats
from server.convert.ranges import number_violations

BETS_MAX = 100_000
VENN_ABERS_MAX = 20_000


def violations(request: pb.CalibrateForecastsRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request, by field path."""
    yield from number_violations(request)
    if request.kind not in pb.CalibrationKind.values():
        yield FieldViolation("kind", "UNKNOWN_VALUE", "is not known")
    is_slow = request.kind == pb.CALIBRATION_KIND_VENN_ABERS
    most, count = VENN_ABERS_MAX if is_slow else BETS_MAX, len(request.win_probability)
    if not 2 <= count <= most:
        text = f"has {count} entries; from 2 to {most} are accepted"
        yield FieldViolation("win_probability", "OUT_OF_RANGE", text)
    if len(request.won) != count:
        text = f"has {len(request.won)} entries for {count} probabilities"
        yield FieldViolation("won", "LENGTH_MISMATCH", text)
    elif count and len(set(request.won)) == 1:
        text = "says of all bets the same: nothing is to be learned of the other"
        yield FieldViolation("won", "TOO_FEW_ROWS", text)
    if len(request.asked) > BETS_MAX:
        text = f"has {len(request.asked)} entries; at most {BETS_MAX} are accepted"
        yield FieldViolation("asked", "TOO_MANY", text)


def calibrated(request: pb.CalibrateForecastsRequest) -> pb.CalibrateForecastsResponse:
    """The answer to a checked request."""
    claimed, won = floats(request.win_probability), np.array(request.won, dtype=float)
    kind = Calibration(request.kind) if request.kind else None
    fitted = calibrator(kind or chosen(len(won)), claimed, won)
    asked = floats(request.asked) if len(request.asked) else claimed
    p, error = fitted.apply(asked, np.zeros(len(asked)))
    parts = decomposed(claimed, won)
    response = pb.CalibrateForecastsResponse(
        kind=pb.CalibrationKind.ValueType(int(fitted.kind)),
        coefficients=fitted.coefficients,
        log_loss=parts.score,
        brier=float(((claimed - won) ** 2).mean()),
        miscalibration=parts.miscalibration,
    )
    set_floats(response, "win_probability", p)
    set_floats(response, "win_probability_error", error)
    _steps(response, fitted)
    found = forward_score(kind, claimed, won)
    if found is not None:
        response.forward.CopyFrom(pb.ForwardScore(**vars(found)))
    return response


def _steps(response: pb.CalibrateForecastsResponse, fitted: Calibrator) -> None:
    values: Floats = fitted.values
    set_floats(response, "step_claim", fitted.knots)
    set_floats(response, "step_win_rate", values)
