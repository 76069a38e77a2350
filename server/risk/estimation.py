"""A matrix estimated from a history: from a checked request and what was read, to a message."""

import hashlib
from dataclasses import dataclass

import numpy as np
from positionsizing.v1 import correlation_service_pb2 as pb
from positionsizing.v1 import history_service_pb2, market_service_pb2
from positionsizing.v1.market_service_pb2 import (
    MATRIX_KIND_CORRELATION,
    MATRIX_KIND_COVARIANCE,
    MATRIX_KIND_SCENARIOS,
)

from compute.correlation.estimate import PAIRWISE, Estimator, estimate, held_out
from compute.correlation.nearest import repaired
from compute.correlation.sample import correlation_of, ewma_weights, scaled
from compute.history import Gaps, HistoryGapError, Table, sample
from compute.waterfall.kernels import SCENARIO_BUCKETS
from server.calls.errors import invalid, precondition
from server.convert.columns import Floats, set_floats
from server.convert.estimator import settings_of
from server.convert.history import moment_of
from server.convert.matrix import SQUARE_MAX
from server.convert.names import timestamp
from server.convert.provenance import with_covariance, with_factors
from server.risk.histories import Read

HELD_OUT_DEFAULT = 0.2
INDEFINITE_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Returns:
    """Returns of instruments and of factors, with the times they are known at."""

    instruments: Floats
    factors: Floats | None
    times: np.ndarray
    gaps: Gaps


def estimator_of(request: pb.EstimateMatrixRequest) -> Estimator:
    """The estimator asked for, or the default of the kind."""
    if request.estimator:
        return Estimator(request.estimator)
    scenarios = request.kind == MATRIX_KIND_SCENARIOS
    return Estimator.SAMPLE if scenarios else Estimator.LEDOIT_WOLF


def returns_of(request: pb.EstimateMatrixRequest, history: Read) -> Returns:
    """The returns that an estimate uses. Raises `Refusal` where gaps are refused."""
    gaps = Gaps(request.gap_policy or Gaps.REFUSE)
    table = history.table
    try:
        values, times = sample(table, is_prices=history.is_prices, gaps=gaps)
    except HistoryGapError as error:
        raise precondition("HISTORY_GAPS", str(error)) from error
    column = {name: i for i, name in enumerate(table.instrument_ids)}
    factors = [column[name] for name in request.factor_ids]
    if not factors:
        return Returns(values, None, times, gaps)
    rest = [i for i in range(len(column)) if i not in set(factors)]
    return Returns(values[:, rest], values[:, factors], times, gaps)


def estimated(request: pb.EstimateMatrixRequest, history: Read) -> market_service_pb2.Matrix:
    """The matrix with its provenance. Raises `Refusal` where it can't be had, or is indefinite."""
    returns = returns_of(request, history)
    kind = request.kind or MATRIX_KIND_COVARIANCE
    factors = set(request.factor_ids)
    names = [name for name in history.table.instrument_ids if name not in factors]
    if not names:
        raise invalid("factor_ids", "EMPTY", "leave no instrument to estimate")
    message = market_service_pb2.Matrix(
        kind=kind,
        as_of_time=timestamp(moment_of(int(returns.times[-1]))),
        instrument_ids=names,
        universe_id=request.universe_id,
    )
    _provenance(message.provenance, request, history, returns)
    if kind == MATRIX_KIND_SCENARIOS:
        _scenarios(message, request, returns)
    else:
        _square(message, request, returns)
    message.matrix_id = request.matrix_id or _made_id(request, history.table, message)
    return message


