"""Block lengths against arch, and intervals that cover."""

import csv
from pathlib import Path

import numpy as np
import pytest
from arch.bootstrap import optimal_block_length

from compute.simulate.bootstrap import block_length, mean_interval, resampled_places

PRICES = Path(__file__).parents[3] / "examples" / "prices.csv"


def log_returns(name: str) -> np.ndarray:
    with PRICES.open() as file:
        closes = np.array([float(row[name]) for row in csv.DictReader(file)])
    return np.diff(np.log(closes))


@pytest.mark.parametrize(
    ("name", "length"), [("KO", 9.376724828), ("AAPL", 4.125665948), ("XOM", 1.683467115)]
)
def test_block_lengths_of_real_closes_are_those_of_arch(name: str, length: float) -> None:
    series = log_returns(name)
    assert block_length(series) == pytest.approx(length, rel=1e-8)
    oracle = float(optimal_block_length(series)["stationary"].iloc[0])
    assert block_length(series) == pytest.approx(oracle, rel=1e-10)


def test_absolute_returns_need_longer_blocks() -> None:
    assert block_length(np.abs(log_returns("KO"))) == pytest.approx(39.618056723, rel=1e-8)


def test_a_constant_series_has_blocks_of_one() -> None:
    assert block_length(np.full(100, 0.01)) == 1.0


def test_blocks_have_the_mean_length_and_wrap_around() -> None:
    places = resampled_places(50, 8.0, 400, seed=3)
    follows = np.diff(places, axis=1) % 50 == 1
    assert 1.0 / (1.0 - follows.mean()) == pytest.approx(8.0, rel=0.1)
    assert places.min() == 0
    assert places.max() == 49


def test_too_few_observations_have_no_interval() -> None:
    found = mean_interval(np.linspace(-0.01, 0.02, 59))
    assert (found.low, found.high, found.t_statistic) == (None, None, None)
    assert found.observations == 59


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        noise = generator.standard_normal(300)
        series = np.convolve(noise, [1.0, 0.5], mode="valid")
        found = mean_interval(series, seed=trial)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.0 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval() -> None:
    series = log_returns("KO")
    assert mean_interval(series, seed=7) == mean_interval(series, seed=7)
