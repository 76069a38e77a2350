"""What models are worth on bets that came since, and whether that lets them decide."""

import asyncio

import numpy as np
from positionsizing.v1 import learning_service_pb2 as pb

from compute.analytics.forecasts import E_VALUE_GONE
from compute.learn.evidence import evidence
from compute.learn.models import ModelKind
from server.calls.errors import Refusal, invalid, precondition
from server.convert import model_records
from server.convert.training_rows import nanoseconds, rows_of, scored_bytes, scored_rows
from server.learning.models import ReadModel


def judged(known: ReadModel, message: pb.TrainingRows, scores: list[bytes]) -> bytes:
    """What a model says of bets, with them; raises `Refusal` where they aren't later than all."""
    if known.model.kind is ModelKind.SIZE_MULTIPLIER:
        raise precondition("NO_PROBABILITY", "a size multiplier says no probability to score")
    rows = rows_of(message)
    for feature in known.model.features:
        if feature not in rows.names:
            text = f"lacks {feature!r}, which the model reads"
            raise invalid("rows.features", "MISSING_FEATURE", text)
    trained_until = known.details.report.trained_until_time
    until = int(nanoseconds([trained_until])[0])
    place = int(np.argmin(rows.start))
    where, first = f"rows.start_times[{place}]", int(rows.start[place])
    if first < until:
        text = f"is before {trained_until.ToJsonString()}, when the training data ended"
        raise invalid(where, "OVERLAPS_TRAINING", text)
    if scores and first <= int(scored_rows(scores)[0].start.max()):
        raise invalid(where, "NOT_LATER", "is not later than all bets scored before")
    said = known.model.predict(rows.columns(known.model.features).features, rows.implied)
    return scored_bytes(rows, *said)


async def scored(known: ReadModel, scores: list[bytes]) -> pb.ForecastScore:
    """The score of all bets since."""

    return await asyncio.to_thread(score_of, known, scores)


def score_of(known: ReadModel, scores: list[bytes]) -> pb.ForecastScore:
    """The same, at once."""
    rows, probability, error = scored_rows(scores)
    climatology = np.full(len(rows), known.details.report.win_rate)
    return model_records.score(evidence(rows, probability, error, climatology))


def is_unbounded(score: pb.ForecastScore) -> bool:
    """Whether the intervals of a score have no bounds: whether it missed too often."""
    return score.intervals.windows > 0 and score.intervals.miss_rate <= 0.0


async def unproven(known: ReadModel, scores: list[bytes]) -> Refusal | None:
    """Why a model may not go live; None where it may."""
    since = await scored(known, scores) if scores else pb.ForecastScore()
    if since.e_value_gone >= E_VALUE_GONE:
        text = f"its edge is gone: the e-value against it is {since.e_value_gone:.3g}"
        return precondition("EDGE_GONE", text)
    if known.details.report.is_proven or (since.climatology.is_beaten and since.implied.is_beaten):
        return None
    report = known.details.report
    if known.model.kind is ModelKind.SIZE_MULTIPLIER:
        gained = f"its growth over whole stakes is {report.growth.mean:+.2e} a bet"
        text = f"{gained}, with no interval above 0"
    else:
        text = (
            f"growth over climatology {report.score.climatology.growth.mean:+.2e} a bet, e-value "
            f"{report.score.climatology.e_value:.3g}; over the odds "
            f"{report.score.implied.growth.mean:+.2e}, e-value {report.score.implied.e_value:.3g}: "
            "both need an e-value of 20, or an interval above 0"
        )
    return precondition("NOT_PROVEN", f"the model has not beaten the bars: {text}")
