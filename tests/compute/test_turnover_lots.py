"""Whole trades within a turnover: what limits need first, and the search for them ends."""

import numpy as np
import pytest

from compute.limits.turnover_lots import ROUNDING, within_turnover


def test_lots_given_back_for_a_trade_that_a_limit_needs_are_not_asked_for_again() -> None:
    """At the turnover one lot of the last line costs ten of the first, and that is all."""
    lot_weight = np.array([1e-11, 2e-11, 5e-11, 1e-10])
    down = np.array([4e9, 1e9, -8e8, 0.0])
    needed = np.array([0.0, 0.0, -8e8, -1.0])
    lots = within_turnover(down, down, needed, lot_weight, float(np.abs(down) @ lot_weight))
    given = down - lots
    assert list(given) == [10.0, 0.0, 0.0, 1.0]


@pytest.mark.timeout(60)
def test_random_trades_end_within_the_turnover_and_take_nothing_that_limits_need() -> None:
    rng = np.random.default_rng(5)
    for _ in range(2_000):
        n = int(rng.integers(1, 6))
        lot_weight = 10.0 ** rng.uniform(-11.0, -2.0, n)
        sign = rng.choice([-1.0, 1.0], n)
        down = sign * np.floor(rng.uniform(0.0, 0.1, n) / lot_weight)
        needed = sign * np.floor(rng.uniform(0.0, 0.1, n) * (rng.random(n) < 0.5) / lot_weight)
        least = np.minimum(np.abs(down), np.abs(needed))
        most = float(np.abs(down) @ lot_weight) * rng.uniform(1.0, 1.5)
        lots = within_turnover(down, down, needed, lot_weight, most)
        assert np.abs(lots) @ lot_weight <= most * (1.0 + 2.0 * ROUNDING)
        assert (np.abs(lots) >= least).all()
        assert (np.abs(lots) <= np.maximum(np.abs(down), np.abs(needed))).all()
        missed = (np.abs(needed) > np.abs(lots)).any()
        spare = np.maximum(np.abs(lots) - np.abs(needed), 0.0) @ lot_weight
        left = most - np.abs(lots) @ lot_weight
        # While a limit needs a lot that turnover would pay, no trade keeps what none needs.
        assert not missed or spare + left < (n + 1) * lot_weight.max()
