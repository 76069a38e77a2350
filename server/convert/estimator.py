"""Estimators of covariances between the contract and the domain."""

from positionsizing.v1 import correlation_service_pb2 as pb

from compute.correlation.estimate import Settings


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
    )
