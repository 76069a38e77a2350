"""What a schedule of models asks of the worker: versions trained, and scored, on closes.

Bets are those of `sizing learn bets`, but only such whose time is over at the last close: of those
before it some have ended early, and these alone would be another kind of bets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from positionsizing.v1 import history_service_pb2
from positionsizing.v1 import learning_service_pb2 as pb

from compute.history import overlaid
from compute.learn.document import decode
from compute.learn.features import FEATURES, bets_of_universe
from compute.learn.rows import Rows
from server import frames
from server.convert import learning as convert
from server.convert.history import table
from server.convert.training_rows import nanoseconds, scored_bytes, scored_rows
from server.learning import trained_on
from server.model_evidence import score_of
from server.models import ReadModel

HORIZON_BARS, BARRIER_WIDTH, COST_RATE = 10, 0.5, 0.001


@dataclass(frozen=True)
class Version:
    """A model to be scored: its stored document and details, and the bets scored before."""

    document: str
    details: bytes
    scores: Sequence[bytes]


@dataclass(frozen=True)
class Scored:
    """New bets as they are stored, empty where there is none, and the score of all."""

    payload: bytes
    score: pb.ForecastScore


def training_job(schedule: pb.ModelSchedule, model_id: str, parts: Sequence[bytes]) -> bytes:
    """What `train_on_closes` reads; parts: of the history, the later ones last."""
    asked = pb.ModelSchedule()
    asked.CopyFrom(schedule)
    asked.training.model_id = model_id
    return frames.packed([asked.SerializeToString(), *parts])


def train_on_closes(content: bytes) -> pb.Model:
    """A new version. Raises `Refusal`."""
    first, *parts = frames.unpacked(content)
    schedule = pb.ModelSchedule.FromString(first)
    request = schedule.training
    request.ClearField("rows")
    for name in FEATURES:
        request.rows.features.add(name=name)
    return trained_on(request, _bets(schedule, parts))


def scoring_job(
    schedule: pb.ModelSchedule, versions: Sequence[Version], parts: Sequence[bytes]
) -> bytes:
    """What `score_on_closes` reads."""
    told = (
        frames.packed([version.document.encode(), version.details, *version.scores])
        for version in versions
    )
    return frames.packed([schedule.SerializeToString(), frames.packed(told), *parts])


def score_on_closes(content: bytes) -> bytes:
    """New bets of each version, later than all it was trained or scored on, and its score."""
    first, told, *parts = frames.unpacked(content)
    rows = _bets(pb.ModelSchedule.FromString(first), parts)
    answer = []
    for version in frames.unpacked(told):
        document, details, *scores = frames.unpacked(version)
        known = ReadModel(decode(document.decode()), convert.model_details(details))
        payload = _payload(known, rows, scores)
        every = [*scores, payload] if payload else scores
        score = score_of(known, every) if every else pb.ForecastScore()
        answer += [payload, score.SerializeToString()]
    return frames.packed(answer)


def scored(answer: bytes) -> list[Scored]:
    """What `score_on_closes` answered, version by version."""
    chunks = frames.unpacked(answer)
    return [
        Scored(payload, pb.ForecastScore.FromString(score))
        for payload, score in zip(chunks[::2], chunks[1::2], strict=True)
    ]


def _payload(known: ReadModel, rows: Rows, scores: Sequence[bytes]) -> bytes:
    until = int(nanoseconds([known.details.report.trained_until_time])[0])
    last = int(scored_rows(scores)[0].start.max()) if scores else until - 1
    new = rows.take(np.flatnonzero((rows.start >= until) & (rows.start > last)))
    if not len(new):
        return b""
    features = new.columns(known.model.features).features
    return scored_bytes(new, *known.model.predict(features, new.implied))


def _bets(schedule: pb.ModelSchedule, parts: Sequence[bytes]) -> Rows:
    closes = overlaid([table(history_service_pb2.History.FromString(part)) for part in parts])
    has = schedule.HasField
    return bets_of_universe(
        closes.values,
        closes.times,
        schedule.horizon_bars if has("horizon_bars") else HORIZON_BARS,
        schedule.barrier_width if has("barrier_width") else BARRIER_WIDTH,
        schedule.cost_rate if has("cost_rate") else COST_RATE,
    )
