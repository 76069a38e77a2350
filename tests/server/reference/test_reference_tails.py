"""Reference numbers of tails, drawdowns and their backtests, asked of a running service."""

from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import risk_service_pb2 as pb
from scipy.optimize import fsolve, minimize_scalar
from scipy.stats import norm

from tests.server.reference.test_reference_risk import put_covariance
from tests.server.risk.test_risk import losses_universe, report, tails, weights
from tests.server.support.service_client import Client, refusal


async def one_name(client: Client, losses: np.ndarray, **given: Any) -> pb.BookRisk:
    """The risk of all equity in what has these losses, (T,)."""
    universe = await losses_universe(client, losses)
    answer = await report(client, universe_id=universe, proposed=weights(A=1.0), **given)
    return answer.after


async def test_a_student_of_four_degrees_r4(client: Client) -> None:
    """Of four degrees no kurtosis exists, so that no history tells of them."""
    covariance = await put_covariance(client, np.array([[1e-4]]), ["A"])
    book = await one_name(
        client,
        0.01 * np.resize([1.0, -1.0], 60),
        covariance_matrix_id=covariance,
        student_degrees=4.0,
    )
    found = tails(book)["STUDENT"]
    assert book.student_degrees == 4.0
    assert found.value_at_risk == pytest.approx(0.0264949191, abs=6e-11)
    assert found.expected_shortfall == pytest.approx(0.0369151049, abs=6e-11)


def most_likely(excesses: np.ndarray) -> tuple[float, float]:
    """Shape and scale of a Pareto tail by likelihood along its profile, another way than the
    service's: of scale b the shape solves its own first-order condition at r = xi / b."""

    def minus(log_ratio: float) -> float:
        ratio = np.exp(log_ratio)
        shape = np.log1p(ratio * excesses).mean()
        return float(np.log(shape / ratio) + shape)

    best = minimize_scalar(minus, bounds=(-8.0, 12.0), method="bounded", options={"xatol": 1e-13})
    ratio = float(np.exp(best.x))
    # One Newton-like polish of the score: the search above only sees values.
    for _ in range(50):
        shape = np.log1p(ratio * excesses).mean()
        slope = (excesses / (1 + ratio * excesses)).mean()
        score = slope / shape - 1 / ratio + slope
        step = 1e-6 * ratio
        other = np.log1p((ratio + step) * excesses).mean()
        bend = (excesses / (1 + (ratio + step) * excesses)).mean()
        change = (bend / other - 1 / (ratio + step) + bend - score) / step
        ratio -= score / change
    shape = float(np.log1p(ratio * excesses).mean())
    return shape, shape / ratio


def losses_with_tail(shape: float, scale: float, threshold: float, n: int, over: int) -> np.ndarray:
    """n losses, of which `over` lie above the threshold and are fitted best by this tail."""
    free = (np.arange(over) + 0.5) / over

    def tail(point: np.ndarray) -> np.ndarray:
        xi, b = point
        return np.asarray(b * ((1 - free) ** -xi - 1) / xi)

    def off(point: np.ndarray) -> list[float]:
        found = most_likely(tail(point))
        return [found[0] - shape, (found[1] - scale) / scale]

    excesses = tail(fsolve(off, [shape, scale], xtol=1e-13))
    below = np.linspace(-threshold, threshold, n - over)
    return np.concatenate([below, threshold + excesses])


@pytest.mark.parametrize(
    ("level", "var", "es"),
    [
        (0.99, 27.284878, 58.210909),
        (0.999, 94.28955, 191.3697),
        (0.9999, 304.62448, 609.3696),
    ],
)
async def test_fire_losses_r8(client: Client, level: float, var: float, es: float) -> None:
    """109 of 2,167 losses above 10 (McNeil and Frey 2000; evir), here in ten-thousandths."""
    unit = 1e-4
    losses = unit * losses_with_tail(0.4968062, 6.9745523, 10.0, 2167, 109)
    book = await one_name(client, losses, level=level, tail_fraction=109.5 / 2167)
    assert (book.pareto.exceedances, book.pareto.threshold) == (109, pytest.approx(10 * unit))
    assert book.pareto.shape == pytest.approx(0.4968062, abs=1e-7)
    assert book.pareto.scale == pytest.approx(6.9745523 * unit, rel=1e-7)
    found = tails(book)["EXTREME_VALUE"]
    assert found.value_at_risk == pytest.approx(var * unit, rel=5e-7)
    assert found.expected_shortfall == pytest.approx(es * unit, rel=5e-7)


@pytest.mark.parametrize(
    ("level", "var", "es"), [(0.99, 0.051131, 0.074842), (0.995, 0.064590, 0.092786)]
)
async def test_daily_returns_r8b(client: Client, level: float, var: float, es: float) -> None:
    """A tenth of a thousand days, as by default."""
    losses = losses_with_tail(0.25, 0.01, 0.02, 1000, 100)
    found = tails(await one_name(client, losses, level=level))["EXTREME_VALUE"]
    assert found.value_at_risk == pytest.approx(var, abs=6e-7)
    assert found.expected_shortfall == pytest.approx(es, abs=6e-7)


