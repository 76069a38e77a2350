"""Estimators of covariances between the contract and the domain."""

from collections.abc import Iterator

from positionsizing.v1 import correlation_service_pb2 as pb

from compute.correlation.estimate import Settings
from server.calls.errors import FieldViolation


def settings_of(message: pb.EstimatorSettings) -> Settings:
    """What an estimator is told, defaults filled in."""
    default = Settings()
    return Settings(
        decay=message.decay if message.HasField("decay") else default.decay,
        factor_count=message.factor_count,
        stress_fraction=(
            message.stress_fraction
            if message.HasField("stress_fraction")
            else default.stress_fraction
        ),
        detoned_count=message.detoned_count or default.detoned_count,
        noise_variance=message.noise_variance if message.HasField("noise_variance") else 1.0,
        dynamics=(message.dcc_shock, message.dcc_persistence) if _has_dynamics(message) else None,
    )


def settings_violations(message: pb.EstimatorSettings, path: str) -> Iterator[FieldViolation]:
    """What is wrong with the numbers of an estimator beside their ranges."""
    given = [message.HasField("dcc_shock"), message.HasField("dcc_persistence")]
    if any(given) and not all(given):
        name = "dcc_persistence" if given[0] else "dcc_shock"
        yield FieldViolation(f"{path}.{name}", "MISSING", "is given together with the other")
    elif all(given) and not message.dcc_shock + message.dcc_persistence < 1.0:
        total = message.dcc_shock + message.dcc_persistence
        text = f"is {total:g} with dcc_shock; below 1 the correlation returns to its mean"
        yield FieldViolation(f"{path}.dcc_persistence", "OUT_OF_RANGE", text)


def _has_dynamics(message: pb.EstimatorSettings) -> bool:
    return message.HasField("dcc_shock") and message.HasField("dcc_persistence")