def _square(
    message: market_service_pb2.Matrix, request: pb.EstimateMatrixRequest, returns: Returns
) -> None:
    estimator, settings = estimator_of(request), settings_of(request.settings)
    if len(message.instrument_ids) > SQUARE_MAX:
        text = f"has {len(message.instrument_ids)} instruments; a matrix may have {SQUARE_MAX}"
        raise invalid("instrument_ids", "TOO_MANY", text)
    if returns.gaps is Gaps.PAIRWISE and estimator not in PAIRWISE:
        text = "PAIRWISE is for SAMPLE and EWMA, which work pair by pair"
        raise invalid("gap_policy", "NOT_APPLICABLE", text)
    # Shrinkage would lend it the variance of others.
    still = np.nanmax(returns.instruments, axis=0) == np.nanmin(returns.instruments, axis=0)
    if still.any():
        name = message.instrument_ids[int(still.argmax())]
        text = f"{name!r} has no variance in the history: its return never changed"
        raise precondition("NO_VARIANCE", text)
    try:
        made = estimate(returns.instruments, estimator, settings, returns.factors)
    except ValueError as error:
        raise precondition("NOT_ESTIMABLE", f"{estimator.name}: {error}") from error
    correlation, deviation = correlation_of(made.covariance)
    tolerance = INDEFINITE_TOLERANCE * len(correlation)
    fixed = repaired(correlation, tolerance)
    if fixed.smallest_eigenvalue < -tolerance:
        if request.indefinite_policy != market_service_pb2.INDEFINITE_POLICY_NEAREST:
            raise precondition(
                "NOT_POSITIVE_SEMIDEFINITE",
                f"the estimate's smallest eigenvalue is {fixed.smallest_eigenvalue:.3g}: its pairs "
                "contradict each other; ask for indefinite_policy NEAREST or another gap policy",
            )
        message.provenance.repair_distance = fixed.distance
        correlation = fixed.matrix
    message.provenance.smallest_eigenvalue = fixed.smallest_eigenvalue
    if message.kind == MATRIX_KIND_CORRELATION:
        with_covariance(message, correlation)
    elif made.factor is not None:
        with_factors(message, made.factor)
    else:
        with_covariance(message, scaled(correlation, deviation))
    for name, value in made.found.items():
        message.provenance.settings.add(name=name, value=value)
    fraction = HELD_OUT_DEFAULT
    if request.HasField("held_out_fraction"):
        fraction = request.held_out_fraction
    ours, of_sample = held_out(returns.instruments, estimator, settings, fraction, returns.factors)
    if ours is not None:
        message.provenance.log_likelihood = ours
    if of_sample is not None:
        message.provenance.log_likelihood_sample = of_sample


def _scenarios(
    message: market_service_pb2.Matrix, request: pb.EstimateMatrixRequest, returns: Returns
) -> None:
    estimator = estimator_of(request)
    if estimator not in PAIRWISE:
        raise invalid("estimator", "NOT_APPLICABLE", "scenarios are weighted by SAMPLE or EWMA")
    if returns.gaps is Gaps.PAIRWISE:
        raise invalid("gap_policy", "NOT_APPLICABLE", "a scenario needs every instrument's return")
    count = len(returns.instruments)
    if count > SCENARIO_BUCKETS[-1]:
        text = f"{count} periods; at most {SCENARIO_BUCKETS[-1]} scenarios are stored: start later"
        raise invalid("start_time", "TOO_MANY", text)
    set_floats(message.dense, "values", returns.instruments.ravel())
    if estimator is Estimator.EWMA:
        decay = settings_of(request.settings).decay
        set_floats(message, "scenario_probability", ewma_weights(count, decay))
        message.provenance.settings.add(name="decay", value=decay)


def _provenance(
    out: market_service_pb2.MatrixProvenance,
    request: pb.EstimateMatrixRequest,
    history: Read,
    returns: Returns,
) -> None:
    out.estimator = estimator_of(request).name
    out.universe_id = request.universe_id
    out.first_observation_time.FromDatetime(moment_of(int(returns.times[0])))
    out.last_observation_time.FromDatetime(moment_of(int(returns.times[-1])))
    out.known_time.FromDatetime(history.known)
    out.observation_count = len(returns.times)
    out.gap_policy = returns.gaps.name


def _made_id(
    request: pb.EstimateMatrixRequest, table: Table, message: market_service_pb2.Matrix
) -> str:
    """The same for the same request on the same numbers."""
    asked = pb.EstimateMatrixRequest()
    asked.CopyFrom(request)
    asked.ClearField("matrix_id")
    asked.ClearField("known_time")
    digest = hashlib.sha256(asked.SerializeToString(deterministic=True))
    digest.update(repr(table.instrument_ids).encode())
    digest.update(table.times.tobytes() + np.ascontiguousarray(table.values).tobytes())
    kind = market_service_pb2.MatrixKind.Name(message.kind).removeprefix("MATRIX_KIND_").lower()
    estimator = message.provenance.estimator.lower().replace("_", "-")
    day = f"{message.as_of_time.ToDatetime():%Y-%m-%d}"
    return f"{request.universe_id[:50]}.{kind}.{estimator}.{day}.{digest.hexdigest()[:12]}"


def kinds_fit(request: pb.EstimateMatrixRequest) -> None:
    """Raises `Refusal` for a kind that an estimator can't give."""
    estimator, kind = estimator_of(request), request.kind or MATRIX_KIND_COVARIANCE
    if estimator is Estimator.DETONED and kind != MATRIX_KIND_CORRELATION:
        text = "DETONED is singular, for clusters: ask for a CORRELATION"
        raise invalid("kind", "NOT_APPLICABLE", text)
    if (estimator is Estimator.GIVEN_FACTORS) != bool(request.factor_ids):
        text = "must name the factors of GIVEN_FACTORS, and is for it alone"
        raise invalid("factor_ids", "NOT_APPLICABLE", text)
    if request.gap_policy not in history_service_pb2.GapPolicy.values():
        raise invalid("gap_policy", "UNKNOWN_VALUE", "is not known")
