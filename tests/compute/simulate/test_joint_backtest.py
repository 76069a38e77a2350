"""The joint method through the past: estimates that know no future, and the right weights."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from compute.correlation.estimate import Estimator
from compute.correlation.linkage import Linkage
from compute.limits.policy import ClusterLimit, JointLimits, Limits
from compute.market import Floats, MissingInputError
from compute.methods import Method
from compute.optimize.problem import Objective, ObjectiveKind
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry
from compute.signals import Signals
from compute.simulate.backtest import run
from compute.simulate.estimates import Estimates
from compute.simulate.history import PriceHistory
from compute.simulate.setting import FillAt, Setting
from compute.simulate.strategies import MeanReturn, SessionSignals
from compute.waterfall.layout import Source

NAMES = ("A", "B", "C")
WINDOW = 30


def history(sessions: int = 40) -> PriceHistory:
    rng = np.random.default_rng(11)
    shared = rng.standard_normal((sessions, 1))
    moved = 0.01 * (0.7 * shared + rng.standard_normal((sessions, len(NAMES))) * [0.5, 1.0, 1.5])
    days = np.datetime64("2024-01-01") + np.arange(sessions)
    return PriceHistory(tuple(map(str, days)), NAMES, 40.0 * np.cumprod(1.0 + moved, axis=0))


@dataclass(frozen=True)
class Expected:
    """Expected returns of one session."""

    session: int
    mean: Floats

    def __call__(self, past: PriceHistory, session: int) -> SessionSignals | None:
        if session != self.session:
            return None
        n = len(NAMES)
        signals = Signals(
            side=np.ones(n),
            source=np.full(n, int(Source.RETURN_VOLATILITY)),
            expected_return=self.mean,
            volatility=np.full(n, 0.01),
        )
        return SessionSignals(np.arange(n), signals)


def test_weights_are_those_of_the_covariance_of_the_window(kernels: KernelRegistry) -> None:
    """Mean-variance: w = S^-1 m / gamma, S by another program; so m = gamma S w gives w back."""
    past, t, wanted = history(), 35, np.array([0.3, 0.2, 0.1])
    returns = past.close[1:] / past.close[:-1] - 1.0
    covariance = LedoitWolf().fit(returns[t - WINDOW : t]).covariance_
    setting = Setting(
        strategy=Expected(t, 50.0 * covariance @ wanted),
        parameters=EffectiveParameters(
            method=Method.JOINT,
            joint_objective=Objective(ObjectiveKind.MEAN_VARIANCE, risk_aversion=50.0),
            confidence_shrinkage=Shrinkage.NONE,
        ),
        limits=Limits(weight_max=0.9),
        fill_at=FillAt.SAME_CLOSE,
        lot_size=1e-6,
        estimates=Estimates(sessions=WINDOW),
    )
    found = run(past, setting, kernels)
    assert found.decisions == 1
    assert found.units is not None
    held = found.units[t + 1] * past.close[t] / 1e6
    np.testing.assert_allclose(held, wanted, atol=2e-5)


@pytest.mark.parametrize("method", [Method.JOINT, Method.CLOSED_FORM, Method.RISK_PARITY])
def test_nothing_of_later_sessions_is_known(method: Method, kernels: KernelRegistry) -> None:
    limits = Limits(
        weight_max=0.5,
        clusters=(ClusterLimit("alike", Linkage.WARD, cluster_count=2, gross_weight_max=0.6),),
        joint=JointLimits(cvar_max=0.02),
    )
    setting = Setting(
        strategy=MeanReturn(sessions=10, is_long_only=True),
        parameters=EffectiveParameters(method=method, risk_budget=0.3),
        limits=limits,
        fill_at=FillAt.SAME_CLOSE,
        estimates=Estimates(sessions=20, scenarios=True),
    )
    past, end = history(), 32
    whole = run(past, setting, kernels)
    assert whole.decisions > 10
    assert whole.units is not None
    for future in (np.nan, 1e9):
        close = np.array(past.close)
        close[end:] = future
        other = run(replace(past, close=close), setting, kernels)
        assert other.units is not None
        np.testing.assert_array_equal(other.units[:end], whole.units[:end])
    short = run(past.until(end), setting, kernels)
    np.testing.assert_array_equal(short.equity, whole.equity[:end])


@pytest.mark.parametrize("estimator", [Estimator.SAMPLE, Estimator.EWMA, Estimator.DENOISED])
@pytest.mark.parametrize("future", [np.nan, 1e9])
def test_estimates_are_the_same_whatever_comes_after(estimator: Estimator, future: float) -> None:
    past, estimates = history(), Estimates(WINDOW, estimator, scenarios=True)
    for t in (WINDOW, 33, 37):
        close = np.array(past.close)
        close[t + 1 :] = future
        known, other = estimates.at(past, t), estimates.at(replace(past, close=close), t)
        for one, two in ((known.covariance, other.covariance), (known.scenarios, other.scenarios)):
            assert one is not None
            assert two is not None
            np.testing.assert_array_equal(one.values, two.values)


def test_what_has_no_whole_window_is_not_estimated() -> None:
    """B begins late, and C never moves."""
    past = history()
    close = np.array(past.close)
    close[:5, 1] = np.nan
    close[:, 2] = 7.0
    past = replace(past, close=close)
    found = Estimates(WINDOW).at(past, WINDOW)
    assert found.scenarios is None
    assert found.covariance is not None
    assert found.covariance.instrument_ids == ("A",)
    assert Estimates(WINDOW).at(past, 36).covariance.instrument_ids == ("A", "B")  # type: ignore[union-attr]
    with pytest.raises(MissingInputError) as error:
        Estimates(WINDOW).at(past, WINDOW - 1)
    assert error.value.reason == "TOO_FEW_SESSIONS"
