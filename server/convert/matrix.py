"""Matrices between the contract and arrays: covariances, correlations, factors and scenarios."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
from positionsizing.v1 import market_service_pb2 as pb
from scipy.linalg import cholesky

from compute.limits.book_guard import ReturnMatrix
from compute.market import Floats, Market, MissingInputError
from compute.waterfall.kernels import SCENARIO_BUCKETS
from server.calls.errors import FieldViolation
from server.convert.columns import floats, symmetric
from server.convert.market import (
    instrument_violations,
    universe_violations,
)
from server.convert.names import id_violations
from server.convert.ranges import number_violations

_PSD_TOLERANCE = 1e-10

SQUARE_MAX = 2000
"""Most instruments of a covariance or correlation."""


@dataclass(frozen=True)
class MatrixData:
    """A stored matrix as arrays: square (n, n), or scenarios (K, n) with probabilities (K,)."""

    kind: int
    instrument_ids: tuple[str, ...]
    values: Floats
    probability: Floats
    as_of_time: datetime

    @cached_property
    def returns(self) -> ReturnMatrix:
        """What sizing knows of it, with what it has derived from it before."""
        return ReturnMatrix(self.instrument_ids, self.values, self.probability)


def stored_matrix(payload: bytes) -> MatrixData:
    """A matrix from its stored form."""
    return matrix(pb.Matrix.FromString(payload))


def kind_violations(kind: int, wanted: Sequence[int], path: str) -> Iterator[FieldViolation]:
    """A matrix of another kind than the field it is given in can take."""
    if kind not in wanted:
        names = pb.MatrixKind.DESCRIPTOR.values_by_number
        has, *needs = (names[k].name.removeprefix("MATRIX_KIND_") for k in (kind, *wanted))
        text = f"is a matrix of kind {has}; {' or '.join(needs)} is needed"
        yield FieldViolation(path, "WRONG_KIND", text)


def matrix_violations(
    message: pb.Matrix, path: str, *, is_semidefinite: bool = False
) -> Iterator[FieldViolation]:
    """What is wrong with a matrix, by field path below `path`.

    is_semidefinite: whoever made it has looked at its eigenvalues.
    """
    yield from id_violations(message.matrix_id, f"{path}.matrix_id")
    yield from universe_violations(message.universe_id, f"{path}.universe_id")
    if message.kind not in pb.MatrixKind.values() or not message.kind:
        yield FieldViolation(f"{path}.kind", "MISSING", "must be given")
        return
    wrong = list(instrument_violations(message.instrument_ids, f"{path}.instrument_ids"))
    yield from wrong
    n = len(message.instrument_ids)
    if message.kind != pb.MATRIX_KIND_SCENARIOS and n > SQUARE_MAX:
        text = f"has {n} instruments; a square matrix may have {SQUARE_MAX}"
        yield FieldViolation(f"{path}.instrument_ids", "TOO_MANY", text)
        return
    form = message.WhichOneof("form")
    if form is None or wrong:
        if form is None:
            yield FieldViolation(f"{path}.dense", "MISSING", "the numbers must be given")
        return
    shape = list(number_violations(message, path)) or list(_shape_violations(message, form, path))
    yield from shape
    if not shape and message.kind != pb.MATRIX_KIND_SCENARIOS:
        data = matrix(message)
        found = list(_square_violations(data.values, message.kind, f"{path}.{form}"))
        yield from found
        if not found and not is_semidefinite:
            yield from _indefinite_violations(data.values, f"{path}.{form}")


def _shape_violations(message: pb.Matrix, form: str, path: str) -> Iterator[FieldViolation]:
    n, scenarios = len(message.instrument_ids), message.kind == pb.MATRIX_KIND_SCENARIOS
    columns = {"dense": ("values",), "upper_triangle": ("values",)}.get(
        form, ("loadings", "factor_covariance", "specific_variance")
    )
    for name in columns:
        values = floats(getattr(getattr(message, form), name))
        if scenarios and (values < -1.0).any():
            place = int(np.argmax(values < -1.0))
            text = f"is {values[place]:g}; a return is >= -1"
            yield FieldViolation(f"{path}.{form}.{name}[{place}]", "OUT_OF_RANGE", text)
    if scenarios:
        yield from _scenario_violations(message, form, path)
        return
    if message.scenario_probability:
        text = "is for scenarios only"
        yield FieldViolation(f"{path}.scenario_probability", "NOT_APPLICABLE", text)
    count = len(getattr(message, form).values) if form != "factor" else 0
    expected = {"dense": n * n, "upper_triangle": n * (n + 1) // 2}.get(form, 0)
    if count != expected:
        text = f"has {count} entries; {expected} are needed for {n} instruments"
        yield FieldViolation(f"{path}.{form}.values", "LENGTH_MISMATCH", text)
    if form == "factor":
        factor = message.factor
        k = round(len(factor.factor_covariance) ** 0.5)
        sizes = (k * k, n * k, n)
        given = (
            len(factor.factor_covariance),
            len(factor.loadings),
            len(factor.specific_variance),
        )
        if sizes != given:
            text = f"loadings, factor covariance and specific variance don't fit {n} instruments"
            yield FieldViolation(f"{path}.factor", "LENGTH_MISMATCH", text)


def _scenario_violations(message: pb.Matrix, form: str, path: str) -> Iterator[FieldViolation]:
    n = len(message.instrument_ids)
    if form != "dense":
        yield FieldViolation(f"{path}.{form}", "NOT_APPLICABLE", "scenarios are given as dense")
        return
    count = len(message.dense.values)
    if count > n * SCENARIO_BUCKETS[-1]:
        text = f"has {count // n} scenarios; at most {SCENARIO_BUCKETS[-1]} are accepted"
        yield FieldViolation(f"{path}.dense.values", "TOO_MANY", text)
        return
    if count == 0 or count % n:
        text = f"has {count} entries, not a multiple of {n} instruments"
        yield FieldViolation(f"{path}.dense.values", "LENGTH_MISMATCH", text)
        return
    probability = floats(message.scenario_probability)
    if len(probability) not in (0, count // n):
        text = f"has {len(probability)} entries for {count // n} scenarios"
        yield FieldViolation(f"{path}.scenario_probability", "LENGTH_MISMATCH", text)
    elif len(probability) and not (
        (probability > 0).all() and abs(probability.sum() - 1.0) <= 1e-9
    ):
        text = "must be positive and sum to 1"
        yield FieldViolation(f"{path}.scenario_probability", "OUT_OF_RANGE", text)


def _square_violations(values: Floats, kind: int, path: str) -> Iterator[FieldViolation]:
    if not np.abs(values - values.T).max() <= 1e-9 * np.abs(values).max():
        yield FieldViolation(path, "NOT_SYMMETRIC", "must be symmetric")
    elif kind == pb.MATRIX_KIND_CORRELATION and not np.allclose(np.diag(values), 1.0, atol=1e-9):
        yield FieldViolation(path, "OUT_OF_RANGE", "a correlation has ones on the diagonal")


def _indefinite_violations(values: Floats, path: str) -> Iterator[FieldViolation]:
    scale = float(np.abs(values).max())
    tolerance = _PSD_TOLERANCE * max(scale, 1e-300) * len(values)
    try:  # takes a tenth of the time of eigenvalues, which only a refusal tells
        shifted = values.copy()
        shifted[np.diag_indices(len(values))] += tolerance
        cholesky(shifted, lower=True, overwrite_a=True)
    except np.linalg.LinAlgError:
        smallest = float(np.linalg.eigvalsh(values)[0])
        text = f"is not positive semidefinite: the smallest eigenvalue is {smallest:.3g}"
        yield FieldViolation(path, "NOT_POSITIVE_SEMIDEFINITE", text)


def matrix(message: pb.Matrix) -> MatrixData:
    """A matrix as arrays, whatever its form."""
    n = len(message.instrument_ids)
    ids = tuple(message.instrument_ids)
    match message.WhichOneof("form"):
        case "factor":
            factor = message.factor
            k = round(len(factor.factor_covariance) ** 0.5)
            loadings = floats(factor.loadings).reshape(n, k)
            inner = floats(factor.factor_covariance).reshape(k, k)
            values = loadings @ inner @ loadings.T + np.diag(floats(factor.specific_variance))
        case "upper_triangle":
            values = symmetric(floats(message.upper_triangle.values), n)
        case _:
            # An instrument's scenarios side by side in memory, as whoever reads some wants them.
            values = np.asfortranarray(floats(message.dense.values).reshape(-1, n))
    probability = floats(message.scenario_probability)
    if len(probability) == 0:
        probability = np.full(len(values), 1.0 / max(len(values), 1))
    then = message.as_of_time.ToDatetime(tzinfo=UTC)
    return MatrixData(message.kind, ids, values, probability, then)


def covariance_of(data: MatrixData, prices: Market, periods_per_year: float) -> MatrixData:
    """A correlation with the volatilities of a market as a covariance; other kinds as they are.

    Raises `MissingInputError` where the market has no volatility of an instrument of both.
    """
    if data.kind != pb.MATRIX_KIND_CORRELATION:
        return data
    place = prices.places(data.instrument_ids)
    volatility = np.zeros(len(place))
    if prices.volatility is not None:
        volatility = np.where(place >= 0, prices.volatility[np.maximum(place, 0)], 0.0)
    for line in np.flatnonzero((place >= 0) & ~(volatility > 0.0)):
        raise MissingInputError(
            "MISSING_VOLATILITY",
            f"a correlation needs the volatility of {data.instrument_ids[line]!r}, > 0, in the "
            "market snapshot",
        )
    values = data.values * np.outer(volatility, volatility) / periods_per_year
    return replace(data, kind=pb.MATRIX_KIND_COVARIANCE, values=values)
