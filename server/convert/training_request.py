"""Requests to train models, and schedules of them: checked, then in the domain's words."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn import monotone
from compute.learn.calibration import Calibration
from compute.learn.combinatorial import Combinatorial
from compute.learn.features import FEATURES
from compute.learn.learners import Plan
from compute.learn.models import ModelKind
from compute.learn.tree_import import of_json
from compute.learn.trees import TreeError, Trees
from server.calls.errors import FieldViolation, invalid
from server.convert.names import id_violations, text_violations
from server.convert.parameters import duration_violations, seconds
from server.convert.ranges import number_violations
from server.convert.training_options import option_violations
from server.convert.training_rows import NANOSECONDS, nanoseconds, rows_violations

MEMBERS_MAX = 16
FOLDS = 5
AGE_MAX_S = 3650 * 86400.0
TREES_AND_NETWORKS = (pb.MODEL_KIND_BOOSTED_TREES, pb.MODEL_KIND_NETWORK)
MEMBER_KINDS = (pb.MODEL_KIND_LOGISTIC, *TREES_AND_NETWORKS)
TREES_BYTES_MAX = 8_000_000
ENSEMBLES = (pb.MODEL_KIND_LOG_POOL, pb.MODEL_KIND_WEALTH_MIXTURE)


def train_violations(request: pb.TrainModelRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request, by field path."""
    yield from number_violations(request)
    yield from id_violations(request.model_id, "model_id")
    yield from _settings_violations(request)
    yield from rows_violations(request.rows, "rows")
    if request.kind == pb.MODEL_KIND_SIZE_MULTIPLIER and not len(request.rows.win_probability):
        text = "is needed: a multiplier is learned on bets of claimed probabilities"
        yield FieldViolation("rows.win_probability", "MISSING", text)
    yield from _member_violations(request)
    yield from option_violations(request)
    if len(request.stored_features) and not request.feature_set_id:
        text = "are of a feature set, and none is named"
        yield FieldViolation("stored_features", "NOT_APPLICABLE", text)
    if request.HasField("imported_trees"):
        yield from _imported_violations(request)


