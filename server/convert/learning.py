"""Past bets, models and their records between the contract and the domain."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.calibration import Calibration
from compute.learn.evidence import Advantage, Evidence
from compute.learn.models import Model, ModelKind
from compute.learn.rows import Rows
from compute.learn.training import Plan, Trained
from compute.market import Floats, Integers
from server.convert.columns import floats
from server.convert.market import instrument_violations
from server.convert.names import CLOCKS_DIFFER, id_violations, text_violations, timestamp
from server.convert.parameters import duration_violations, seconds
from server.convert.ranges import number_violations
from server.convert.request import feature_name_violations
from server.convert.simulation_answer import interval
from server.errors import FieldViolation

FEATURES_MAX, MEMBERS_MAX = 200, 16
CELLS_MAX = 4_000_000
"""Rows times features."""
FOLDS = 5
AGE_MAX_S = 3650 * 86400.0
ENSEMBLES = (pb.MODEL_KIND_LOG_POOL, pb.MODEL_KIND_WEALTH_MIXTURE)
NANOSECONDS, SECONDS_MAX = 1_000_000_000, 9_000_000_000


def train_violations(request: pb.TrainModelRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request, by field path."""
    yield from number_violations(request)
    yield from id_violations(request.model_id, "model_id")
    yield from text_violations(request.feature_version, "feature_version")
    for name, kinds in (("kind", pb.ModelKind), ("calibration", pb.CalibrationKind)):
        if getattr(request, name) not in kinds.values():
            yield FieldViolation(name, "UNKNOWN_VALUE", f"is {getattr(request, name)}; not known")
    for name in ("embargo", "feature_age_max"):
        if request.HasField(name):  # type: ignore[arg-type]
            yield from duration_violations(getattr(request, name), name, AGE_MAX_S)
    yield from rows_violations(request.rows, "rows")
    if request.kind == pb.MODEL_KIND_SIZE_MULTIPLIER:
        if not len(request.rows.win_probability):
            text = "is needed: a multiplier is learned on bets of claimed probabilities"
            yield FieldViolation("rows.win_probability", "MISSING", text)
        if request.calibration:
            yield FieldViolation("calibration", "NOT_APPLICABLE", "a multiplier has none")
    yield from _member_violations(request)


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


def rows_violations(rows: pb.TrainingRows, path: str) -> Iterator[FieldViolation]:
    """What is wrong with past bets but their numbers."""
    n, k = len(rows.start_times), len(rows.features)
    if not n:
        yield FieldViolation(f"{path}.start_times", "MISSING", "there are no rows")
        return
    if not 1 <= k <= FEATURES_MAX or n * k > CELLS_MAX:
        text = (
            f"has {k} features of {n} rows; from 1 to {FEATURES_MAX} are accepted, "
            f"and {CELLS_MAX} values"
        )
        yield FieldViolation(f"{path}.features", "OUT_OF_RANGE", text)
        return
    columns = [("end_times", rows.end_times, True), ("won", rows.won, True)]
    columns += [
        (name, getattr(rows, name), False)
        for name in ("payoff", "loss_fraction", "instrument_ids", "win_probability")
    ]
    columns += [
        (f"features[{place}].values", column.values, True)
        for place, column in enumerate(rows.features)
    ]
    wrong = [
        FieldViolation(f"{path}.{name}", "LENGTH_MISMATCH", f"has {len(column)} entries of {n}")
        for name, column, needed in columns
        if len(column) != n and (needed or len(column))
    ]
    yield from wrong
    yield from feature_name_violations([item.name for item in rows.features], f"{path}.features")
    names = sorted(set(rows.instrument_ids))
    if names:
        yield from instrument_violations(names, f"{path}.instrument_ids")
    if not wrong:
        yield from _time_violations(rows, path)


def _time_violations(rows: pb.TrainingRows, path: str) -> Iterator[FieldViolation]:
    start, end = nanoseconds(rows.start_times), nanoseconds(rows.end_times)
    latest = int((datetime.now(UTC) + CLOCKS_DIFFER).timestamp()) * NANOSECONDS
    for wrong, text in (
        (end <= start, "must be later than the start of the bet"),
        (end > latest, "must not be in the future: the outcome isn't known yet"),
    ):
        if wrong.any():
            where = f"{path}.end_times[{int(np.argmax(wrong))}]"
            yield FieldViolation(where, "OUT_OF_RANGE", text)


def nanoseconds(times: Any) -> Integers:
    """Timestamps as nanoseconds since 1970; those that 64 bits can't hold at their end."""
    seconds_of = (min(max(t.seconds, -SECONDS_MAX), SECONDS_MAX) for t in times)
    whole = np.fromiter(seconds_of, dtype=np.int64, count=len(times)) * NANOSECONDS
    return whole + np.fromiter((t.nanos for t in times), dtype=np.int64, count=len(times))


def time_of(value: int) -> Any:
    """Nanoseconds since 1970 as a timestamp."""
    return timestamp(datetime.fromtimestamp(value / NANOSECONDS, UTC))


