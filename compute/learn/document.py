"""A model as a JSON document and back; the numbers come back as they were, bit for bit.

Its SHA-256 is of the text itself, so that a changed byte is seen before a number is read.
"""

import hashlib
import json
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from compute.learn.calibration import Calibration, Calibrator
from compute.learn.members import Logistic, Member, Scaling
from compute.learn.models import Model, ModelKind
from compute.learn.network import Network
from compute.learn.trees import Nodes, TreeError, Trees
from compute.learn.venn_abers import VennAbers

SCHEMA = 1
_FORMS: dict[type[Member], str] = {Trees: "trees", Network: "network"}
"""Of members; a logistic regression says none."""


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
            tuple(_member(member) for member in document["members"]),
            np.array(document["weights"], dtype=np.float64),
        )
    except (KeyError, TypeError, AttributeError, ValueError, TreeError) as error:
        if isinstance(error, ModelDocumentError):
            raise
        raise ModelDocumentError(f"is no model: {error!r}") from error


def _member(document: dict[str, Any]) -> Member:
    features, form = tuple(document["features"]), document.get("form")
    calibrator = _calibrator(document["calibrator"])
    if form == "trees":
        nodes = Nodes(**{name: _whole_or_not(name, v) for name, v in document["nodes"].items()})
        nodes.check(len(features))
        group = np.array(document["group"], dtype=np.int64)
        return Trees(features, nodes, _array(document["base"]), group, calibrator)
    scaling = Scaling(**{name: _array(values) for name, values in document["scaling"].items()})
    if form == "network":
        first, second, last = (_array(document[name]) for name in ("first", "second", "last"))
        return Network(features, scaling, first, second, last, calibrator)
    if form is not None:
        raise ModelDocumentError(f"has a member of the form {form!r}, which this release lacks")
    size = len(document["coefficients"])
    return Logistic(
        features=features,
        scaling=scaling,
        coefficients=_array(document["coefficients"]),
        covariance=_array(document["covariance"]).reshape(size, size),
        ridge=float(document["ridge"]),
        calibrator=calibrator,
    )


def _calibrator(document: dict[str, Any]) -> Calibrator:
    bounds, size = document.get("bounds"), len(document["coefficients"])
    return Calibrator(
        kind=Calibration(document["kind"]),
        outcomes=int(document["outcomes"]),
        covariance=_array(document["covariance"]).reshape(size, size),
        bounds=None
        if bounds is None
        else VennAbers(**{name: _array(values) for name, values in bounds.items()}),
        **{name: _array(document[name]) for name in ("coefficients", "knots", "values", "counts")},
    )


def _whole_or_not(name: str, values: list[Any]) -> "np.ndarray[Any, Any]":
    return np.array(values, dtype=np.float64 if name in ("threshold", "value") else np.int64)


def _array(values: list[Any]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return np.array(values, dtype=np.float64)


def _plain(value: Any) -> Any:
    """Dataclasses as mappings, arrays as lists; what is None is left out."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if is_dataclass(value):
        form = _FORMS.get(type(value))  # type: ignore[arg-type]
        said = {} if form is None else {"form": form}
        items = ((item.name, getattr(value, item.name)) for item in fields(value))
        return said | {name: _plain(item) for name, item in items if item is not None}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
