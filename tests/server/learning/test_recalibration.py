"""Claimed probabilities calibrated by how bets ended: the tables of Platt and of isotonic maps."""

from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import learning_service_pb2 as pb
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, logit

from tests.server.support.service_client import Client, refusal

PLATT, ISOTONIC = pb.CALIBRATION_KIND_PLATT, pb.CALIBRATION_KIND_ISOTONIC
S = np.arange(-2.0, 3.0, 0.5)
WON = np.array([0, 0, 1, 0, 0, 1, 0, 1, 1, 1], dtype=bool)


async def calibrated(
    client: Client, claims: Any, won: Any, **given: Any
) -> pb.CalibrateForecastsResponse:
    request = pb.CalibrateForecastsRequest(win_probability=claims, won=won, **given)
    return await client.learning.CalibrateForecasts(request)


async def test_platt_r24(client: Client) -> None:
    """R24, R24b: p = 1 / (1 + exp(A s + B)), the targets of his paper, scores as log odds.

    A and B by mpmath; his are the same to the digits he prints.
    """
    for score, won, a, b in (
        (S, WON, -0.664043076062, 0.166010769016),
        (np.array([5.0, -4.0, 1.0]), [True, False, False], -0.202614489618, 0.652366638998),
    ):
        found = await calibrated(client, expit(score), won, kind=PLATT)
        assert list(found.coefficients) == pytest.approx([-b, -a], abs=1e-11)
        means = np.clip(expit(-a * score - b), 1 / (len(won) + 2), 1 - 1 / (len(won) + 2))
        assert list(found.win_probability) == pytest.approx(means, abs=1e-11)
        assert found.kind == PLATT
        assert not found.HasField("forward")


async def test_isotonic_r23(client: Client) -> None:
    won = np.array([0, 0, 1, 0, 1, 0, 1, 1, 0, 1])
    claims = np.linspace(0.1, 0.9, 10)
    found = await calibrated(client, claims, won.astype(bool), kind=ISOTONIC)
    pooled = [0, 0, 0.5, 0.5, 0.5, 0.5, 2 / 3, 2 / 3, 2 / 3, 1]
    assert isotonic_regression(won).x == pytest.approx(pooled)
    place = np.searchsorted(found.step_claim, claims)
    assert np.array(found.step_win_rate)[place] == pytest.approx(pooled, abs=1e-15)
    assert list(found.step_win_rate) == pytest.approx([0, 0.5, 2 / 3, 1])
    assert list(found.win_probability) == pytest.approx(np.clip(pooled, 1 / 12, 11 / 12))
    squares = ((claims - won) ** 2).mean()
    assert found.brier == pytest.approx(squares, rel=1e-12)


async def test_a_map_of_claims_that_are_too_sure(client: Client) -> None:
    """The truth has half the log odds that are claimed; the map finds it, and helps on new bets."""
    rng = np.random.default_rng(13)
    claims = rng.uniform(0.05, 0.95, 1500)
    won = rng.random(1500) < expit(0.5 * logit(claims))
    asked = [0.1, 0.5, 0.9]
    found = await calibrated(client, claims, won, asked=asked)
    assert found.kind == PLATT, "of so many bets"

    def loss(x: np.ndarray) -> float:
        z = x[0] + x[1] * logit(claims)
        wins = won.sum()
        y = np.where(won, (wins + 1) / (wins + 2), 1 / (1500 - wins + 2))
        return float((np.logaddexp(0.0, z) - y * z).sum())

    theirs = minimize(loss, [0.0, 1.0], method="BFGS", options={"gtol": 1e-9}).x
    assert list(found.coefficients) == pytest.approx(theirs, abs=1e-6)
    means = expit(theirs[0] + theirs[1] * logit(asked))
    assert list(found.win_probability) == pytest.approx(means, abs=1e-6)
    truth, error = expit(0.5 * logit(asked)), np.array(found.win_probability_error)
    assert (np.abs(np.array(found.win_probability) - truth) < 3 * error).all()
    assert found.miscalibration > 0.03
    then = found.forward
    assert then.bets == 1250
    assert then.log_loss_calibrated < then.log_loss_claimed - 0.02
    assert then.brier_calibrated < then.brier_claimed


async def test_what_is_wrong_is_named(client: Client) -> None:
    wrong: list[tuple[Any, Any, dict[str, Any], dict[str, str]]] = [
        ([0.5], [True], {}, {"win_probability": "OUT_OF_RANGE", "won": "TOO_FEW_ROWS"}),
        ([0.5, 0.6], [True], {}, {"won": "LENGTH_MISMATCH"}),
        ([0.5, 1.6], [True, False], {}, {"win_probability[1]": "OUT_OF_RANGE"}),
        ([0.5, 0.6], [True, False], {"asked": [-0.1]}, {"asked[0]": "OUT_OF_RANGE"}),
    ]
    for claims, won, given, fields in wrong:
        assert (await refusal(calibrated(client, claims, won, **given))).fields == fields
