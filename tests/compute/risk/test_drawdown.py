"""Drawdowns measured and controlled."""

import numpy as np

from compute.risk.drawdown import (
    conditional_drawdown,
    drawdown_controlled_fraction,
    drawdown_controlled_growth,
    drawdowns,
    maximum_drawdown,
)

PATH = np.array([0.05, -0.1, 0.02, -0.08, 0.12, -0.03])


def test_drawdown_path_table():
    expected = [0, 0.1, 0.082, 0.15544, 0.0540928, 0.08247002]
    np.testing.assert_allclose(drawdowns(PATH), expected, rtol=1e-7, atol=1e-15)
    np.testing.assert_allclose(maximum_drawdown(PATH), 0.15544, rtol=1e-12)
    np.testing.assert_allclose(conditional_drawdown(PATH, 0.5), 0.1126366720, rtol=1e-9)


def test_conditional_drawdown_takes_part_of_a_day():
    # The worst quarter of six days is a day and a half.
    expected = (0.15544 + 0.5 * 0.1) / 1.5
    np.testing.assert_allclose(conditional_drawdown(PATH, 0.75), expected, rtol=1e-12)
    np.testing.assert_allclose(
        conditional_drawdown(PATH, 0.0), np.mean(drawdowns(PATH)), rtol=1e-12
    )


def test_a_loss_on_the_first_day_is_a_drawdown():
    np.testing.assert_allclose(drawdowns(np.array([-0.2, 0.25])), [0.2, 0.0], atol=1e-15)


def test_paths_in_a_batch():
    batch = np.stack([PATH, -PATH])
    np.testing.assert_allclose(maximum_drawdown(batch)[0], 0.15544, rtol=1e-12)
    assert conditional_drawdown(batch, 0.5).shape == (2,)


def test_controlled_fraction_table():
    ratio = np.array([0.95, 1.0, 0.8, 0.5])
    fractions = drawdown_controlled_fraction(20 / 9, ratio, 0.8)
    np.testing.assert_allclose(
        fractions, [20 / 9 * (1 - 0.8 / 0.95), 4 / 9, 0.0, 0.0], rtol=1e-12, atol=1e-15
    )
    np.testing.assert_allclose(fractions[:2], [0.3508771930, 0.4444444444], rtol=1e-9)
    np.testing.assert_allclose(drawdown_controlled_growth(1 / 18, 0.8), 1 / 90, rtol=1e-12)


def test_controlled_path_never_breaks_its_floor_and_grows_as_promised():
    # Small steps of the stock of the table: excess return 5 %, volatility 15 % a year.
    rng = np.random.default_rng(9)
    dt, n_steps, n_paths = 1 / 500, 10_000, 256
    wealth, peak = np.ones(n_paths), np.ones(n_paths)
    for _ in range(n_steps):
        shocks = rng.choice([-1.0, 1.0], n_paths)
        fraction = np.maximum(1 - 0.8 * peak / wealth, 0.0) * 20 / 9
        wealth = wealth * (1 + fraction * (0.05 * dt + 0.15 * np.sqrt(dt) * shocks))
        peak = np.maximum(peak, wealth)
        assert np.all(wealth > 0.8 * peak)
    library = drawdown_controlled_fraction(20 / 9, wealth / peak, 0.8)
    np.testing.assert_allclose(library, np.maximum(1 - 0.8 * peak / wealth, 0) * 20 / 9, rtol=1e-9)
    growth = np.log(wealth) / (n_steps * dt)
    error = np.std(growth) / np.sqrt(n_paths)
    assert abs(np.mean(growth) - 1 / 90) < 4 * error + 1e-3
