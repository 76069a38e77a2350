"""States of volatility models as they are stored."""

from dataclasses import replace

import numpy as np
import pytest

from compute.adapt.bars import Bars, RangeEstimator
from compute.adapt.har import Har
from compute.adapt.regimes import RegimeSwitching
from compute.adapt.volatility import step
from compute.adapt.volatility_model import (
    ROWS,
    Prices,
    RangeModel,
    VolatilityModel,
    VolatilityState,
)
from server.convert import volatility as convert
from server.market.volatility import nothing_yet

N = 3
NAMES = ("A", "B", "C")
PLAIN = VolatilityModel(observations_min=1)
RANGE = replace(PLAIN, range=RangeModel(RangeEstimator.YANG_ZHANG))
HAR = replace(PLAIN, range=RangeModel(RangeEstimator.PARKINSON), har=Har(0.3, 0.3, 0.3))
REGIMES = replace(
    PLAIN, regimes=RegimeSwitching((0.0, 0.0), (0.01, 0.02), ((0.9, 0.1), (0.1, 0.9)))
)


@pytest.mark.parametrize(("model", "rows"), [(PLAIN, 7), (RANGE, 16), (REGIMES, 16), (HAR, 40)])
def test_a_state_is_read_as_it_was_written(model: VolatilityModel, rows: int) -> None:
    """Seven rows of plain models, which releases before bars and regimes read."""
    state, rng = VolatilityState(), np.random.default_rng(1)
    for bucket in range(5):
        price = rng.uniform(90.0, 110.0, N)
        bars = Bars(price, 1.01 * price, 0.99 * price)
        state = step(state, Prices(bucket, NAMES, price, bars), model)
    payload = convert.payload(state)
    assert len(payload) == 8 * rows * N
    stored = replace(nothing_yet("m"), bucket=4, periods=5, instrument_id=NAMES, payload=payload)
    assert convert.state(stored).rows.tobytes() == state.rows.tobytes()
    empty = replace(nothing_yet("m"), payload=convert.payload(VolatilityState()))
    assert convert.state(empty).rows.shape == (ROWS, 0)
