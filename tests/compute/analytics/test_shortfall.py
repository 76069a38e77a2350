"""Implementation shortfall by hand."""

import numpy as np
import pytest

from compute.analytics.shortfall import shortfall


def test_a_purchase_filled_in_part_loses_what_the_hand_ledger_says() -> None:
    # Decided 10,000 at 50.00; 6,000 filled at 50.20, 2,000 at 50.40; close 50.80; fees 40.
    mean = (6_000 * 50.20 + 2_000 * 50.40) / 8_000
    found = shortfall(
        np.array([10_000.0]), np.array([50.0]), np.array([8_000.0]),
        np.array([8_000 * (mean - 50.0)]), np.array([0.8]), 40.0,
    )  # fmt: skip
    assert found.execution == pytest.approx(8_000 * (mean - 50.0))
    assert found.opportunity == pytest.approx(1_600.0)
    assert found.total == pytest.approx(3_640.0)
    assert found.rate == pytest.approx(0.00728)


def test_paper_less_real_is_the_shortfall() -> None:
    generator = np.random.default_rng(4)
    decided = np.round(generator.normal(0, 100, 8))
    filled = np.trunc(decided * generator.uniform(0, 1, 8))
    price, fill, close = (generator.uniform(90, 110, 8) for _ in range(3))
    found = shortfall(decided, price, filled, filled * (fill - price), close - price, 7.0)
    paper = float(decided @ (close - price))
    real = float(filled @ (close - fill)) - 7.0
    assert found.total == pytest.approx(paper - real)


def test_nothing_decided_has_no_rate() -> None:
    nothing = np.zeros(1)
    assert shortfall(nothing, nothing, nothing, nothing, nothing, 0.0).rate is None