async def test_drawdowns_of_a_book_r21(client: Client) -> None:
    """The half of six days that are deepest below a peak; two names, rebalanced each day."""
    path = np.array([0.05, -0.1, 0.02, -0.08, 0.12, -0.03])
    book = await one_name(client, -path, level=0.5)
    assert book.max_drawdown == pytest.approx(0.15544, rel=1e-12)
    assert book.conditional_drawdown == pytest.approx(0.1126366720, abs=6e-11)
    falling = await one_name(client, np.array([0.2, -0.25, 0.0]), level=0.9)
    assert falling.max_drawdown == pytest.approx(0.2), "the start is a peak"


@pytest.mark.parametrize(
    ("level", "evar"), [(0.95, 2.4477468307), (0.975, 2.7162030315), (0.99, 3.0348542588)]
)
async def test_entropic_value_at_risk_of_a_normal_return_r27(
    client: Client, level: float, evar: float
) -> None:
    covariance = await put_covariance(client, np.array([[1e-4]]), ["A"])
    losses = 0.01 * np.resize([1.0, -1.0], 60)
    book = await one_name(client, losses, covariance_matrix_id=covariance, level=level)
    assert book.entropic_value_at_risk_normal == pytest.approx(0.01 * evar, abs=6e-13)


@pytest.mark.parametrize(("aversion", "risk"), [(5.0, 8.5263424665), (20.0, 9.8434823779)])
async def test_spectral_risk_r28(client: Client, aversion: float, risk: float) -> None:
    losses = np.arange(1.0, 11.0) / 100
    book = await one_name(client, losses, spectral_aversion=aversion)
    assert book.spectral_risk == pytest.approx(risk / 100, abs=6e-13)


async def backtested(
    client: Client, losses: np.ndarray, level: float = 0.99, **given: Any
) -> pb.BacktestRiskResponse:
    """Forecasts of a standard normal loss against these."""
    n, z = len(losses), norm.ppf(level)
    forecasts = pb.RecordedForecasts(
        losses=losses,
        value_at_risk=np.full(n, z),
        expected_shortfall=np.full(n, norm.pdf(z) / (1 - level)),
    )
    request = pb.BacktestRiskRequest(recorded=forecasts, level=level, **given)
    return await client.risk.BacktestRisk(request)


async def test_exceedances_apart_r31(client: Client) -> None:
    losses = np.zeros(250)
    losses[[10, 50, 90, 130, 170, 210]] = 3.0
    answer = await backtested(client, losses)
    assert answer.independence.statistic == pytest.approx(0.2963264105, abs=6e-11)
    assert answer.exceedance_count == 6


CRITICAL = {  # degrees of freedom, 0 for normal: Z2 at 5 % and at 0.01 %
    0.0: (-0.704, -1.77),
    10.0: (-0.710, -1.82),
    5.0: (-0.733, -2.03),
    3.0: (-0.810, -4.28),
}


@pytest.mark.parametrize("degrees", CRITICAL)
async def test_critical_values_of_acerbi_and_szekely_r33(client: Client, degrees: float) -> None:
    """What was simulated with some 1e5 paths; the service computes the distribution."""
    tail = norm.pdf(norm.ppf(0.975)) / 0.025
    for statistic, chance, error in zip(CRITICAL[degrees], (0.05, 1e-4), (2e-3, 3e-5), strict=True):
        losses = np.zeros(250)
        # Ten losses whose mean over ES is what makes Z2 this.
        losses[:250:25] = tail * 6.25 * (1 - statistic) / 10
        given = {"null_degrees": degrees} if degrees else {}
        answer = await backtested(client, losses, 0.975, **given)
        assert answer.shortfall_z2 == pytest.approx(statistic, abs=1e-12)
        assert answer.shortfall_p_value == pytest.approx(chance, abs=error)


async def test_probabilities_of_the_shortfall_test_are_those_of_a_simulation(
    client: Client,
) -> None:
    rng, count, z = np.random.default_rng(7), 60, norm.ppf(0.95)
    paths = rng.standard_normal((200_000, count))
    beyond = np.where(paths > z, paths, 0.0).sum(axis=1) / (norm.pdf(z) / 0.05)
    simulated = 1 - beyond / (count * 0.05)
    for path in paths[:6]:
        answer = await backtested(client, path, 0.95)
        share = float((simulated <= answer.shortfall_z2 + 1e-12).mean())
        assert answer.shortfall_p_value == pytest.approx(share, abs=5e-3)
    calm = await backtested(client, np.zeros(count), 0.95)
    assert (calm.shortfall_z2, calm.shortfall_p_value) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tail_fraction", 0.0),
        ("tail_fraction", 0.6),
        ("student_degrees", 2.0),
        ("spectral_aversion", 0.0),
        ("spectral_aversion", float("nan")),
    ],
)
async def test_choices_out_of_range_are_named(client: Client, field: str, value: float) -> None:
    asked = report(client, universe_id="any", proposed=weights(A=1.0), **{field: value})
    assert (await refusal(asked)).fields == {field: "OUT_OF_RANGE"}
    wrong = pb.BacktestRiskRequest(
        recorded=pb.RecordedForecasts(losses=[0, 0], value_at_risk=[1, 1]), null_degrees=2.0
    )
    assert (await refusal(client.risk.BacktestRisk(wrong))).fields == {
        "null_degrees": "OUT_OF_RANGE"
    }