def rows_of(message: pb.TrainingRows) -> Rows:
    """Past bets as the domain has them; the message has been checked."""
    n = len(message.start_times)
    one = np.ones(n)
    groups = np.zeros(n, dtype=np.int64)
    if len(message.instrument_ids):
        groups = np.unique(np.array(message.instrument_ids[:]), return_inverse=True)[1]
    return Rows(
        names=tuple(column.name for column in message.features),
        features=np.stack([floats(column.values) for column in message.features], axis=1),
        start=nanoseconds(message.start_times),
        end=nanoseconds(message.end_times),
        won=np.array(message.won, dtype=np.float64),
        payoff=floats(message.payoff) if len(message.payoff) else one,
        loss=floats(message.loss_fraction) if len(message.loss_fraction) else one,
        group=groups,
        claimed=floats(message.win_probability) if len(message.win_probability) else None,
    )


def plan_of(request: pb.TrainModelRequest) -> Plan:
    """What to train."""
    everything = tuple(column.name for column in request.rows.features)
    embargo = round(seconds(request.embargo) * NANOSECONDS) if request.HasField("embargo") else 0
    return Plan(
        kind=ModelKind(request.kind or pb.MODEL_KIND_LOGISTIC),
        members=tuple(tuple(member.features) for member in request.members) or (everything,),
        folds=request.folds or FOLDS,
        embargo=embargo,
        ridge=request.ridge if request.HasField("ridge") else None,
        calibration=Calibration(request.calibration) if request.calibration else None,
        fraction=request.kelly_fraction if request.HasField("kelly_fraction") else 0.5,
    )


def schema_hash(features: Sequence[str], version: str) -> str:
    """SHA-256 over the names of features, in order, and the version of what makes them."""
    return hashlib.sha256(json.dumps([list(features), version]).encode()).hexdigest()


def model_message(
    request: pb.TrainModelRequest, rows: Rows, trained: Trained, document: str, digest: str
) -> pb.Model:
    """A new model; author, time and stage are for who stores it."""
    model = trained.model
    message = pb.Model(
        model_id=request.model_id,
        kind=pb.ModelKind.ValueType(model.kind),
        stage=pb.MODEL_STAGE_CANDIDATE,
        features=model.features,
        feature_schema_hash=schema_hash(model.features, request.feature_version),
        hash=digest,
        document=document,
        report=_report(request, rows, trained),
    )
    if request.HasField("feature_age_max"):
        message.feature_age_max.CopyFrom(request.feature_age_max)
    return message


def _report(request: pb.TrainModelRequest, rows: Rows, trained: Trained) -> pb.ModelReport:
    model: Model = trained.model
    report = pb.ModelReport(
        rows=len(rows),
        tested_rows=trained.tested,
        tested_from_time=time_of(trained.tested_from),
        trained_until_time=time_of(trained.trained_until),
        growth=interval(trained.growth),
        is_proven=trained.is_proven,
        ridges=[member.ridge for member in model.members],
        weights=model.weights,
        regret=trained.regret,
        regret_max=trained.regret_max,
        trials_before=request.trials_before,
        win_rate=float(rows.won.mean()),
    )
    if trained.evidence is not None:
        report.score.CopyFrom(score(trained.evidence))
        report.calibrations.extend(
            pb.CalibrationKind.ValueType(member.calibrator.kind) for member in model.members
        )
    return report


def score(found: Evidence) -> pb.ForecastScore:
    """What forecasts were worth."""
    return pb.ForecastScore(
        rows=found.rows,
        log_loss=found.log_loss,
        climatology=_bar(found.over_climatology),
        implied=_bar(found.over_implied),
        miscalibration=found.parts.miscalibration,
        discrimination=found.parts.discrimination,
        brier=found.brier,
        e_value_gone=found.e_value_gone,
    )


def _bar(found: Advantage) -> pb.BarComparison:
    return pb.BarComparison(
        log_loss=found.bar_log_loss,
        growth=interval(found.growth),
        e_value=found.e_value,
        is_beaten=found.is_evident,
    )


_SCORED = ("start", "end", "won", "payoff", "loss", "probability")


def scored_bytes(rows: Rows, probability: Floats) -> bytes:
    """Bets with what a model said of them, as they are stored."""
    columns = {name: getattr(rows, name) for name in _SCORED[:-1]}
    return orjson.dumps({**columns, "probability": probability}, option=orjson.OPT_SERIALIZE_NUMPY)


def scored_rows(stored: Sequence[bytes]) -> tuple[Rows, Floats]:
    """All stored bets, by time, with what was said of them."""
    parts = [orjson.loads(item) for item in stored]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in _SCORED}
    n = len(columns["start"])
    rows = Rows(
        (), np.zeros((n, 0)), columns["start"].astype(np.int64), columns["end"].astype(np.int64),
        columns["won"], columns["payoff"], columns["loss"], np.zeros(n, dtype=np.int64),
        columns["probability"],
    ).by_time()  # fmt: skip
    assert rows.claimed is not None
    return rows, rows.claimed
