"""Estimates of instruments whose risks are of unlike size, or the same, asked of a service."""

import mpmath
import numpy as np
import pytest
from positionsizing.v1 import correlation_service_pb2 as pb
from positionsizing.v1 import market_service_pb2

from tests.server.reference.test_reference_risk import returns_universe
from tests.server.risk.test_estimates import estimate, values_of
from tests.server.support.service_client import Client, refusal

NONLINEAR = pb.COVARIANCE_ESTIMATOR_LEDOIT_WOLF_NONLINEAR


def shrunk(eigenvalues: np.ndarray, count: int) -> np.ndarray:
    """Ledoit and Wolf's (2020) eigenvalues for p < T, rising, in 60 digits and as they print it."""
    with mpmath.workdps(60):
        values = [mpmath.mpf(float(value)) for value in eigenvalues]
        width, root = mpmath.mpf(count) ** (-mpmath.mpf(1) / 3), mpmath.sqrt(5)
        ratio, out = mpmath.mpf(len(values)) / count, []
        for one in values:
            density, hilbert = mpmath.mpf(0), mpmath.mpf(0)
            for other in values:
                scale = width * other
                x = (one - other) / scale
                density += 0.75 / root * max(1 - x * x / 5, 0) / scale
                log = mpmath.log(abs((root - x) / (root + x)))
                hilbert += -3 * x / (10 * mpmath.pi * scale)
                hilbert += 0.75 / root / mpmath.pi * (1 - x * x / 5) * log / scale
            a = ratio * one / len(values)
            part = (mpmath.pi * a * density) ** 2 + (1 - ratio - mpmath.pi * a * hilbert) ** 2
            out.append(float(one / part))
        return np.array(out)


@pytest.mark.parametrize("deviation", [1e-4, 2e-5, 1e-5, 1e-7])
async def test_nonlinear_shrinkage_of_a_money_market_fund_beside_shares(
    client: Client, deviation: float
) -> None:
    """The shares keep their risk, however calm the fund is; all is as the formula in 60 digits."""
    rng = np.random.default_rng(3)
    shares = 0.02 * (0.6 * rng.standard_normal((250, 1)) + 0.8 * rng.standard_normal((250, 4)))
    returns = np.hstack([1e-4 + deviation * rng.standard_normal((250, 1)), shares])
    made = await estimate(client, await returns_universe(client, returns), estimator=NONLINEAR)
    found = await values_of(client, made.matrix_id)
    values, vectors = np.linalg.eigh(np.cov(returns.T))
    expected = (vectors * shrunk(values, 249)) @ vectors.T
    np.testing.assert_allclose(np.diag(found), np.diag(expected), rtol=1e-8)
    np.testing.assert_allclose(found[1:, 1:], expected[1:, 1:], rtol=1e-8)
    assert np.sqrt(np.diag(found)) == pytest.approx(returns.std(axis=0), rel=0.1)


@pytest.mark.parametrize("sign", [1.0, -1.0])
async def test_nonlinear_shrinkage_of_two_instruments_that_are_one(
    client: Client, sign: float
) -> None:
    returns = 0.01 * np.random.default_rng(4).standard_normal((60, 3))
    returns[:, 1] = sign * returns[:, 0]
    made = await estimate(client, await returns_universe(client, returns), estimator=NONLINEAR)
    found = await values_of(client, made.matrix_id)
    assert np.sqrt(np.diag(found)) == pytest.approx(returns.std(axis=0), rel=0.15)
    assert found[0, 1] == pytest.approx(sign * found[0, 0], rel=1e-9)


@pytest.mark.parametrize("n", [2, 3])
async def test_detoning_that_leaves_nothing_of_an_instrument_is_refused(
    client: Client, n: int
) -> None:
    """Where no component stands out of the noise, the largest is one instrument."""
    returns = 0.01 * np.random.default_rng(2).standard_normal((300, n))
    universe = await returns_universe(client, returns)
    refused = await refusal(
        estimate(
            client,
            universe,
            estimator=pb.COVARIANCE_ESTIMATOR_DETONED,
            kind=market_service_pb2.MATRIX_KIND_CORRELATION,
        )
    )
    assert (refused.code.name, refused.reason) == ("FAILED_PRECONDITION", "NOT_ESTIMABLE")
    assert "nothing is left of an instrument" in refused.message
