"""Models asked about the lines of a request: once, before it is sized, and then recorded.

Nothing is guessed: an unknown, missing, wrong or old feature is told by its path.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from positionsizing.v1 import learning_service_pb2, sizing_pb2

from compute.adapt.adjustment import Adjustment, AdjustmentSource
from compute.layout import Source
from compute.learn.models import ModelKind
from compute.learn.predicted import Prediction
from compute.market import Floats, Integers
from compute.parameters import EffectiveParameters
from server import decision_inputs
from server.convert.columns import floats
from server.convert.parameters import seconds
from server.convert.request import feature_errors, sources
from server.errors import FieldViolation, invalid, invalid_fields, precondition
from server.models import Models, ReadModel


@dataclass(frozen=True)
class Asked:
    """The models of a request: of the edges of `lines`, and of the sizes of all lines."""

    edge: ReadModel | None = None
    lines: Integers | None = None
    size: ReadModel | None = None


NOBODY = Asked()


async def asked(
    models: Models,
    tenant_id: str,
    signals: sizing_pb2.SignalBatch,
    parameters: EffectiveParameters,
    *,
    has_scenarios: bool,
) -> Asked:
    """The live models that a request needs. Raises `Refusal`; errors: `NotFound`."""
    source = sources(signals, len(signals.instrument_ids), has_scenarios)
    lines = np.flatnonzero(source == Source.MODEL)
    edge = size = None
    if len(lines):
        model_id = signals.model_id or parameters.edge_model_id
        if not model_id:
            text = "must name a model: neither the signals nor the parameters do"
            raise invalid("signals.model_id", "MISSING", text)
        edge = await models.live(tenant_id, model_id)
        if edge.model.kind is ModelKind.SIZE_MULTIPLIER:
            text = f"model {model_id!r} multiplies sizes; it says no probability"
            raise precondition("WRONG_MODEL_KIND", text, model=model_id)
    if parameters.size_model_id:
        size = await models.live(tenant_id, parameters.size_model_id)
        if size.model.kind is not ModelKind.SIZE_MULTIPLIER:
            text = f"model {parameters.size_model_id!r} says probabilities; it multiplies no size"
            raise precondition("WRONG_MODEL_KIND", text, model=parameters.size_model_id)
    return Asked(edge, lines, size) if edge or size else NOBODY


def predicted(
    context: decision_inputs.DecisionInputs,
    signals: sizing_pb2.SignalBatch,
    found: Asked,
    now: datetime,
) -> decision_inputs.DecisionInputs:
    """The context with what the models say. Raises `Refusal`."""
    if found is NOBODY:
        return context
    _check(signals, found, now)
    good = np.ones(len(signals.instrument_ids), dtype=bool)
    for error in feature_errors(signals):
        good[error.line] = False
    columns = {item.name: floats(item.values) for item in signals.features}
    if found.edge is not None and found.lines is not None:
        lines = found.lines[good[found.lines]]
        made = _prediction(found.edge, signals, columns, lines)
        context = replace(context, predictions=(made,))
    if found.size is not None:
        multiplied = _multiplied(found.size, columns, good)
        context = replace(context, adjustments=(*context.adjustments, multiplied))
    return context


def tell(head: sizing_pb2.SizingDecision, context: decision_inputs.DecisionInputs) -> None:
    """Writes what models said into a decision."""
    for item in context.predictions:
        head.predictions.add(
            model_id=item.model_id,
            model_hash=item.model_hash,
            lines=item.lines,
            win_probability=item.win_probability,
            win_probability_error=item.win_probability_error,
        )


def _check(signals: sizing_pb2.SignalBatch, found: Asked, now: datetime) -> None:
    """What is wrong with the features as a whole."""
    models = [item for item in (found.edge, found.size) if item is not None]
    given = [item.name for item in signals.features]
    read = {name for item in models for name in item.model.features}
    wrong = [
        FieldViolation(
            f"signals.features[{place}].name",
            "UNKNOWN_FEATURE",
            f"is {name[:40]!r}, which no model in use reads; they read {', '.join(sorted(read))}",
        )
        for place, name in enumerate(given)
        if name not in read
    ]
    wrong += [
        FieldViolation("signals.features", "MISSING_FEATURE", f"lacks {name!r}, which is read")
        for name in sorted(read - set(given))
    ]
    expected = models[0].details.feature_schema_hash
    if signals.feature_schema_hash and signals.feature_schema_hash != expected:
        text = f"is not that of model {models[0].details.model_id!r}, {expected}"
        wrong.append(FieldViolation("signals.feature_schema_hash", "WRONG_SCHEMA", text))
    if wrong:
        raise invalid_fields(wrong)
    for item in models:
        _check_age(signals, item.details, now)


def _check_age(
    signals: sizing_pb2.SignalBatch, details: learning_service_pb2.Model, now: datetime
) -> None:
    if not details.HasField("feature_age_max"):
        return
    most = seconds(details.feature_age_max)
    path, name = "signals.as_of_time", details.model_id
    if not signals.HasField("as_of_time"):
        raise invalid(path, "MISSING", f"must be given: model {name!r} takes no old features")
    age_s = (now - signals.as_of_time.ToDatetime(tzinfo=UTC)).total_seconds()
    if age_s > most:
        text = f"is {age_s:.0f} s old; model {name!r} takes features of at most {most:.0f} s"
        raise invalid(path, "STALE_FEATURES", text)


def _features(item: ReadModel, columns: dict[str, Floats], lines: Integers) -> Floats:
    """What a model reads of `lines`, (n, k)."""
    return np.stack([columns[name][lines] for name in item.model.features], axis=1)


def _prediction(
    item: ReadModel, signals: sizing_pb2.SignalBatch, columns: dict[str, Floats], lines: Integers
) -> Prediction:
    p, error = item.model.predict(_features(item, columns, lines), _implied(signals, lines))
    return Prediction(
        model_id=item.details.model_id,
        model_hash=item.details.hash,
        lines=tuple(lines.tolist()),
        win_probability=tuple(p.tolist()),
        win_probability_error=tuple(np.minimum(error, 1.0).tolist()),
    )


def _implied(signals: sizing_pb2.SignalBatch, lines: Integers) -> Floats:
    """Break-even probabilities of lines, (n,); 1/2 where the odds are none, which is told later."""
    n = len(signals.instrument_ids)
    payoff = floats(signals.payoff) if len(signals.payoff) else np.full(n, np.nan)
    loss = floats(signals.loss_fraction) if len(signals.loss_fraction) else np.ones(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        implied = (loss / (loss + payoff))[lines]
    return np.where((implied > 0.0) & (implied < 1.0), implied, 0.5)


def _multiplied(item: ReadModel, columns: dict[str, Floats], good: NDArray[np.bool_]) -> Adjustment:
    """The adjustment of a size model; lines that aren't `good` are refused, and have 0."""
    multipliers = np.zeros(len(good))
    lines = np.flatnonzero(good)
    used = item.model.multiplier(_features(item, columns, lines))
    multipliers[lines] = used
    text = f"by features, model {item.details.hash[:12]}"
    if len(used):
        text = f"{used.min():.3f} to {used.max():.3f} {text}"
    least, by_line = float(used.min(initial=1.0)), tuple(multipliers.tolist())
    return Adjustment(AdjustmentSource.SIZE_MODEL, item.details.model_id, least, text, by_line)
