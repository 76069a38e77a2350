"""The guard finds what a plain reading of the limits finds, on lots that nobody checked before."""

import numpy as np
import pytest

from compute.limits.guard import Guard, Proposal
from compute.limits.policy import SharedLimits
from compute.limits.shared import allocate, divided
from compute.market import SharedUse
from tests.compute.plain_limits import breaches
from tests.compute.random_books import case


@pytest.mark.parametrize("seed", range(10))
def test_guard_and_plain_reading_agree_on_random_lots(seed: int) -> None:
    rng = np.random.default_rng([77, seed])
    broken = kept = 0
    for _ in range(300):
        item = case(rng)
        guard = Guard(item.market, item.positions, item.limits, item.shared)
        value = rng.normal(0.0, 0.3, len(item.index)) * guard.equity * 10.0 ** rng.uniform(-4, 0)
        lot_value = (item.market.price * item.market.lot_size)[item.index]
        trade = np.trunc(np.clip(value / lot_value, -(2.0**52), 2.0**52)).astype(np.int64)
        trade[rng.random(len(trade)) < 0.5] = 0
        found = guard.violations(Proposal(item.index, trade), reducing=item.reducing)
        plain = breaches(
            item.market,
            item.positions,
            item.limits,
            item.shared,
            item.index.tolist(),
            trade.tolist(),
            reducing=item.reducing,
        )
        # The smallest trade is a rule of rounding, not a limit that the guard knows.
        plain = [text for text in plain if "a trade of" not in text]
        assert bool(found) == bool(plain), (found, plain)
        broken, kept = broken + bool(found), kept + (not found)
    assert broken > 50
    assert kept > 50


def test_two_equal_portfolios_each_get_half() -> None:
    before, wanted = np.zeros(2), np.array([10.0, 10.0])
    assert allocate(before, wanted, 10.0, 0.0).tolist() == [5.0, 5.0]
    assert allocate(before, wanted, 10.0, 4.0).tolist() == [3.0, 3.0]
    assert allocate(before, wanted, 30.0, 0.0).tolist() == [15.0, 15.0]  # all fits, with 5 to spare


def test_increases_are_scaled_alike_and_reductions_go_through() -> None:
    before = np.array([4.0, 10.0, 0.0])
    wanted = np.array([10.0, 2.0, 6.0])
    allowed = allocate(before, wanted, 20.0, 0.0)
    assert allowed.tolist() == [7.0, 10.0, 3.0]  # room for 6 of 12; what is freed is not there yet
    assert allocate(before, wanted, 10.0, 0.0).tolist() == before.tolist()
    assert allocate(before, before, 0.0, 0.0).tolist() == before.tolist()


def test_divided_keeps_both_limits() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        p, m = int(rng.integers(2, 5)), int(rng.integers(1, 6))
        before = rng.exponential(1.0, (p, m)) * (rng.random((p, m)) < 0.5)
        wanted = rng.exponential(2.0, (p, m))
        rest = rng.exponential(1.0, m)
        limits = SharedLimits(float(rng.uniform(0, 15)), float(rng.uniform(0, 6)))
        others = before.sum(axis=0) + rest - before
        uses = [SharedUse(limits, float(row.sum()), row) for row in others]
        parts = divided(uses, before, wanted, rest)
        gross = [limits.gross_notional_max - part.gross_notional for part in parts]
        start = before.sum() + rest.sum()
        assert sum(gross) + rest.sum() <= max(limits.gross_notional_max, start) * (1 + 1e-12)
        each = sum(limits.instrument_notional_max - part.instrument_notional for part in parts)
        worst = np.maximum(limits.instrument_notional_max, before.sum(axis=0) + rest)
        assert (each + rest <= worst * (1 + 1e-12)).all()
