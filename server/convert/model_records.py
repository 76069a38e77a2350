"""What is stored of models, and what is told of them, between the contract and the domain."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.conformal import Coverage
from compute.learn.evidence import Advantage, Evidence
from compute.learn.members import Member
from compute.learn.models import Model
from compute.learn.network import Network
from compute.learn.paths import PathScores
from compute.learn.rows import Rows
from compute.learn.training import Trained
from compute.learn.trees import Trees
from server.calls.errors import precondition
from server.convert.parameters import seconds
from server.convert.simulation_answer import interval
from server.convert.training_rows import time_of
from storage.postgres.models import StoredModel


@dataclass(frozen=True)
class ModelDetails:
    """What is stored of a model beside its document; `report`: how it did in training."""

    model_id: str
    hash: str
    feature_schema_hash: str
    feature_age_max_s: float | None
    refuse_unbounded: bool
    feature_set_id: str
    report: pb.ModelReport


def model_details(stored: bytes) -> ModelDetails:
    """From the stored form."""
    return details_of(pb.Model.FromString(stored))


def stored_message(stored: StoredModel) -> pb.Model:
    """What is stored beside the document. Raises `Refusal` where it is not what was stored."""
    with suppress(DecodeError):
        message = pb.Model.FromString(stored.details)
        is_whole = hashlib.sha256(stored.details).digest() == stored.details_hash
        if is_whole and (message.model_id, message.hash) == (stored.model_id, stored.hash.hex()):
            return message
    text = f"what is stored beside the document of model {stored.model_id!r} is not what was stored"
    raise precondition("MODEL_CORRUPT", text, model=stored.model_id)


def details_of(message: pb.Model) -> ModelDetails:
    """From the message that is stored."""
    age_s = seconds(message.feature_age_max) if message.HasField("feature_age_max") else None
    return ModelDetails(
        message.model_id,
        message.hash,
        message.feature_schema_hash,
        age_s,
        message.refuse_unbounded,
        message.feature_set_id,
        message.report,
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
        refuse_unbounded=request.refuse_unbounded,
        feature_set_id=request.feature_set_id,
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
        ridges=[getattr(member, "ridge", 0.0) for member in model.members],
        member_kinds=[_kind(member) for member in model.members],
        weights=model.weights,
        regret=trained.regret,
        regret_max=trained.regret_max,
        trials_before=request.trials_before,
        win_rate=float(rows.won.mean()),
        rising_features=request.rising_features,
        falling_features=request.falling_features,
    )
    if trained.paths is not None:
        report.paths.CopyFrom(_paths(trained.paths))
    if trained.evidence is not None:
        report.score.CopyFrom(score(trained.evidence))
        report.calibrations.extend(
            pb.CalibrationKind.ValueType(member.calibrator.kind) for member in model.members
        )
    return report


def _paths(found: PathScores) -> pb.PathDistribution:
    names = ("log_loss", "over_climatology", "over_implied", "growth")
    columns = {name: getattr(found, name).tolist() for name in names}
    return pb.PathDistribution(splits=found.splits, **columns)


def _kind(member: Member) -> pb.ModelKind.ValueType:
    if isinstance(member, Trees):
        return pb.MODEL_KIND_BOOSTED_TREES
    return pb.MODEL_KIND_NETWORK if isinstance(member, Network) else pb.MODEL_KIND_LOGISTIC


def score(found: Evidence) -> pb.ForecastScore:
    """What forecasts were worth."""
    return pb.ForecastScore(
        rows=found.rows,
        log_loss=found.log_loss,
        climatology=_bar(found.over_climatology),
        implied=_bar(found.over_implied),
        miscalibration=found.parts.miscalibration,
        discrimination=found.parts.discrimination,
        log_loss_uncertainty=found.parts.uncertainty,
        brier=found.brier.score,
        reliability=found.brier.reliability,
        resolution=found.brier.resolution,
        uncertainty=found.brier.uncertainty,
        within_groups=found.brier.within,
        e_value_gone=found.e_value_gone,
        intervals=_intervals(found.coverage),
    )


def _intervals(found: Coverage) -> pb.IntervalCoverage:
    return pb.IntervalCoverage(
        windows=found.windows,
        covered=found.own,
        conformal_covered=found.conformal,
        miss_rate=found.miss_rate,
        margin=found.margin if np.isfinite(found.margin) else None,
    )


def _bar(found: Advantage) -> pb.BarComparison:
    return pb.BarComparison(
        log_loss=found.bar_log_loss,
        growth=interval(found.growth),
        e_value=found.e_value,
        is_beaten=found.is_evident,
    )
