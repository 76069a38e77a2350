"""What is wrong with how a model is taught and tested: constraints, draws, other validations."""

from collections.abc import Iterator

from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.combinatorial import Combinatorial
from server.calls.errors import FieldViolation
from server.convert.ranges import number_violations

SPLITS_MAX = 500
_DRAWN = (
    pb.MODEL_KIND_UNSPECIFIED,
    pb.MODEL_KIND_LOGISTIC,
    pb.MODEL_KIND_BOOSTED_TREES,
    pb.MODEL_KIND_NETWORK,
)


def option_violations(request: pb.TrainModelRequest) -> Iterator[FieldViolation]:
    """By field path; the features of the rows are all there."""
    yield from _monotone_violations(request)
    if request.HasField("combinatorial"):
        yield from _combinatorial_violations(request)
    if request.bootstrap_draws and request.kind not in _DRAWN:
        text = "are of LOGISTIC, BOOSTED_TREES and NETWORK"
        yield FieldViolation("bootstrap_draws", "NOT_APPLICABLE", text)
    if request.bootstrap_draws and request.HasField("imported_trees"):
        text = "teach nothing where trees are imported"
        yield FieldViolation("bootstrap_draws", "NOT_APPLICABLE", text)


def _monotone_violations(request: pb.TrainModelRequest) -> Iterator[FieldViolation]:
    known = set(request.imported_trees.features) or {item.name for item in request.rows.features}
    seen = set[str]()
    for field in ("rising_features", "falling_features"):
        names = getattr(request, field)
        if names and request.kind != pb.MODEL_KIND_BOOSTED_TREES:
            yield FieldViolation(field, "NOT_APPLICABLE", "are of BOOSTED_TREES")
            continue
        for place, name in enumerate(names):
            where = f"{field}[{place}]"
            if name not in known:
                text = f"is {name[:40]!r}, which the model doesn't read"
                yield FieldViolation(where, "UNKNOWN_FEATURE", text)
            if name in seen:
                yield FieldViolation(where, "DUPLICATE", f"{name[:40]!r} is given twice")
            seen.add(name)


def _combinatorial_violations(request: pb.TrainModelRequest) -> Iterator[FieldViolation]:
    own = request.combinatorial
    if request.kind == pb.MODEL_KIND_SIZE_MULTIPLIER:
        text = "is of forecasts; a multiplier makes none"
        yield FieldViolation("combinatorial", "NOT_APPLICABLE", text)
    if any(number_violations(own)):
        return  # told already, and choices of such numbers can't be counted
    if not own.tested_groups < own.groups:
        text = f"is {own.tested_groups}; it must be below groups, {own.groups}"
        yield FieldViolation("combinatorial.tested_groups", "OUT_OF_RANGE", text)
    elif (count := Combinatorial(own.groups, own.tested_groups).splits) > SPLITS_MAX:
        text = f"makes {count} choices; at most {SPLITS_MAX} are tried"
        yield FieldViolation("combinatorial.tested_groups", "OUT_OF_RANGE", text)