def joinable_violations(request: pb.TrainModelRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request before features of its set are joined to its rows."""
    yield from number_violations(request)
    yield from id_violations(request.feature_set_id, "feature_set_id")
    yield from rows_violations(request.rows, "rows", features_min=0)
    if not len(request.rows.instrument_ids):
        text = "must be given: features are stored by instrument"
        yield FieldViolation("rows.instrument_ids", "MISSING", text)
    given = {column.name for column in request.rows.features}
    for place, name in enumerate(request.stored_features):
        if name in given or name in request.stored_features[:place]:
            text = f"{name[:40]!r} is given twice"
            yield FieldViolation(f"stored_features[{place}]", "DUPLICATE", text)


def schedule_violations(
    schedule: pb.ModelSchedule, path: str, stored: Sequence[str] = ()
) -> Iterator[FieldViolation]:
    """What is wrong with a schedule, by field path; stored: features of its set."""
    yield from number_violations(schedule, path)
    yield from id_violations(schedule.schedule_id, f"{path}.schedule_id")
    yield from id_violations(schedule.universe_id, f"{path}.universe_id")
    for name, policies in (
        ("promotion", pb.PromotionPolicy),
        ("retirement", pb.RetirementPolicy),
    ):
        if getattr(schedule, name) not in policies.values():
            yield FieldViolation(f"{path}.{name}", "UNKNOWN_VALUE", "is not known")
    training = pb.TrainModelRequest()
    training.CopyFrom(schedule.training)
    where = f"{path}.training"
    for name in ("request_id", "model_id", "rows", "imported_trees"):
        if name in {field.name for field, _ in training.ListFields()}:
            yield FieldViolation(f"{where}.{name}", "NOT_APPLICABLE", "is the service's to choose")
    if training.kind == pb.MODEL_KIND_SIZE_MULTIPLIER:
        text = "needs claimed probabilities, which closes don't have"
        yield FieldViolation(f"{where}.kind", "NOT_APPLICABLE", text)
    training.rows.Clear()
    for name in (*FEATURES, *stored):
        training.rows.features.add(name=name)
    if len(training.stored_features) and not training.feature_set_id:
        text = "are of a feature set, and none is named"
        yield FieldViolation(f"{where}.stored_features", "NOT_APPLICABLE", text)
    wrong = (_settings_violations, _member_violations, option_violations)
    for found in (item for check in wrong for item in check(training)):
        yield replace(found, field=f"{where}.{found.field}")


def _settings_violations(request: pb.TrainModelRequest) -> Iterator[FieldViolation]:
    yield from text_violations(request.feature_version, "feature_version")
    for name, kinds in (("kind", pb.ModelKind), ("calibration", pb.CalibrationKind)):
        if getattr(request, name) not in kinds.values():
            yield FieldViolation(name, "UNKNOWN_VALUE", f"is {getattr(request, name)}; not known")
    for name in ("embargo", "feature_age_max"):
        if request.HasField(name):  # type: ignore[arg-type]
            yield from duration_violations(getattr(request, name), name, AGE_MAX_S)
    if request.kind == pb.MODEL_KIND_SIZE_MULTIPLIER and request.calibration:
        yield FieldViolation("calibration", "NOT_APPLICABLE", "a multiplier has none")
    if request.kind == pb.MODEL_KIND_SIZE_MULTIPLIER and request.refuse_unbounded:
        yield FieldViolation("refuse_unbounded", "NOT_APPLICABLE", "a multiplier has no intervals")
    if request.kind in TREES_AND_NETWORKS and request.HasField("ridge"):
        yield FieldViolation("ridge", "NOT_APPLICABLE", "is of logistic regressions")


def _member_violations(request: pb.TrainModelRequest) -> Iterator[FieldViolation]:
    count, is_ensemble = len(request.members), request.kind in ENSEMBLES
    if is_ensemble and not 2 <= count <= MEMBERS_MAX:
        text = f"has {count} entries; an ensemble has from 2 to {MEMBERS_MAX}"
        yield FieldViolation("members", "OUT_OF_RANGE", text)
    if not is_ensemble and count:
        yield FieldViolation("members", "NOT_APPLICABLE", "only ensembles have members")
    known = {column.name for column in request.rows.features}
    for place, member in enumerate(request.members):
        path = f"members[{place}].features"
        if member.kind not in (pb.MODEL_KIND_UNSPECIFIED, *MEMBER_KINDS):
            text = "must be LOGISTIC, BOOSTED_TREES or NETWORK"
            yield FieldViolation(f"members[{place}].kind", "NOT_APPLICABLE", text)
        if not member.features:
            yield FieldViolation(path, "MISSING", "must name features")
        seen: set[str] = set()
        for entry, name in enumerate(member.features):
            if name not in known:
                text = f"is {name[:40]!r}, which the rows don't have"
                yield FieldViolation(f"{path}[{entry}]", "UNKNOWN_FEATURE", text)
            if name in seen:
                yield FieldViolation(f"{path}[{entry}]", "DUPLICATE", f"{name!r} is given twice")
            seen.add(name)


def _imported_violations(request: pb.TrainModelRequest) -> Iterator[FieldViolation]:
    given, path = request.imported_trees, "imported_trees"
    if request.kind != pb.MODEL_KIND_BOOSTED_TREES:
        yield FieldViolation(path, "NOT_APPLICABLE", "are of BOOSTED_TREES")
        return
    if request.calibration == pb.CALIBRATION_KIND_NONE:
        text = "must not be NONE: nothing else says how far imported trees may be wrong"
        yield FieldViolation("calibration", "NOT_APPLICABLE", text)
    if given.format not in pb.TreeFormat.values():
        yield FieldViolation(f"{path}.format", "UNKNOWN_VALUE", "is not known")
    if not 0 < len(given.document) <= TREES_BYTES_MAX:
        text = f"has {len(given.document)} characters; from 1 to {TREES_BYTES_MAX} are accepted"
        yield FieldViolation(f"{path}.document", "OUT_OF_RANGE", text)
    known, seen = {column.name for column in request.rows.features}, set[str]()
    for place, name in enumerate(given.features):
        if name not in known:
            text = f"is {name[:40]!r}, which the rows don't have"
            yield FieldViolation(f"{path}.features[{place}]", "UNKNOWN_FEATURE", text)
        if name in seen:
            text = f"{name!r} is given twice"
            yield FieldViolation(f"{path}.features[{place}]", "DUPLICATE", text)
        seen.add(name)
    if not given.HasField("trained_until_time"):
        text = "must be given: rows from before it would be no test"
        yield FieldViolation(f"{path}.trained_until_time", "MISSING", text)
        return
    until = int(nanoseconds([given.trained_until_time])[0])
    start = nanoseconds(request.rows.start_times)
    if len(start) and start.min() < until:
        text = f"is before {given.trained_until_time.ToJsonString()}, when the trees' data ended"
        where = f"rows.start_times[{int(np.argmin(start))}]"
        yield FieldViolation(where, "OVERLAPS_TRAINING", text)


def imported_of(request: pb.TrainModelRequest) -> Trees | None:
    """The trees that a request brings, None where it brings none. Raises `Refusal`."""
    if not request.HasField("imported_trees"):
        return None
    given = request.imported_trees
    names = tuple(given.features) or tuple(column.name for column in request.rows.features)
    try:
        trees = of_json(given.document, names, is_xgboost=given.format == pb.TREE_FORMAT_XGBOOST)
        monotone.check(trees, request.rising_features, request.falling_features)
        return trees
    except monotone.NotMonotoneError as error:
        raise invalid("imported_trees.document", "NOT_MONOTONE", str(error)) from error
    except TreeError as error:
        raise invalid("imported_trees.document", "BAD_FORMAT", str(error)) from error


def plan_of(request: pb.TrainModelRequest) -> Plan:
    """What to train. Raises `Refusal` for trees that are none."""
    everything = tuple(column.name for column in request.rows.features)
    imported = imported_of(request)
    if imported is not None:
        everything = imported.features
    embargo = round(seconds(request.embargo) * NANOSECONDS) if request.HasField("embargo") else 0
    paths = None
    if request.HasField("combinatorial"):
        own = request.combinatorial
        paths = Combinatorial(own.groups, own.tested_groups)
    alone = (everything,) * max(request.bootstrap_draws, 1)
    return Plan(
        kind=ModelKind(request.kind or pb.MODEL_KIND_LOGISTIC),
        members=tuple(tuple(member.features) for member in request.members) or alone,
        folds=request.folds or FOLDS,
        embargo=embargo,
        ridge=request.ridge if request.HasField("ridge") else None,
        calibration=Calibration(request.calibration) if request.calibration else None,
        fraction=request.kelly_fraction if request.HasField("kelly_fraction") else 0.5,
        learners=tuple(
            ModelKind(member.kind or pb.MODEL_KIND_LOGISTIC) for member in request.members
        ),
        imported=imported,
        draws=request.bootstrap_draws,
        combinatorial=paths,
        rising=tuple(request.rising_features),
        falling=tuple(request.falling_features),
    )


def age_limit_of(request: pb.TrainModelRequest) -> float | None:
    """Seconds that features may be old; None for any age."""
    return seconds(request.feature_age_max) if request.HasField("feature_age_max") else None
