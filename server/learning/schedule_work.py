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
from server.calls.errors import precondition
from server.convert import model_records
from server.convert.history import table
from server.convert.training_rows import nanoseconds, scored_bytes, scored_rows
from server.learning.model_evidence import score_of
from server.learning.models import ReadModel
from server.learning.schedule_features import names_of, with_stored
from server.learning.training import trained_on

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


def training_job(
    schedule: pb.ModelSchedule, model_id: str, stored: bytes, parts: Sequence[bytes]
) -> bytes:
    """What `train_on_closes` reads; stored: see `schedule_features.read`; parts: of the history,
    the later ones last."""
    asked = pb.ModelSchedule()
    asked.CopyFrom(schedule)
    asked.training.model_id = model_id
    return frames.packed([asked.SerializeToString(), stored, *parts])


def train_on_closes(content: bytes) -> pb.Model:
    """A new version. Raises `Refusal`."""
    first, stored, *parts = frames.unpacked(content)
    schedule = pb.ModelSchedule.FromString(first)
    request = schedule.training
    request.ClearField("rows")
    for name in (*FEATURES, *names_of(stored)):
        request.rows.features.add(name=name)
    rows, instrument_ids = _bets(schedule, parts)
    joined = with_stored(rows, instrument_ids, stored)
    if len(rows) and not len(joined):
        text = (
            f"none of {len(rows)} bets has its features: the set {request.feature_set_id!r} knew "
            "nothing before them that was young enough; put values with the times they were known"
        )
        raise precondition("MISSING_FEATURE", text)
    return trained_on(request, joined)


def scoring_job(
    schedule: pb.ModelSchedule, versions: Sequence[Version], stored: bytes, parts: Sequence[bytes]
) -> bytes:
    """What `score_on_closes` reads."""
    told = (
        frames.packed([version.document.encode(), version.details, *version.scores])
        for version in versions
    )
    return frames.packed([schedule.SerializeToString(), frames.packed(told), stored, *parts])


def score_on_closes(content: bytes) -> bytes:
    """New bets of each version, later than all it was trained or scored on, and its score."""
    first, told, stored, *parts = frames.unpacked(content)
    rows, instrument_ids = _bets(pb.ModelSchedule.FromString(first), parts)
    joined = with_stored(rows, instrument_ids, stored)
    answer = []
    for version in frames.unpacked(told):
        document, details, *scores = frames.unpacked(version)
        known = ReadModel(decode(document.decode()), model_records.model_details(details))
        reads = set(known.model.features)
        own = rows if reads <= set(rows.names) else joined
        # A version of before its schedule read another set can't be scored on this one.
        payload = _payload(known, own, scores) if reads <= set(own.names) else b""
        every = [*scores, payload] if payload else scores
        score = score_of(known, every) if every else pb.ForecastScore()
        answer += [payload, score.SerializeToString()]
    return frames.packed(answer)


def instruments_of(parts: Sequence[bytes]) -> list[str]:
    """All instruments of a history, by name."""
    told = (history_service_pb2.History.FromString(part).instrument_ids for part in parts)
    return sorted({name for names in told for name in names})


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


def _bets(schedule: pb.ModelSchedule, parts: Sequence[bytes]) -> tuple[Rows, tuple[str, ...]]:
    """The bets, and the instruments that their groups are."""
    closes = overlaid([table(history_service_pb2.History.FromString(part)) for part in parts])
    has = schedule.HasField
    rows = bets_of_universe(
        closes.values,
        closes.times,
        schedule.horizon_bars if has("horizon_bars") else HORIZON_BARS,
        schedule.barrier_width if has("barrier_width") else BARRIER_WIDTH,
        schedule.cost_rate if has("cost_rate") else COST_RATE,
    )
    return rows, closes.instrument_ids
