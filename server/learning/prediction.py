"""Models asked about the lines of a request: once, before it is sized, and then recorded.

Nothing is guessed: an unknown, missing, wrong or old feature is told by its path.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from compute.adapt.adjustment import Adjustment, AdjustmentSource
from compute.learn.models import ModelKind
from compute.learn.predicted import Prediction, StoredFeatures, unknown_features
from compute.market import Floats, Integers
from compute.parameters import EffectiveParameters
from compute.signals import Signals
from compute.waterfall.layout import Source
from server.calls.errors import FieldViolation, invalid, invalid_fields, precondition
from server.convert.model_records import ModelDetails
from server.learning.models import Models, ReadModel
from server.learning.stored_features import FeatureStore
from server.sizing import decision_inputs
from server.sizing.request import SizingRequest


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
    request: SizingRequest,
    parameters: EffectiveParameters,
) -> Asked:
    """The live models that a request needs. Raises `Refusal`; errors: `NotFound`."""
    lines = np.flatnonzero(request.signals.source == Source.MODEL)
    edge = size = None
    if len(lines):
        model_id = request.model_id or parameters.edge_model_id
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


async def read_stored(
    store: FeatureStore, tenant_id: str, request: SizingRequest, found: Asked, now: datetime
) -> tuple[StoredFeatures, ...]:
    """What models read from their sets: features that the signals lack. Errors: `NotFound`."""
    if found is NOBODY:
        return ()
    given = {item.name for item in request.features}
    every = np.arange(request.n_lines)
    read = []
    for item, lines in ((found.edge, found.lines), (found.size, every)):
        if item is None or lines is None or not item.details.feature_set_id:
            continue
        lacking = [name for name in item.model.features if name not in given]
        if lacking:
            names = request.instrument_ids
            known = await store.known(tenant_id, item.details, lacking, names, lines, now)
            if known is not None:
                read.append(known)
    return tuple(read)


def predicted(
    context: decision_inputs.DecisionInputs,
    request: SizingRequest,
    found: Asked,
    now: datetime,
) -> decision_inputs.DecisionInputs:
    """The context with what the models say. Raises `Refusal`."""
    if found is NOBODY:
        return context
    stored = context.stored_features
    _check(request, found, stored, now)
    good = np.ones(request.n_lines, dtype=bool)
    for error in request.feature_errors + unknown_features(stored):
        good[error.line] = False
    given = {item.name: item.values for item in request.features}
    if found.edge is not None and found.lines is not None:
        lines = found.lines[good[found.lines]]
        columns = _columns(found.edge, given, stored, request.n_lines)
        made = _prediction(found.edge, request.signals, columns, lines)
        context = replace(context, predictions=(made,))
    if found.size is not None:
        columns = _columns(found.size, given, stored, request.n_lines)
        multiplied = _multiplied(found.size, columns, good)
        context = replace(context, adjustments=(*context.adjustments, multiplied))
    return context


def _columns(
    item: ReadModel, given: dict[str, Floats], stored: Sequence[StoredFeatures], n: int
) -> dict[str, Floats]:
    """Features of n lines: those of the signals, and what the model's set knows beside them."""
    known = {name: own.column(name, n) for name, own in _known(item, stored).items()}
    return known | given


def _known(item: ReadModel, stored: Sequence[StoredFeatures]) -> dict[str, StoredFeatures]:
    """Names that were read from the model's set."""
    set_id = item.details.feature_set_id
    return {name: own for own in stored if own.feature_set_id == set_id for name in own.names}


def _check(
    request: SizingRequest, found: Asked, stored: Sequence[StoredFeatures], now: datetime
) -> None:
    """What is wrong with the features as a whole."""
    models = [item for item in (found.edge, found.size) if item is not None]
    given = [item.name for item in request.features]
    read = {name for item in models for name in item.model.features}
    lacking = {
        name
        for item in models
        for name in item.model.features
        if name not in given and name not in _known(item, stored)
    }
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
        for name in sorted(lacking)
    ]
    expected = models[0].details.feature_schema_hash
    if request.feature_schema_hash and request.feature_schema_hash != expected:
        text = f"is not that of model {models[0].details.model_id!r}, {expected}"
        wrong.append(FieldViolation("signals.feature_schema_hash", "WRONG_SCHEMA", text))
    if wrong:
        raise invalid_fields(wrong)
    for item in models:
        if set(item.model.features) & set(given):
            _check_age(request, item.details, now)


def _check_age(request: SizingRequest, details: ModelDetails, now: datetime) -> None:
    most = details.feature_age_max_s
    if most is None:
        return
    path, name = "signals.as_of_time", details.model_id
    if request.signals_time is None:
        raise invalid(path, "MISSING", f"must be given: model {name!r} takes no old features")
    age_s = (now - request.signals_time).total_seconds()
    if age_s > most:
        text = f"is {age_s:.0f} s old; model {name!r} takes features of at most {most:.0f} s"
        raise invalid(path, "STALE_FEATURES", text)


def _features(item: ReadModel, columns: dict[str, Floats], lines: Integers) -> Floats:
    """What a model reads of `lines`, (n, k)."""
    return np.stack([columns[name][lines] for name in item.model.features], axis=1)


def _prediction(
    item: ReadModel, signals: Signals, columns: dict[str, Floats], lines: Integers
) -> Prediction:
    p, error = item.model.predict(_features(item, columns, lines), _implied(signals, lines))
    return Prediction(
        model_id=item.details.model_id,
        model_hash=item.details.hash,
        lines=tuple(lines.tolist()),
        win_probability=tuple(p.tolist()),
        win_probability_error=tuple(np.minimum(error, 1.0).tolist()),
    )


def _implied(signals: Signals, lines: Integers) -> Floats:
    """Break-even probabilities of lines, (n,); 1/2 where the odds are none, which is told later."""
    n = len(signals.source)
    payoff = np.full(n, np.nan) if signals.payoff is None else signals.payoff
    loss = np.ones(n) if signals.loss_fraction is None else signals.loss_fraction
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
