"""The built-in rule that sizes by how volatile each instrument is forecast to be.

    expected return of a session: p, or S s_t      s_t: volatility forecast at the close of t

p is a stated premium, S a stated Sharpe ratio a session. A full Kelly size is then p / s_t^2, as of
portfolios managed by their variance (Moreira and Muir 2017), or S / s_t, as of a target of
volatility. Both numbers are the caller's and never estimated: one that matches the whole sample
would know the future.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from compute.adapt.volatility import step
from compute.adapt.volatility_model import Prices, VolatilityModel, VolatilityState
from compute.market import Floats
from compute.simulate.history import PriceHistory
from compute.simulate.strategies import SessionSignals, of_moments

HALF_LIFE = 23.0
"""Sessions, of a decay of 0.97."""
SESSIONS = 60


@dataclass(frozen=True)
class VolatilityForecast:
    """A stated edge in every instrument with a price and `sessions` returns behind it.

    premium: p, or with `is_sharpe` S; below 0: a short. error: its standard error, in the same
    unit. half_life: of the exponentially weighted volatility, in sessions.
    """

    premium: float
    is_sharpe: bool = False
    error: float = 0.0
    half_life: float = HALF_LIFE
    sessions: int = SESSIONS

    def __call__(self, history: PriceHistory, session: int) -> SessionSignals | None:
        """The edges known at the close of `session`; None where there is none."""
        volatility = forecasts(history, self.half_life, self.sessions)[session]
        chosen = np.flatnonzero((volatility > 0.0) & ~np.isnan(history.close[session]))
        if not len(chosen) or self.premium == 0.0:
            return None
        forecast = volatility[chosen]
        unit = forecast if self.is_sharpe else np.ones_like(forecast)
        return of_moments(chosen, self.premium * unit, forecast, self.error * unit)


def forecasts(history: PriceHistory, half_life: float, sessions: int) -> Floats:
    """The volatility of the session after each close, (T, m), 0 with fewer than `sessions` returns.

    By `adapt.volatility`, which moves live ones, over prices with dividends and splits in. Made
    once for a history, as each session's follows from that of the one before.
    """
    key = (half_life, sessions)
    if key not in history.forecasts:
        history.forecasts[key] = _forecasts(history, half_life, sessions)
    return history.forecasts[key]


def _forecasts(history: PriceHistory, half_life: float, sessions: int) -> Floats:
    model = VolatilityModel(half_life=half_life, band=0.0, observations_min=sessions)
    state, out = VolatilityState(), np.zeros_like(history.close)
    value = np.ones(history.close.shape[1])
    for t, (close, moved) in enumerate(zip(history.close, history.total_return, strict=True)):
        value = value * (1.0 + moved)
        price = np.where(np.isnan(close), np.nan, value)
        state = step(state, Prices(t, history.instrument_ids, price), model)
        out[t] = state.in_use / sqrt(model.periods_per_year)
    return out
