"""A model as a JSON document and back; the numbers come back as they were, bit for bit.

Its SHA-256 is of the text itself, so that a changed byte is seen before a number is read.
"""

import hashlib
import json
from dataclasses import fields
from typing import Any

import numpy as np

from compute.learn.calibration import Calibration, Calibrator
from compute.learn.models import Logistic, Model, ModelKind, Scaling

SCHEMA = 1


class ModelDocumentError(ValueError):
    """The text is no model that this release reads."""


def encode(model: Model) -> str:
    """The document."""
    return json.dumps({"schema": SCHEMA, **_plain(model)}, allow_nan=False, sort_keys=True)


def digest(text: str) -> str:
    """SHA-256 of a document, as hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def decode(text: str) -> Model:
    """The model of a document. Raises `ModelDocumentError`."""
    try:
        document = json.loads(text)
        if document.pop("schema") != SCHEMA:
            raise ModelDocumentError("is of a schema that this release doesn't read")
        return Model(
            ModelKind(document["kind"]),
            tuple(document["features"]),
            tuple(_logistic(member) for member in document["members"]),
            np.array(document["weights"], dtype=np.float64),
        )
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ModelDocumentError(f"is no model: {error!r}") from error


def _logistic(document: dict[str, Any]) -> Logistic:
    calibrated, scaling = document["calibrator"], document["scaling"]
    size = len(document["coefficients"])
    return Logistic(
        features=tuple(document["features"]),
        scaling=Scaling(**{name: _array(values) for name, values in scaling.items()}),
        coefficients=_array(document["coefficients"]),
        covariance=_array(document["covariance"]).reshape(size, size),
        ridge=float(document["ridge"]),
        calibrator=Calibrator(
            kind=Calibration(calibrated["kind"]),
            outcomes=int(calibrated["outcomes"]),
            covariance=_array(calibrated["covariance"]).reshape(
                (len(calibrated["coefficients"]),) * 2
            ),
            **{
                name: _array(calibrated[name])
                for name in ("coefficients", "knots", "values", "counts")
            },
        ),
    )


def _array(values: list[Any]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return np.array(values, dtype=np.float64)


def _plain(value: Any) -> Any:
    """Dataclasses as mappings, arrays as lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Scaling | Logistic | Calibrator | Model):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
